"""The named rules on arrays: what `PairRule.pair` decides, for prompts that are clean, without a table of texts.

A prompt is clean when every one of its answers is eligible. For all others, and wherever this module is not sure,
`PairRule.pair` itself is asked, so it alone defines what a rule means.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from numpy.typing import NDArray

from prefdata.lazy import np, pa
from prefdata.pairing import (
    BelowChosen,
    BestVsWorst,
    CustomRule,
    Highest,
    Longest,
    Lowest,
    NearestLength,
    PairLimits,
    PairRule,
    Random,
    ScoreAtLeast,
    Selection,
    Shortest,
    SnorkelPairRM,
    UltraFeedbackBinarized,
    WPOHybridV1,
    WPOHybridV2,
)
from prefdata.spec import derive_seed

__all__ = ["Answers", "Picks", "Side", "can_select", "pick", "reachable"]

_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]

_RULES = (WPOHybridV2, WPOHybridV1, BestVsWorst, SnorkelPairRM, UltraFeedbackBinarized, CustomRule)
_STEPS = (Highest, Lowest, Shortest, Longest, NearestLength, Random, ScoreAtLeast, BelowChosen)
_OPTIONS = {"kind", "length", "admit", "label", "threshold", "margin", "seed"}
_OPTIONS |= {"chosen", "rejected", "n_chosen", "n_rejected"}


@dataclass(frozen=True)
class Answers:
    """Answers of some prompts, those of one prompt in one run of rows."""

    prompt_ids: pa.Array
    """One a run."""
    starts: _Ints
    """Where each run starts."""
    run: _Ints
    """The run of each row."""
    text: pa.Array
    words: NDArray[np.uint64]
    """`prefdata.streaming.digest.text_words` of the texts."""
    score: NDArray[np.float64]
    length: _Ints
    """In the rule's unit."""
    n_bytes: _Ints
    place: _Ints
    """Rank of each row in the total order of all rows (run, source, index)."""
    ambiguous: _Flags
    """Runs in which source and index don't tell all rows apart."""

    @property
    def sizes(self) -> _Ints:
        """The number of rows of each run."""
        return np.diff(np.append(self.starts, len(self.run)))


@dataclass(frozen=True)
class Side:
    """The winner of each run; what is said of a run without one means nothing."""

    row: _Ints
    n_tied: _Ints
    decided: _Ints
    """Index into `words`."""
    words: list[str]
    found: _Flags
    sure: _Flags


@dataclass(frozen=True)
class Picks:
    """Both sides of each run, and which runs have a pair for sure."""

    chosen: Side
    rejected: Side
    certain: _Flags
    flat: _Flags
    """Runs without a pair under any rule, since all rows are eligible and have one score."""


def can_select(rule: PairRule) -> bool:
    """Whether `pick` knows every word of the rule."""
    if type(rule) not in _RULES or not type(rule).model_fields.keys() <= _OPTIONS:
        return False
    if rule.extra_columns() or rule.take() != PairLimits() or rule.length == "words":
        return False
    steps = [step for selection in rule.selections() for step in (*selection.among, *selection.by)]
    known = all(type(selection).model_fields.keys() == {"among", "by"} for selection in rule.selections())
    return known and all(type(step) in _STEPS for step in steps)


def pick(rule: PairRule, answers: Answers, eligible: _Flags) -> Picks:
    """Both sides of every run, among the eligible rows."""
    chosen_by, rejected_by = rule.selections()
    chosen = _best(chosen_by, answers, eligible, None)
    lower = eligible & (answers.score < answers.score[chosen.row][answers.run]) & chosen.found[answers.run]
    other = chosen.row[answers.run]
    # Whether texts of one length and one hash are the same is for those to say who read them.
    same = lower & (answers.n_bytes == answers.n_bytes[other]) & (answers.words == answers.words[other])
    rejected = _best(rejected_by, answers, lower, chosen.row)
    certain = chosen.found & rejected.found & chosen.sure & rejected.sure
    certain &= ~np.logical_or.reduceat(same, answers.starts)
    every = np.logical_and.reduceat(eligible, answers.starts)
    low, high = (way.reduceat(answers.score, answers.starts) for way in (np.minimum, np.maximum))
    return Picks(chosen, rejected, certain, every & (low == high))


