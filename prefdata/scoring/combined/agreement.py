"""Measures how far several raters agree: Krippendorff's alpha and Kendall's tau-b. Pure functions of numbers."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

__all__ = ["kendall_tau_b", "krippendorff_alpha"]


def krippendorff_alpha(
    ratings: Sequence[Sequence[float | None]], level: Literal["nominal", "ordinal", "interval"]
) -> float | None:
    """Computes Krippendorff's alpha: 1 - observed disagreement / disagreement expected by chance.

    1 is perfect agreement, 0 what chance gives, below 0 is worse than chance. Source: K. Krippendorff, "Computing
    Krippendorff's Alpha-Reliability" (2011): a unit's values are pairable when it has at least two, and each pair of a
    unit with m values weighs 1 / (m - 1). With the squared differences of interval data both sums follow from sums of
    values and squares. Ordinal data are interval data of mid-ranks: his ordinal difference of two values, the number
    of values from one to the other with half of each end, is the difference of their mid-ranks.

    Args:
        ratings: one row for each rater, one column for each unit; None where the rater gave no value.
        level: how values differ: at all, by rank, or by their difference.

    Returns:
        Alpha, or None where it is not defined: no unit has two values, or all pairable values are equal.
    """
    units = [[value for value in unit if value is not None] for unit in zip(*ratings, strict=True)]
    units = [unit for unit in units if len(unit) > 1]
    if level == "ordinal":
        ranked = sorted(value for unit in units for value in unit)
        units = [[(bisect_left(ranked, value) + bisect_right(ranked, value)) / 2 for value in unit] for unit in units]
    if not units or min(map(min, units)) == max(map(max, units)):
        return None
    if level == "interval":
        # Alpha does not depend on the unit of measurement; in this one no square overflows.
        largest = max(abs(value) for unit in units for value in unit)
        units = [[value / largest for value in unit] for unit in units]
    differing = _differing if level == "nominal" else _squared_differences
    observed = math.fsum(differing(unit) / (len(unit) - 1) for unit in units)
    everything = [value for unit in units for value in unit]
    return 1 - observed * (len(everything) - 1) / differing(everything)


def _differing(values: Sequence[float]) -> float:
    """Counts the ordered pairs of values that differ."""
    return float(len(values) ** 2 - sum(count**2 for count in Counter(values).values()))


def _squared_differences(values: Sequence[float]) -> float:
    """Sums the squared differences of all ordered pairs of values."""
    mean = math.fsum(values) / len(values)
    return 2 * len(values) * math.fsum((value - mean) ** 2 for value in values)


def kendall_tau_b(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Computes Kendall's tau-b of two lists of equal length: from -1 (reversed) to 1 (same order), corrected for ties.

    (concordant - discordant pairs) / sqrt(pairs not tied in the first x pairs not tied in the second).
    Source: M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945).

    Returns:
        Tau-b, or None where one of the lists has fewer than two different numbers.
    """
    score = untied_first = untied_second = 0
    for (a, b), (c, d) in combinations(zip(first, second, strict=True), 2):
        x, y = (a > c) - (a < c), (b > d) - (b < d)
        score += x * y
        untied_first += x != 0
        untied_second += y != 0
    if not untied_first or not untied_second:
        return None
    return score / math.sqrt(untied_first * untied_second)
