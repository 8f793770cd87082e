"""`replay`: does a rule make the pairs of a published dataset from the answers and scores that stand beside them?

Every row is judged by itself, also where a prompt comes twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from prefdata.code import allowing_code
from prefdata.errors import InputError
from prefdata.inspection.published import Published, read_published
from prefdata.lazy import pl
from prefdata.pairing import LengthUnit, PairRule, PythonRule, Selection
from prefdata.pairing.algebra import PairLimits
from prefdata.recipe import as_rule, folder_of
from prefdata.spec import JSON

__all__ = ["Replay", "replay"]

_BLOCK = 2_000
_LENGTH: dict[str, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "bytes": lambda text: len(text.encode()),
}
_SIDES = ("chosen", "rejected")


@dataclass
class Replay:
    """How much of a published dataset a rule reproduces."""

    table: str
    rule: str
    quirks: bool
    pairs: int = 0
    """Published pairs."""
    reproduced: int = 0
    """Those whose two texts are the rule's."""
    classes: dict[str, int] = field(default_factory=dict)
    """Why the others are not: class → pairs. Each pair has one class; `docs/replay.md` explains them."""
    dropped: dict[str, int] = field(default_factory=dict)
    """The class `rule_drops` by the rule's reason."""
    examples: dict[str, list[JSON]] = field(default_factory=dict)
    """Class → a few pairs of it."""

    @property
    def share(self) -> float | None:
        """Reproduced pairs among all, None without pairs."""
        return self.reproduced / self.pairs if self.pairs else None


class _Pick(NamedTuple):
    """A candidate that a rule picked."""

    text: str
    score: float


_Picks = Mapping[str, Sequence[tuple[_Pick, _Pick]]]


def replay(
    table: str | PathLike[str],
    rule: PairRule | str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    length: LengthUnit | None = None,
    split: str | None = None,
    quirks: bool = False,
    examples: int = 3,
    allow_code: bool = False,
) -> Replay:
    """Applies a rule to the answers of a published dataset and compares with its pairs.

    Args:
        table: a Parquet, JSON lines or CSV file, the folder of a dataset, or `OWNER/NAME[@REVISION]` of the Hub.
        rule: the rule to try, its name, or a JSON file: see `prefdata.recipe.as_rule`.
        columns: role → name of the column, where it is not the usual one.
        length: the unit of length of a rule that is named; left out, characters.
        split: which split of a folder; left out, `train` or else the first.
        quirks: pairs as the published scripts do (see `docs/replay.md`): first index on ties, and a pair also where
            texts are identical or scores equal.
        examples: how many pairs of each class are reported.
        allow_code: run a rule that is Python code.

    Raises:
        InputError: the table can't be read as such a dataset.
    """
    with allowing_code(allow_code, folder_of(rule)):
        return _replayed(table, as_rule(rule, length), columns, split, quirks, examples)


def _replayed(
    table: str | PathLike[str],
    rule: PairRule,
    columns: Mapping[str, str] | None,
    split: str | None,
    quirks: bool,
    examples: int,
) -> Replay:
    if quirks and (isinstance(rule, PythonRule) or rule.take() != PairLimits()):
        raise InputError(
            f"the rule {rule.dump()['kind']!r} is not an argmax and argmin, so it has no published quirks",
            valid="a rule that picks one chosen and one rejected answer by keys",
            hint="leave --quirks out",
        )
    report = Replay(str(table), str(rule.identity()["kind"]), quirks)
    rows = read_published(table, columns=columns, split=split)
    while block := list(islice(rows, _BLOCK)):
        for wave in _waves(block):
            picks, drops = _quirky(rule, wave) if quirks else _paired(rule, wave)
            for published in wave:
                _judge(report, rule, published, picks, drops, examples)
    report.classes = dict(sorted(report.classes.items()))
    report.dropped = dict(sorted(report.dropped.items()))
    report.examples = dict(sorted(report.examples.items()))
    return report


def _waves(block: Sequence[Published]) -> list[list[Published]]:
    """The rows so that no wave has a prompt twice."""
    waves: list[list[Published]] = []
    seen: Counter[str] = Counter()
    for published in block:
        number = seen[published.prompt_id]
        seen[published.prompt_id] += 1
        if number == len(waves):
            waves.append([])
        waves[number].append(published)
    return waves


def _frame(wave: Sequence[Published]) -> pl.DataFrame:
    answers = [
        (published.prompt_id, "", index, text, score)
        for published in wave
        if not published.misaligned
        for index, (text, score) in enumerate(zip(published.answers, published.scores, strict=True))
    ]
    schema: dict[str, Any] = {
        "prompt_id": pl.String,
        "source": pl.String,
        "index": pl.Int64,
        "response": pl.String,
        "score": pl.Float64,
    }
    return pl.DataFrame(answers, schema, orient="row")


def _paired(rule: PairRule, wave: Sequence[Published]) -> tuple[_Picks, dict[str, str]]:
    """What the rule picks, and why it picks nothing."""
    paired = rule.pair(_frame(wave), [published.prompt_id for published in wave])
    picks: dict[str, list[tuple[_Pick, _Pick]]] = {}
    for row in paired.pairs.iter_rows(named=True):
        chosen, rejected = (_Pick(row[f"response_{side}"], row[f"score_{side}"]) for side in _SIDES)
        picks.setdefault(row["prompt_id"], []).append((chosen, rejected))
    return picks, dict(paired.drops.select("prompt_id", "reason").iter_rows())


