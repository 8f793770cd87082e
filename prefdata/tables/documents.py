"""JSON documents: parsed without repeated keys, and compared value by value."""

from __future__ import annotations

import json
from collections.abc import Iterator

from prefdata.spec import JSON

__all__ = ["ABSENT", "json_differences", "parse_json"]


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()
"""The value of what is not there."""


def parse_json(text: str) -> JSON:
    """Parses a JSON document.

    Raises:
        ValueError: the text is not JSON (`json.JSONDecodeError`), or an object has the same key twice.
        RecursionError: its values are nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice in one object")
    return values


def json_differences(before: JSON, after: JSON, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Compares two JSON values; 1, 1.0 and true are three different values.

    Args:
        before: the first value.
        after: the second value.
        path: path of both, which is put before the paths that are yielded.

    Yields:
        Path, first value and second value of each difference, by key and position; `ABSENT` for a missing value.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        # A document may come from YAML, whose keys need not be texts.
        for key in sorted({*before, *after}, key=str):
            below = f"{path}.{key}" if path else str(key)
            yield from json_differences(before.get(key, ABSENT), after.get(key, ABSENT), below)
    elif isinstance(before, list) and isinstance(after, list):
        for position in range(max(len(before), len(after))):
            one, other = (values[position] if position < len(values) else ABSENT for values in (before, after))
            yield from json_differences(one, other, f"{path}[{position}]")
    elif type(before) is not type(after) or before != after:
        yield path, before, after
