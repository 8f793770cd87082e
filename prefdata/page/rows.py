"""What the page shows of one pair or dropped prompt, whatever kind of dataset it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prefdata.tables.digest import same_but_white_space
from prefdata.tables.reasoning import parts_of

__all__ = ["Answer", "Match", "PageRow", "pair_values", "preview"]

_PREVIEW = 80


class Answer(NamedTuple):
    """One answer to a prompt."""

    source: str | None
    number: int | None
    """The answer's index within its source."""
    model: str | None
    text: str | None
    score: float | None = None
    length: int | None = None
    """In the rule's unit, or in Unicode code points of the answer without its reasoning."""
    finish: str | None = None
    note: str | None = None
    """Why it could not be picked."""
    words: str | None = None
    """What a judge said of it."""
    reasoning: str | None = None
    seed: int | None = None


class Match(NamedTuple):
    """One comparison of two answers, by their positions."""

    first: int
    second: int
    probability: float | None
    undecided: str | None
    words: str | None


@dataclass
class PageRow:
    """One line of the page's list."""

    prompt_id: str
    turns: Sequence[tuple[str, str]]
    """Role and text of each turn of the prompt; empty where the texts are not known."""
    answers: Sequence[Answer] = ()
    chosen: int | None = None
    """Position of the chosen answer."""
    rejected: int | None = None
    outcome: str = "pair"
    """`pair`, or the reason of a drop, or what an evaluation found."""
    pair_index: int = 0
    detail: str = ""
    """Of a drop."""
    stage: str = ""
    """The stage that dropped it."""
    values: dict[str, float | str | None] = field(default_factory=dict)
    """Column → value: see `prefdata.page.columns`."""
    flags: list[str] = field(default_factory=list)
    why: Mapping[str, Any] = field(default_factory=dict)
    """How the rule decided: ties, deciding keys, numbers of candidates."""
    matches: Sequence[Match] = ()

    def side(self, which: int | None) -> Answer | None:
        """Gives the answer at a position."""
        return None if which is None else self.answers[which]

    def match_key(self) -> bytes:
        """Names the prompt in any dataset: by its texts, or by its id where these are not known."""
        what = [part for turn in self.turns for part in (turn[0] or "user", turn[1].strip())] or [self.prompt_id]
        return _digest("\0".join([*what, str(self.pair_index)]))

    def texts_key(self) -> tuple[bytes, bytes]:
        """Names the texts of both sides."""
        sides = (self.side(self.chosen), self.side(self.rejected))
        one, other = (_digest("" if side is None else side.text or "") for side in sides)
        return one, other


def preview(turns: Sequence[tuple[str, str]], otherwise: str) -> str:
    """Gives the beginning of what the user asked last, in one line."""
    asked = [text for role, text in turns if role != "assistant"]
    text = asked[-1] if asked else otherwise
    return " ".join(text[: 4 * _PREVIEW].split())[:_PREVIEW]


def pair_values(row: PageRow) -> None:
    """Fills the columns and flags that follow from the two sides, where nothing else has."""
    sides = (row.side(row.chosen), row.side(row.rejected))
    for side, answer in zip(("chosen", "rejected"), sides, strict=True):
        if answer is not None:
            row.values.setdefault(f"score_{side}", answer.score)
            row.values.setdefault(f"source_{side}", answer.source)
            row.values.setdefault(f"length_{side}", answer.length)
    chosen, rejected = (row.values.get(f"length_{side}") for side in ("chosen", "rejected"))
    if isinstance(chosen, int | float) and isinstance(rejected, int | float):
        row.values.setdefault("length_difference", chosen - rejected)
    scores = [row.values.get(f"score_{side}") for side in ("chosen", "rejected")]
    if isinstance(scores[0], int | float) and isinstance(scores[1], int | float):
        row.values.setdefault("margin", scores[0] - scores[1])
        if scores[0] <= scores[1]:
            row.flags.append("tied scores" if scores[0] == scores[1] else "reversed scores")
    row.flags += _flags([answer for answer in sides if answer is not None])


def _flags(sides: Sequence[Answer]) -> Iterable[str]:
    texts = [answer.text or "" for answer in sides]
    if any(not text.strip() for text in texts):
        yield "blank"
    if any(answer.finish == "length" for answer in sides):
        yield "cut off"
    if len(sides) == 2:
        if texts[0] == texts[1]:
            yield "same text"
        elif same_but_white_space(*texts):
            yield "white space only"
    parts = [parts_of(text) for text in texts]
    if any(part.answer is None for part in parts):
        yield "reasoning without end"
    if len(parts) == 2 and parts[0].reasoned != parts[1].reasoned:
        yield "reasoning on one side"


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
