"""Draws how each pair rule picks: `pictures/KIND.svg`, from what the rule itself does with a few candidates.

Run it after a change of a rule::

    python docs/pictures.py
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from html import escape
from math import log
from pathlib import Path

from prefdata import code_allowed
from prefdata.lazy import pl
from prefdata.pairing import (
    DNO,
    GPO,
    SPPO,
    BestVsWorst,
    ByComparisons,
    CustomRule,
    FromSource,
    Highest,
    NearestLength,
    PairRule,
    PythonRule,
    Selection,
    SnorkelPairRM,
    TopKVsBottomK,
    UltraFeedbackBinarized,
    WPOHybridV1,
    WPOHybridV2,
)
from prefdata.pairing.words import rule_words
from prefdata.records import SIDES

FOLDER = Path(__file__).parent / "pictures"
Point = tuple[str, int, float | None, int, str]
"""Source, index, score, length, finish reason."""

JUDGED: tuple[Point, ...] = (
    ("policy", 0, 6.0, 170, "stop"),
    ("policy", 1, 6.0, 95, "stop"),
    ("policy", 2, 3.0, 60, "stop"),
    ("policy", 3, 1.0, 70, "stop"),
    ("policy", 4, 1.0, 110, "stop"),
    ("policy", 5, 4.0, 185, "length"),
    ("policy", 6, None, 55, "stop"),
    ("teacher", 0, 5.0, 145, "stop"),
)
"""Scores of a judge, which tie at both ends; one answer was cut off, one could not be scored."""
RANKED: tuple[Point, ...] = (
    ("policy", 0, 0.3, 120, "stop"),
    ("policy", 1, 1.6, 165, "stop"),
    ("policy", 2, -1.1, 75, "stop"),
    ("policy", 3, 0.9, 90, "stop"),
    ("policy", 4, -1.7, 140, "stop"),
)
"""Mean scores of a ranker."""
BEATS = (
    (0.5, 0.4, 0.8, 0.6, 0.7),
    (0.6, 0.5, 0.9, 0.3, 0.8),
    (0.2, 0.1, 0.5, 0.4, 0.6),
    (0.4, 0.7, 0.6, 0.5, 0.9),
    (0.3, 0.2, 0.4, 0.1, 0.5),
)
"""P(answer of the row beats answer of the column): 0 loses to 1, 1 to 3, and 3 to 0."""
RULES: tuple[tuple[PairRule, tuple[Point, ...]], ...] = (
    (WPOHybridV2(), JUDGED),
    (WPOHybridV1(), JUDGED),
    (BestVsWorst(), JUDGED),
    (UltraFeedbackBinarized(), JUDGED),
    (DNO(teacher=("teacher",)), JUDGED),
    (TopKVsBottomK(k=2), JUDGED),
    (
        CustomRule(
            chosen=Selection(among=(FromSource(sources=("teacher",)),), by=(Highest(),)),
            rejected=Selection(by=(NearestLength(),)),
        ),
        JUDGED,
    ),
    (PythonRule(path="pictures:teacher_against_longest"), JUDGED),
    (SnorkelPairRM(), RANKED),
    (SPPO(), RANKED),
    (GPO(), RANKED),
    (ByComparisons(ranking="win_rate"), RANKED),
)

_WIDTH, _LEFT, _TOP, _ROOM = 720, 60, 50, 230
_CHOSEN, _REJECTED, _OTHER, _UNFIT = "#1a7f37", "#b3446c", "#57606a", "#8c959f"


def teacher_against_longest(eligible: pl.DataFrame) -> tuple[pl.Expr, pl.Expr]:
    """Takes the best answer of the teacher against the longest other one: the rule of docs/add-a-rule.md."""
    chosen = pl.when(pl.col("source") == "teacher").then(-pl.col("score"))
    return chosen, -pl.col("length").cast(pl.Int64)


def pictures() -> dict[str, str]:
    """Returns file name → text of every picture."""
    with code_allowed(Path(__file__).parent):
        return {f"{rule.dump()['kind']}.svg": picture(rule, points) for rule, points in RULES}


def picture(rule: PairRule, points: Sequence[Point]) -> str:
    """Lets a rule decide about some candidates, and draws what it did."""
    frame = candidates(points)
    compared = comparisons(points)
    paired = rule.pair(frame, comparisons=compared if rule.needs_comparisons() else None)
    scores = rule.scores_of(compared) if rule.needs_comparisons() else frame
    value = {(source, index): score for source, index, score in named(scores, "score")}
    unfit = {(source, index): reason for source, index, reason in named(paired.ineligible, "reason")}
    pairs = paired.pairs.rows(named=True)
    place = placed(points, value)
    parts = [*axes(list(place.values()), "win rate" if rule.needs_comparisons() else "score")]
    sides = {side: [(pair[f"source_{side}"], pair[f"index_{side}"]) for pair in pairs] for side in SIDES}
    for chosen, rejected in zip(*sides.values(), strict=True):
        (x, y), (to_x, to_y) = place[chosen][:2], place[rejected][:2]
        parts.append(f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" stroke="#d0d7de" stroke-width="1.5"/>')
    for name, (x, y, _, _) in place.items():
        parts += mark(name, x, y, unfit.get(name), [side for side in sides if name in sides[side]])
    lines = [line for text in (rule_words(rule), *outcomes(pairs, rule)) for line in textwrap.wrap(text, 108)]
    return svg(str(rule.dump()["kind"]), lines, parts)


def candidates(points: Iterable[Point]) -> pl.DataFrame:
    """Makes candidates of one prompt; their texts differ and have the lengths given."""
    columns = ("source", "index", "score", "length", "finish_reason")
    frame = pl.DataFrame(list(points), schema=columns, orient="row")
    texts = [f"{source} {index} ".ljust(length, "x") for source, index, _, length, _ in points]
    return frame.drop("length").with_columns(prompt_id=pl.lit("p"), response=pl.Series(texts))


def comparisons(points: Sequence[Point]) -> pl.DataFrame:
    """Makes a comparison of every two of the candidates, as many as `BEATS` has."""
    rows = [
        ("p", *points[a][:2], *points[b][:2], BEATS[a][b], log(BEATS[a][b] / (1 - BEATS[a][b])))
        for a in range(len(BEATS))
        for b in range(a)
    ]
    columns = ("prompt_id", "source_a", "index_a", "source_b", "index_b", "probability", "log_odds")
    return pl.DataFrame(rows, schema=columns, orient="row")


def named(frame: pl.DataFrame, column: str) -> Iterable[tuple[str, int, object]]:
    """Returns source, index and one column of a table of candidates."""
    return frame.select("source", "index", column).rows()


def placed(
    points: Iterable[Point], value: dict[tuple[str, int], float | None]
) -> dict[tuple[str, int], tuple[float, float, int, float | None]]:
    """Places candidates: length to the right, score upwards; an answer without a score is below all others."""
    scores = [score for score in value.values() if score is not None]
    low, high = min(scores), max(scores)
    places = {}
    for source, index, _, length, _ in points:
        score = value[source, index]
        share = -0.2 if score is None else (score - low) / (high - low)
        places[source, index] = (across(length), _TOP + 20 + (1 - share) * (_ROOM - 70), length, score)
    return places


def across(length: int) -> float:
    """Returns where a length is on the horizontal axis."""
    return _LEFT + 20 + (length - 30) / 170 * (_WIDTH - _LEFT - 110)


def axes(places: Iterable[tuple[float, float, int, float | None]], name: str) -> list[str]:
    """Draws both axes, with a mark for each score."""
    bottom = _TOP + _ROOM
    heights = {round(score, 3): y for _, y, _, score in places if score is not None}
    parts = [f'<path d="M{_LEFT} {_TOP - 12}V{bottom}H{_WIDTH - 15}" fill="none" stroke="#888"/>']
    parts.append(text(_LEFT - 8, _TOP - 14, name, "end"))
    parts.append(text(_WIDTH - 15, bottom + 16, "length of the answer, in characters", "end"))
    for score, y in heights.items():
        parts.append(f'<path d="M{_LEFT - 4} {y:.1f}H{_LEFT}" stroke="#888"/>')
        parts.append(text(_LEFT - 8, y + 4, f"{score:.3g}", "end"))
    return [*parts, *(text(across(length), bottom + 16, str(length), "middle") for length in (50, 100, 150))]


def mark(name: tuple[str, int], x: float, y: float, unfit: str | None, sides: Sequence[str]) -> list[str]:
    """Draws one candidate: a triangle upwards if chosen, downwards if rejected, a cross if no rule may pick it."""
    shapes = []
    if "chosen" in sides:
        shapes.append(f'<path d="M{x - 8:.1f} {y + 6:.1f}h16l-8 -14z" fill="{_CHOSEN}"/>')
    if "rejected" in sides:
        shapes.append(f'<path d="M{x - 8:.1f} {y - 6:.1f}h16l-8 14z" fill="{_REJECTED}"/>')
    if unfit:
        cross = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"
        shapes.append(f'<path d="{cross}" stroke="{_UNFIT}" stroke-width="2"/>')
    elif not sides:
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{_OTHER}"/>')
    role = unfit or " and ".join(sides)
    return [*shapes, text(x, y - 13, f"{name[0]} {name[1]}{f': {role}' if role else ''}", "middle")]


def outcomes(pairs: Sequence[dict[str, object]], rule: PairRule) -> list[str]:
    """Says of each pair who won and which key decided; of many pairs only how many there are."""
    if len(pairs) > 2:
        return [f"{len(pairs)} pairs of this prompt"]
    lines = []
    for pair in pairs:
        for side in SIDES:
            tied = pair[f"n_tied_{side}"]
            lines.append(
                f"{side}: {pair[f'source_{side}']} {pair[f'index_{side}']}, score {pair[f'score_{side}']:.3g}, "
                f"{pair[f'length_{side}']} characters; {f'{tied} tied, ' if tied != 1 else ''}"
                f"decided by {pair[f'decided_{side}']}"
            )
        if extra := [f"{column} {pair[column]:.3f}" for column in rule.extra_columns()]:
            lines.append(", ".join(extra))
    return lines


def svg(title: str, lines: Sequence[str], parts: Iterable[str]) -> str:
    """Writes a picture with its words."""
    top = _TOP + _ROOM + 42
    height = top + 18 * len(lines)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-labelledby="title words" font-family="sans-serif" font-size="12"><title id="title">'
        f'How {escape(title)} picks</title><desc id="words">{escape(" ".join(lines))}</desc>'
        '<rect width="100%" height="100%" fill="white"/>'
    )
    words = [text(15, top + 18 * number, line) for number, line in enumerate(lines)]
    return "\n".join([head, *parts, *words, "</svg>"]) + "\n"


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Writes a line of text."""
    # A white rim keeps words apart from the lines under them.
    look = f'text-anchor="{anchor}" fill="#1f2328" stroke="white" stroke-width="3" paint-order="stroke"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(words)}</text>'


def main() -> None:
    """Writes all pictures."""
    FOLDER.mkdir(exist_ok=True)
    made = pictures()
    for name, drawn in made.items():
        (FOLDER / name).write_text(drawn, encoding="utf-8")
    sys.stdout.write(f"{len(made)} pictures in {FOLDER}\n")


if __name__ == "__main__":
    main()
