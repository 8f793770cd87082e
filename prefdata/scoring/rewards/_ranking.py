"""What a ranker makes of the log-odds of its candidates: comparisons, and scores from these alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from prefdata.records import Answers, Candidate, Comparison, Score, Scored

__all__ = ["ranked", "recompute_ranking"]


def ranked(
    answers: Answers,
    failures: Sequence[str | None],
    pairs: Iterable[tuple[int, int]],
    log_odds: Mapping[tuple[int, int], float | None],
    details: Sequence[str],
) -> Scored:
    """Comparisons and scores of one prompt.

    A candidate's score is the sum of its log-odds against the others, those of the others against it with the other
    sign among them, divided by the number of candidates that were read, itself included.

    Args:
        answers: the prompt and its candidates.
        failures: for each candidate, why it could not be read; None of those that were.
        pairs: places of the candidates that are compared, in the order that they were seen in.
        log_odds: of pairs of candidates that were read; what is None, or missing, was not finite, which leaves both
            candidates unscored.
        details: of the scores.
    """
    candidates, read = answers.candidates, failures.count(None)
    met: list[list[float]] = [[] for _ in candidates]
    reasons = list(failures)
    comparisons = []
    for i, j in pairs:
        failure = failures[i] or failures[j]
        odds = None if failure else log_odds.get((i, j))
        undecided = failure or ("not_finite" if odds is None else None)
        comparisons.append(_compared(candidates[i], candidates[j], odds, undecided))
        if odds is not None:
            met[i].append(odds)
            met[j].append(-odds)
        elif not failure:
            reasons[i] = reasons[j] = "not_finite"
    scores = [
        Score(one.prompt_id, one.source, one.index, None if reason else math.fsum(mine) / read, reason, detail)
        for one, mine, reason, detail in zip(candidates, met, reasons, details, strict=True)
    ]
    return Scored(answers.prompt.prompt_id, tuple(scores), tuple(comparisons))


def recompute_ranking(
    answers: Answers, failures: Sequence[str | None], pairs: Iterable[tuple[int, int]], said: Scored
) -> Scored:
    """What `ranked` makes of the log-odds in the comparisons that a ranker gave; see `Scorer.recompute`."""
    places = {(one.source, one.index): place for place, one in enumerate(answers.candidates)}
    log_odds = {
        (places[found.source_a, found.index_a], places[found.source_b, found.index_b]): found.log_odds
        for found in said.comparisons
    }
    return ranked(answers, failures, pairs, log_odds, [""] * len(places))


def _compared(a: Candidate, b: Candidate, log_odds: float | None, undecided: str | None) -> Comparison:
    """The comparison of a with b: its log-odds with their sigmoid, or why there are none."""
    return Comparison(
        prompt_id=a.prompt_id,
        source_a=a.source,
        index_a=a.index,
        source_b=b.source,
        index_b=b.index,
        probability=None if log_odds is None else _sigmoid(log_odds),
        log_odds=log_odds,
        undecided=undecided,
    )


def _sigmoid(log_odds: float) -> float:
    """1 / (1 + exp(-x)), without overflow for any finite x."""
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1 + odds)
