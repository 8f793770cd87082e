"""What each number of an audit means, and from where on it worries, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from prefdata.spec import JSON

__all__ = ["FINDINGS", "finding_lines", "measure_lines", "measure_words", "number", "percent", "spread_rows"]

FINDINGS = {
    "missing_text": "a side has no text",
    "blank_text": "a side is blank",
    "missing_label": "no label says which side the answer is",
    "identical_texts": "both sides have the same text",
    "identical_but_white_space": "both sides differ in white space only",
    "different_prompts": "the two sides answer different conversations",
    "tied_scores": "both sides have the same score",
    "reversed_scores": "the rejected side has the higher score",
    "thinking_on_one_side": "one side has reasoning, the other has none",
    "unfinished_thinking": "a side's reasoning has no end",
    "repeated_prompts": "an earlier row of the split has the same prompt",
    "repeated_rows": "an earlier row has the same prompt and answers",
    "contradictions": "another row prefers the opposite",
    "prompts_in_several_splits": "prompts that occur in more than one split",
    "prompt_fills_the_limit": "the prompt alone has as many tokens as the limit",
    "longer_than_the_limit": "a side has more tokens than the limit, and is cut",
    "same_after_the_cut": "what makes the sides different is cut off",
}
"""Finding → what it says of a row (of a prompt, where it says so)."""


class _Meaning(NamedTuple):
    title: str
    means: str
    least: float
    most: float
    """Between `least` and `most` nothing worries where the recipe sets no limit."""
    calm: str
    worry: str
    share: bool = True


_MEANINGS = {
    "chosen_longer": _Meaning(
        "Chosen is longer",
        "Share of pairs whose chosen answer is the longer one; one half is neutral.",
        *(0.35, 0.65),
        "Length hardly separates the two sides.",
        "A model can learn this dataset by length alone.",
    ),
    "length_difference": _Meaning(
        "Length difference",
        "Mean of chosen length less rejected length, in the rule's unit.",
        *(-500.0, 500.0),
        "The two sides are about equally long.",
        "One side is much longer: training will move the length of answers.",
        share=False,
    ),
    "score_length_correlation": _Meaning(
        "Score and length",
        "Rank correlation of score and length within a prompt; 0 is neutral.",
        *(-0.3, 0.3),
        "The scorer hardly goes by length.",
        "The scorer goes by length: correct for it, or look at the pairs with a large length difference.",
        share=False,
    ),
    "score_index_correlation": _Meaning(
        "Score and number",
        "Rank correlation of score and the answer's number within a source; 0 is neutral.",
        *(-0.1, 0.1),
        "The order of the answers does not matter.",
        "Answers are scored by their number, unless numbers follow a setting such as temperature.",
        share=False,
    ),
    "score_place_correlation": _Meaning(
        "Score and position",
        "Rank correlation of score and the position at which the judge saw the answer; 0 is neutral.",
        *(-0.1, 0.1),
        "The judge does not go by position.",
        "The judge favours a position.",
        share=False,
    ),
    "source_bias_chosen": _Meaning(
        "Source of the chosen",
        "Largest difference between a source's share of the chosen answers and its share of all answers.",
        *(0.0, 0.3),
        "No source is chosen far more often than it answers.",
        "One source dominates the chosen side: its style is what training learns.",
    ),
    "source_bias_rejected": _Meaning(
        "Source of the rejected",
        "Largest difference between a source's share of the rejected answers and its share of all answers.",
        *(0.0, 0.3),
        "No source is rejected far more often than it answers.",
        "One source dominates the rejected side: its style is what training unlearns.",
    ),
    "tied_chosen": _Meaning(
        "Ties for the chosen",
        "Share of pairs where several answers had the chosen one's first key.",
        *(0.0, 0.5),
        "Most winners are winners by their score.",
        "In most pairs the score did not single out the chosen answer; a later key did.",
    ),
    "tied_rejected": _Meaning(
        "Ties for the rejected",
        "Share of pairs where several answers had the rejected one's first key.",
        *(0.0, 0.5),
        "Most rejected answers are picked by their score.",
        "In most pairs the score did not single out the rejected answer; a later key did.",
    ),
    "tied_top": _Meaning(
        "Shared greatest score",
        "Share of prompts whose greatest score several answers have, whatever the rule.",
        *(0.0, 0.5),
        "The scorer tells the best answers apart.",
        "The scorer's scale is too coarse at the top.",
    ),
    "tied_bottom": _Meaning(
        "Shared least score",
        "Share of prompts whose least score several answers have, whatever the rule.",
        *(0.0, 0.5),
        "The scorer tells the worst answers apart.",
        "The scorer's scale is too coarse at the bottom.",
    ),
    "all_tied": _Meaning(
        "All scores equal",
        "Share of prompts whose answers all have one score; they give no pair.",
        *(0.0, 0.1),
        "Few prompts are lost to equal scores.",
        "Many prompts are lost because the scorer sees no difference.",
    ),
    "repeated_texts": _Meaning(
        "Repeated answers",
        "Share of answers whose text is another answer's to the same prompt.",
        *(0.0, 0.1),
        "Answers differ.",
        "Sampling gives the same text again: raise the temperature, or ask for fewer answers.",
    ),
    "reasoning_on_one_side": _Meaning(
        "Reasoning on one side",
        "Share of pairs where one text begins with reasoning and the other does not.",
        *(0.0, 0.05),
        "Both sides are of one kind.",
        "Training would learn whether to reason, not how to answer.",
    ),
    "unscored": _Meaning(
        "Without a score",
        "Share of answers that the scorer gave no score.",
        *(0.0, 0.05),
        "Nearly every answer has a score.",
        "Many answers were never in the running: look at the reasons.",
    ),
    "white_space_only": _Meaning(
        "White space only",
        "Share of pairs whose sides differ in white space only.",
        *(0.0, 0.0),
        "No pair differs in white space only.",
        "Such pairs teach nothing about answers.",
    ),
}


def measure_lines(audit: Mapping[str, Any]) -> list[JSON]:
    """Describes every measure of an `audit.json` that has a value, with the recipe's limits.

    Returns:
        `title`, `shown`, `means`, `state` (`good`, `worry` or `over`), `says`, `limit`.
    """
    limits: dict[str, list[Mapping[str, Any]]] = {}
    for limit in audit.get("limits") or ():
        limits.setdefault(str(limit.get("measure")), []).append(limit)
    lines = []
    for name, value in (audit.get("measures") or {}).items():
        meaning = _MEANINGS.get(name)
        if meaning is not None and isinstance(value, int | float):
            lines.append(_line(meaning, value, limits.get(name, [])))
    return lines


def measure_words(name: str, value: object) -> str:
    """Writes the value of a measure as people read it: a share as a percentage."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "-" if value is None else str(value)
    return _shown(value, name in _MEANINGS and _MEANINGS[name].share)


