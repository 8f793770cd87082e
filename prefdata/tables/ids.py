"""Ids of prompts as texts. A gap in a column turns its whole numbers into floats: 101.0 is the id 101."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from prefdata.lazy import pl

__all__ = ["EXACT", "are_float_texts", "id_series", "id_text"]

EXACT = 2**53
"""From here on floats are not exact, so one may stand for several whole numbers."""
_WHOLE = re.compile(r"-?\d+(?:\.0)?", re.ASCII)


def id_text(value: object) -> str | None:
    """Gives an id as text: a float or decimal that is a whole number as that number; None for null and NaN.

    Raises:
        ValueError: a float so large that it may stand for several ids, or bytes that are no text.
    """
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float) and abs(value) >= EXACT:
        raise ValueError("a float this large has lost digits of the id that it was")
    if isinstance(value, float | Decimal) and value == int(value):
        return str(int(value))
    return str(value)


def id_series(ids: pl.Series) -> pl.Series:
    """Gives a column of numbers or texts as `id_text` does.

    Raises:
        ValueError: a float so large that it may stand for several ids.
    """
    if not (ids.dtype.is_float() or ids.dtype.is_decimal()):
        return ids.cast(pl.String)
    numbers = ids.cast(pl.Float64) if ids.dtype.is_float() else ids
    if ids.dtype.is_float():
        numbers = numbers.fill_nan(None)
        if (numbers.abs() >= EXACT).any():
            raise ValueError("floats this large have lost digits of the ids that they were")
    whole = numbers.cast(pl.Int64, strict=False)
    if (whole.cast(numbers.dtype, strict=False) == numbers).all():
        return whole.cast(pl.String)
    return pl.Series(ids.name, [id_text(value) for value in numbers.to_list()], dtype=pl.String)


def are_float_texts(ids: Iterable[str | None]) -> bool:
    """Finds out whether a column of texts holds whole numbers some of which became floats, as CSV files have them."""
    some = False
    for text in ids:
        if text is None or text == "":
            continue
        if not _WHOLE.fullmatch(text):
            return False
        some = some or text.endswith(".0")
    return some