def _quirky(rule: PairRule, wave: Sequence[Published]) -> tuple[_Picks, dict[str, str]]:
    """What the rule's selections pick when the first index wins ties and nothing else keeps a pair back.

    Sources: argmax and argmin over `all_rm_scores` in SimPO's on_policy_data_gen/reward_model_annotate.py and over
    `rm_scores` in SPPO's scripts/compute_prob.py; NumPy and PyTorch give the first index on ties, neither script looks
    at texts, and with all scores equal both sides are index 0.
    """
    chosen_by, rejected_by = rule.selections()
    frame = _frame(wave).filter(pl.col("score").is_not_null() & pl.col("response").is_not_null())
    lengths = pl.Series([_LENGTH[rule.length](text) for text in frame["response"]], dtype=pl.Int64)
    scores = pl.col("score")
    frame = frame.with_columns(
        length=lengths,
        quantile=scores.rank("max").over("prompt_id") / pl.len().over("prompt_id"),
        model=pl.lit(None, pl.String),
        finish_reason=pl.lit("unknown"),
    ).sort("prompt_id", "index")
    chosen = _first(frame, chosen_by)
    seen = [pl.col(name).alias(f"chosen_{name}") for name in ("score", "length", "response", "source")]
    against = chosen.select("prompt_id", *seen)
    rejected = _first(frame.join(against, on="prompt_id", how="inner", maintain_order="left"), rejected_by)
    both = chosen.join(rejected, on="prompt_id", how="inner", suffix="_rejected")
    picks = {
        row["prompt_id"]: [
            (_Pick(row["response"], row["score"]), _Pick(row["response_rejected"], row["score_rejected"]))
        ]
        for row in both.iter_rows(named=True)
    }
    return picks, {published.prompt_id: "no_candidate" for published in wave if published.prompt_id not in picks}


def _first(pool: pl.DataFrame, selection: Selection) -> pl.DataFrame:
    for admission in selection.among:
        pool = pool.filter(admission.admits(pool))
    for key in selection.by:
        pool = pool.with_columns(key=key.values(pool)).filter(pl.col("key") == pl.col("key").min().over("prompt_id"))
    return pool.unique("prompt_id", keep="first", maintain_order=True)


def _judge(
    report: Replay, rule: PairRule, published: Published, picks: _Picks, drops: Mapping[str, str], examples: int
) -> None:
    report.pairs += 1
    mine = picks.get(published.prompt_id, ())
    theirs = (published.chosen, published.rejected)
    if any((chosen.text, rejected.text) == theirs for chosen, rejected in mine):
        report.reproduced += 1
        return
    reason = "misaligned_scores" if published.misaligned else drops.get(published.prompt_id, "no_candidate")
    found = _class_of(rule, published, mine[0] if mine else None, report.quirks or "blank" in rule.admit)
    report.classes[found] = report.classes.get(found, 0) + 1
    if found == "rule_drops":
        report.dropped[reason] = report.dropped.get(reason, 0) + 1
    told = report.examples.setdefault(found, [])
    if len(told) < examples:
        told.append(_example(rule, published, mine[0] if mine else None, reason))


def _class_of(rule: PairRule, published: Published, mine: tuple[_Pick, _Pick] | None, admit_blank: bool) -> str:
    answers = {text for text in published.answers if text is not None}
    if published.chosen not in answers or published.rejected not in answers:
        return "not_in_candidates"
    if published.chosen == published.rejected:
        return "identical_text"
    if mine is None:
        return "rule_drops"
    if isinstance(rule, PythonRule):
        return "other"
    found = [
        f"{cause}_{side}"
        for side, selection, text, pick in zip(
            _SIDES, rule.selections(), (published.chosen, published.rejected), mine, strict=True
        )
        if pick.text != text
        and (cause := _cause(rule, published, selection, text, pick, chosen=mine[0], admit_blank=admit_blank))
    ]
    return "other" if any(name.startswith("other") for name in found) else "+".join(found)


def _cause(
    rule: PairRule,
    published: Published,
    selection: Selection,
    text: str,
    pick: _Pick,
    *,
    chosen: _Pick,
    admit_blank: bool,
) -> str:
    """Why no rule may pick the published answer, or the first key by which it is another than the picked one."""
    measure = _LENGTH[rule.length]
    scores = [score for answer, score in zip(published.answers, published.scores, strict=True) if answer == text]
    if all(score is None for score in scores) or (not text.strip() and not admit_blank):
        return "ineligible"
    for key in selection.by:
        if key.kind in ("highest", "lowest"):
            if pick.score not in scores:
                return "other"
        elif key.kind in ("shortest", "longest"):
            if measure(text) != measure(pick.text):
                return "length_key"
        elif key.kind == "nearest_length":
            target = measure(chosen.text)
            if abs(measure(text) - target) != abs(measure(pick.text) - target):
                return "length_key"
        elif key.kind == "random":
            return "random"
    return "tie"


def _example(rule: PairRule, published: Published, mine: tuple[_Pick, _Pick] | None, reason: str) -> JSON:
    told: dict[str, JSON] = {"prompt_id": published.prompt_id, "row": published.row}
    for place, (side, text) in enumerate(zip(_SIDES, (published.chosen, published.rejected), strict=True)):
        scores = [
            score
            for answer, score in zip(published.answers, published.scores, strict=False)
            if answer is not None and answer == text
        ]
        told[f"published_{side}"] = {
            "scores": scores,
            "length": None if text is None else _LENGTH[rule.length](text),
        }
        if mine is not None:
            told[f"rule_{side}"] = {"scores": [mine[place].score], "length": _LENGTH[rule.length](mine[place].text)}
    return told if mine is not None else {**told, "reason": reason}
