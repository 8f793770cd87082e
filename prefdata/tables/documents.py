"""Documents of a dataset folder: read within bounds, parsed without repeated keys, and compared value by value."""

from __future__ import annotations

import json
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from prefdata.errors import InputError
from prefdata.spec import JSON

__all__ = [
    "ABSENT",
    "DOCUMENT_BYTES",
    "check_regular",
    "document_text",
    "json_differences",
    "parse_json",
    "read_object",
    "read_text",
    "without_repeats",
]

DOCUMENT_BYTES = 32 << 20
"""Largest size of a document; a larger one is refused unread."""


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()
"""The value of what is not there."""


def read_text(path: Path, folder: Path | None = None) -> str:
    """Reads a document of a folder that may be anybody's.

    Args:
        path: the file.
        folder: the folder that it belongs to, out of which no link may lead; None for a file of the user's own.

    Raises:
        InputError: it is not a regular file of the folder, is too large, or is not UTF-8.
    """
    check_regular(path, folder)
    try:
        size = path.stat().st_size
        if size > DOCUMENT_BYTES:
            raise InputError(
                f"{str(path)!r} has {size:,} bytes, more than any document of a dataset",
                valid=f"at most {DOCUMENT_BYTES >> 20} MB",
            )
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not UTF-8: {error.reason}", hint="copy the file again") from error
    except OSError as error:
        raise InputError(f"{str(path)!r} can't be read: {error.strerror}") from error


def read_object(path: Path, folder: Path | None = None) -> dict[str, JSON]:
    """Reads a document that is a JSON object; see `read_text`.

    Raises:
        InputError: it is not one, or can't be read.
    """
    try:
        value = parse_json(read_text(path, folder))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not JSON: {error}", hint="copy the file again") from error
    if not isinstance(value, dict):
        raise InputError(f"{str(path)!r} is not a JSON object", hint="copy the file again")
    return value


def document_text(value: JSON) -> str:
    """Writes a document of a dataset folder.

    Raises:
        ValueError: it holds NaN or an infinity, which JSON lacks: a bug.
    """
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n"


def check_regular(path: Path, folder: Path | None = None) -> None:
    """Refuses a pipe, a device, and a link that leads out of its folder: reading it would hang, or tell a secret.

    Raises:
        InputError: the file is one, or does not exist.
    """
    try:
        inside = path.resolve(strict=True)
        if folder is not None:
            # The cache of the Hub's client keeps the files of a commit as links to another folder of the repository.
            root = folder.parent.parent if folder.parent.name == "snapshots" else folder
            if not inside.is_relative_to(root.resolve()):
                raise InputError(f"{str(path)!r} is a link that leads out of its folder", hint="copy the file itself")
        regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{str(path)!r} can't be read: {getattr(error, 'strerror', error)}") from error
    if not regular:
        raise InputError(f"{str(path)!r} is a folder, a pipe or a device, not a file")


def parse_json(text: str) -> JSON:
    """Parses a JSON document.

    Raises:
        ValueError: the text is not JSON (`json.JSONDecodeError`), or an object has the same key twice.
        RecursionError: its values are nested too deeply.
    """
    return json.loads(text, object_pairs_hook=without_repeats)


def without_repeats(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    """Makes an object of its keys and values.

    Raises:
        ValueError: a key occurs twice.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {repeated!r} occurs twice in one object")
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
