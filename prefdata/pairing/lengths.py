"""`text_length`: the length of a text in the unit of a pair rule, in plain Python."""

from __future__ import annotations

from collections.abc import Callable

from prefdata.pairing.facts import LengthUnit

__all__ = ["text_length"]

_LENGTHS: dict[LengthUnit, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "bytes": lambda text: len(text.encode()),
}


def text_length(text: str, unit: LengthUnit) -> int:
    """Counts Unicode code points, words between white space, or UTF-8 bytes."""
    return _LENGTHS[unit](text)
