"""Computes facts of an ensemble's members: moments, agreement, and the preferences of each between two candidates."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeAlias

from prefdata.records import Comparison, Score, is_score
from prefdata.scoring.base import MemberScores
from prefdata.scoring.combined.agreement import kendall_tau_b, krippendorff_alpha
from prefdata.spec import JSON

__all__ = ["Name", "Preferences", "by_comparisons", "by_scores", "facts_of_members", "z_score"]

Name: TypeAlias = tuple[str, int]
"""(`source`, `index`) of a candidate."""
Preferences: TypeAlias = Mapping[tuple[Name, Name], float | str]
"""P(the first beats the second), or the slug of why a member has no preference; in both directions."""

_DIGITS = 6
"""Decimals of facts; moments are not rounded."""


def facts_of_members(names: Sequence[str], prompts: Iterable[MemberScores]) -> dict[str, JSON]:
    """Computes moments and agreement of an ensemble's members.

    Args:
        names: of the members.
        prompts: all prompts, with their scores by each member.

    Returns:
        `members`: name → `scored` (number of scores), `mean`, `sd` (of the population), `constant` (whether all scores
        are equal); the moments of a member without scores are null. `agreement`: `candidates` (number scored by at
        least two members); `alpha_interval` and `alpha_ordinal` of the scores as they are, for members of one scale;
        `alpha_interval_z` of the z-scores, for any members; `kendall_tau_b`: for each two members the `mean` of tau-b
        within prompts, and the number of `prompts` in which both rank. Values that are not defined are null.
    """
    ratings: dict[str, list[float | None]] = {name: [] for name in names}
    taus: dict[tuple[str, str], list[float]] = defaultdict(list)
    for answers, scored in prompts:
        of_prompt = {name: {(s.source, s.index): s.score for s in scored[name].scores} for name in names}
        for candidate in answers.candidates:
            for name in names:
                ratings[name].append(of_prompt[name][candidate.source, candidate.index])
        for one, other in combinations(names, 2):
            both = [
                (x, y)
                for key, x in of_prompt[one].items()
                if x is not None and (y := of_prompt[other][key]) is not None
            ]
            if (tau := kendall_tau_b([x for x, _ in both], [y for _, y in both])) is not None:
                taus[one, other].append(tau)
    members = {name: _moments([score for score in ratings[name] if score is not None]) for name in names}
    z = [[None if score is None else z_score(score, members[name]) for score in ratings[name]] for name in names]
    raw = [ratings[name] for name in names]
    return {
        "members": members,
        "agreement": {
            "candidates": sum(sum(score is not None for score in unit) > 1 for unit in zip(*raw, strict=True)),
            "alpha_interval": _rounded(krippendorff_alpha(raw, "interval")),
            "alpha_ordinal": _rounded(krippendorff_alpha(raw, "ordinal")),
            "alpha_interval_z": _rounded(krippendorff_alpha(z, "interval")),
            "kendall_tau_b": {
                f"{one} {other}": {
                    "mean": _rounded(math.fsum(values) / len(values)) if (values := taus[one, other]) else None,
                    "prompts": len(taus[one, other]),
                }
                for one, other in combinations(names, 2)
            },
        },
    }


def _moments(scores: Sequence[float]) -> dict[str, JSON]:
    """Computes count, mean and standard deviation of the population."""
    if not scores:
        return {"scored": 0, "mean": None, "sd": None, "constant": False}
    if (lowest := min(scores)) == max(scores):
        return {"scored": len(scores), "mean": lowest, "sd": 0.0, "constant": True}
    # In units of the largest score, so that no square overflows.
    largest = max(map(abs, scores))
    mean = math.fsum(score / largest for score in scores) / len(scores)
    variance = math.fsum((score / largest - mean) ** 2 for score in scores) / len(scores)
    return {
        "scored": len(scores),
        "mean": mean * largest,
        "sd": math.sqrt(variance) * largest,
        "constant": False,
    }


def z_score(score: float, moments: Mapping[str, JSON]) -> float:
    """Computes the standard deviations above the member's mean; 0 for a member whose scores are all equal."""
    mean, sd = float(moments["mean"]), float(moments["sd"])
    return (score - mean) / sd if sd else 0.0


def by_scores(scores: Mapping[Name, Score]) -> Preferences:
    """Returns the preferences of a member that makes no comparisons: the candidate with the higher score is better."""
    preferences: dict[tuple[Name, Name], float | str] = {}
    for a, x in scores.items():
        for b, y in scores.items():
            if x.score is None or y.score is None:
                preferences[a, b] = x.unscored or y.unscored or "unscored"
            else:
                preferences[a, b] = 0.5 + ((x.score > y.score) - (x.score < y.score)) / 2
    return preferences


def by_comparisons(comparisons: Sequence[Comparison]) -> Preferences:
    """Returns the preferences of a member that makes comparisons: the mean, where it compared more than once."""
    probabilities: dict[tuple[Name, Name], list[float]] = defaultdict(list)
    undecided: dict[tuple[Name, Name], float | str] = {}
    for comparison in comparisons:
        a, b = (comparison.source_a, comparison.index_a), (comparison.source_b, comparison.index_b)
        if comparison.probability is None:
            undecided[a, b] = undecided[b, a] = comparison.undecided or "undecided"
        else:
            probabilities[a, b].append(comparison.probability)
            probabilities[b, a].append(1 - comparison.probability)
    return undecided | {pair: math.fsum(values) / len(values) for pair, values in probabilities.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None or not is_score(value) else round(value, _DIGITS)
