"""`parse_score`: the one reading of a score cell, wherever a table has numbers, texts or one-number lists."""

from __future__ import annotations

import math
import re
from decimal import Decimal

__all__ = ["parse_score"]

_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)


def parse_score(value: object) -> float | None:
    """The finite number that a cell holds, or None when it holds none.

    Numbers, decimal texts (sign, exponent and surrounding white space allowed) and lists of exactly one of these are
    scores. Booleans, NaN, infinities, `"N/A"`, empty and longer lists are not: they would otherwise become a rank.
    """
    if isinstance(value, list | tuple):
        return None if len(value) != 1 or isinstance(value[0], list | tuple) else parse_score(value[0])
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        # An integer above 1.8e308, or a signalling NaN of `Decimal`.
        return None
    return number if math.isfinite(number) else None
