"""Computes a ranker's comparisons from log-odds, and its scores from the comparisons alone."""

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
    """Computes comparisons and scores of one prompt.

    A candidate's score is the sum of its log-odds against the others, minus the log-odds of the others against it,
    divided by the number of candidates that could be read, itself included.

    Args:
        answers: the prompt and its candidates.
        failures: for each candidate, the slug of why it could not be read; None if it could.
        pairs: indices of the candidates that are compared, in the order in which the ranker read them.
        log_odds: of pairs of candidates that could be read. A value that is None or missing was not finite, which
            leaves both candidates unscored.
        details: of the scores, one for each candidate.
    """
    candidates, read = answers.candidates, failures.count(None)
    odds_of: list[list[float]] = [[] for _ in candidates]
    reasons = list(failures)
    comparisons = []
    for i, j in pairs:
        failure = failures[i] or failures[j]
        odds = None if failure else log_odds.get((i, j))
        undecided = failure or ("not_finite" if odds is None else None)
        comparisons.append(_comparison(candidates[i], candidates[j], odds, undecided))
        if odds is not None:
            odds_of[i].append(odds)
            odds_of[j].append(-odds)
        elif not failure:
            reasons[i] = reasons[j] = "not_finite"
    scores = [
        Score(one.prompt_id, one.source, one.index, None if reason else math.fsum(odds) / read, reason, detail)
        for one, odds, reason, detail in zip(candidates, odds_of, reasons, details, strict=True)
    ]
    return Scored(answers.prompt.prompt_id, tuple(scores), tuple(comparisons))


def recompute_ranking(
    answers: Answers, failures: Sequence[str | None], pairs: Iterable[tuple[int, int]], recorded: Scored
) -> Scored:
    """Computes `ranked` from the log-odds in a ranker's recorded comparisons; see `Scorer.recompute`."""
    position = {(one.source, one.index): i for i, one in enumerate(answers.candidates)}
    log_odds = {
        (position[one.source_a, one.index_a], position[one.source_b, one.index_b]): one.log_odds
        for one in recorded.comparisons
    }
    return ranked(answers, failures, pairs, log_odds, [""] * len(position))


def _comparison(a: Candidate, b: Candidate, log_odds: float | None, undecided: str | None) -> Comparison:
    """Returns the comparison of a with b: its log-odds and their sigmoid, or the slug of why it has none."""
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
    """Computes 1 / (1 + exp(-x)), without overflow for any finite x."""
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1 + odds)