def _line(meaning: _Meaning, value: float, limits: Sequence[Mapping[str, Any]]) -> JSON:
    crossed = [limit for limit in limits if not limit.get("holds", True)]
    calm = meaning.least <= value <= meaning.most
    state = "over" if crossed else "good" if calm or limits else "worry"
    says = meaning.calm if calm else meaning.worry
    words = "; ".join(_bounds(limit, meaning.share) for limit in limits)
    return {
        "title": meaning.title,
        "shown": _shown(value, meaning.share),
        "means": meaning.means,
        "state": state,
        "says": says if not crossed else f"It crosses the recipe's limit. {meaning.worry}",
        "limit": words or None,
    }


def _bounds(limit: Mapping[str, Any], share: bool) -> str:
    found = (("at least", limit.get("at_least")), ("at most", limit.get("at_most")))
    return " and ".join(f"{word} {_shown(bound, share)}" for word, bound in found if bound is not None)


def _shown(value: float, share: bool) -> str:
    return percent(value) if share else f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """Writes a share between 0 and 1 for people."""
    return "-" if share is None else f"{100 * share:.1f} %"


def number(value: float | None) -> str:
    """Writes a number for people."""
    return "-" if value is None else f"{value:,.4g}"


def spread_rows(lengths: Mapping[str, Mapping[str, float]], margins: Mapping[str, float]) -> list[tuple[object, ...]]:
    """Gives the rows of a table of how lengths and margins are spread, its heading first; what is unknown has none."""
    spreads = {**{f"length, {side}": points for side, points in lengths.items()}, "margin": margins}
    rows = [(name, *points.values()) for name, points in spreads.items() if points]
    return [("per pair", "mean", "p10", "p50", "p90"), *rows]


def finding_lines(findings: Mapping[str, int], rows: int) -> list[JSON]:
    """Describes what `prefdata audit` counts in any table, as `measure_lines` does."""
    return [
        {
            "title": name.replace("_", " ").capitalize(),
            "shown": f"{count:,}",
            "means": f"Rows of which this is true: {FINDINGS[name]}.",
            "state": "worry" if count else "good",
            "says": f"{percent(count / rows)} of the rows." if count and rows else "None.",
            "limit": None,
        }
        for name, count in findings.items()
    ]