def reachable(rule: PairRule, starts: _Ints, run: _Ints, score: NDArray[np.float64]) -> _Flags:
    """Rows that `pick` may name as far as scores tell, where all are eligible; a few that it can't may be among them.

    Args:
        rule: one that `can_select` knows.
        starts: where each run starts.
        run: of each row.
        score: of each row.
    """
    chosen_by, rejected_by = rule.selections()
    chosen = _in_reach(chosen_by, np.ones(len(run), bool), starts, run, score, score)
    top = np.maximum.reduceat(np.where(chosen, score, -np.inf), starts)[run]
    low = np.minimum.reduceat(np.where(chosen, score, np.inf), starts)[run]
    pool = score < top
    # Without knowing the score of the chosen one, nobody knows who is left below it.
    return chosen | (_in_reach(rejected_by, pool, starts, run, score, top) if (low >= top).all() else pool)


def _in_reach(
    selection: Selection,
    pool: _Flags,
    starts: _Ints,
    run: _Ints,
    score: NDArray[np.float64],
    chosen: NDArray[np.float64],
) -> _Flags:
    tied = pool.copy()
    for admission in selection.among:
        tied &= _admits(admission, score, chosen)
    for key in takewhile(lambda key: isinstance(key, Highest | Lowest), selection.by):
        value = np.where(tied, -score if isinstance(key, Highest) else score, np.inf)
        tied &= value == np.minimum.reduceat(value, starts)[run]
    return tied


def _best(selection: Selection, answers: Answers, pool: _Flags, chosen: _Ints | None) -> Side:
    starts, run = answers.starts, answers.run
    tied = pool.copy()
    for admission in selection.among:
        tied &= _admits(admission, answers.score, None if chosen is None else answers.score[chosen][run])
    found = np.logical_or.reduceat(tied, starts)
    sure = np.ones(len(starts), bool)
    counts = []
    for key in selection.by:
        if isinstance(key, Random):
            sure &= ~answers.ambiguous
        value = np.where(tied, _values(key, answers, tied, chosen), np.inf)
        tied &= value == np.minimum.reduceat(value, starts)[run]
        counts.append(np.add.reduceat(tied, starts, dtype=np.int64))
    decided = np.full(len(starts), len(counts), np.int64)
    for number in range(len(counts) - 1, -1, -1):
        decided[counts[number] == 1] = number
    sure &= (counts[-1] == 1) | ~answers.ambiguous
    first = np.minimum.reduceat(np.where(tied, answers.place, len(run)), starts)
    by_place = np.empty(len(run) + 1, np.int64)
    by_place[answers.place] = np.arange(len(run))
    by_place[len(run)] = 0
    words = [*(key.kind for key in selection.by), "order"]
    return Side(by_place[first], counts[0], decided, words, found, sure)


def _admits(admission: Any, score: NDArray[np.float64], chosen: NDArray[np.float64] | None) -> _Flags:
    """Which rows are admitted, by their scores and by those of the chosen rows of their runs."""
    if isinstance(admission, ScoreAtLeast):
        return np.asarray(score >= admission.value)
    assert isinstance(admission, BelowChosen) and chosen is not None
    return np.asarray(score <= chosen - admission.margin)


def _values(key: Any, answers: Answers, tied: _Flags, chosen: _Ints | None) -> NDArray[Any]:
    if isinstance(key, Highest):
        return -answers.score
    if isinstance(key, Lowest):
        return answers.score
    if isinstance(key, Random):
        return _drawn(key, answers, tied)
    sign = {Shortest: 1, Longest: -1}.get(type(key))
    if sign is not None:
        return sign * answers.length
    assert isinstance(key, NearestLength) and chosen is not None
    return np.asarray(np.abs(answers.length - answers.length[chosen][answers.run]))


def _drawn(key: Random, answers: Answers, tied: _Flags) -> _Ints:
    """0 for the drawn row of each run: see `Random.values`."""
    order = np.argsort(answers.place, kind="stable")
    rows = order[tied[order]]
    run = answers.run[rows]
    sizes = np.bincount(run, minlength=len(answers.starts))
    firsts = np.cumsum(sizes) - sizes
    draws = np.array([derive_seed("pair", key.seed, name) for name in answers.prompt_ids.to_pylist()], np.int64)
    values = np.zeros(len(tied), np.int64)
    values[rows] = (np.arange(len(rows)) - firsts[run] - draws[run]) % np.maximum(sizes[run], 1)
    return values
