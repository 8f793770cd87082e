"""Documents of a build folder: JSON objects that carry their own checksum, and are never believed when damaged."""

from __future__ import annotations

import json
from pathlib import Path

from prefdata.errors import StoreError
from prefdata.flow.disk import write_json
from prefdata.spec import JSON, fingerprint
from prefdata.tables.own_files import read_bytes

__all__ = ["damaged", "read_document", "read_object", "write_document"]

_GUARD = "checksum"
_BYTES = 1 << 28


def write_document(path: Path, value: dict[str, JSON]) -> None:
    """Writes an object and its checksum, atomically.

    Raises:
        StoreError: the file can't be written.
    """
    write_json(path, {**value, _GUARD: fingerprint(value)})


def read_document(path: Path, lost: str) -> dict[str, JSON] | None:
    """Reads an object that `write_document` has written; returns None where there is none.

    One without a checksum was written by an earlier version, and is taken as it is.

    Args:
        path: of the file.
        lost: what is lost with it, for the message.

    Raises:
        StoreError: it is damaged, or can't be read.
    """
    value = read_object(path, lost)
    if value is not None and _GUARD in value and value.pop(_GUARD) != fingerprint(value):
        raise damaged(path, "its checksum is another one", lost)
    return value


def read_object(path: Path, lost: str) -> dict[str, JSON] | None:
    """Reads a JSON object without a checksum; returns None where there is none.

    Args:
        path: of the file.
        lost: what is lost with it, for the message.

    Raises:
        StoreError: it is not an object of JSON, or can't be read.
    """
    try:
        content = read_bytes(path, _BYTES)
        value = None if content is None else json.loads(content.decode())
    except RecursionError as error:
        raise damaged(path, "its values are nested too deeply", lost) from error
    except UnicodeDecodeError as error:
        raise damaged(path, "it is not UTF-8", lost) from error
    except json.JSONDecodeError as error:
        raise damaged(path, f"it is not JSON: {error}", lost) from error
    except ValueError as error:
        raise damaged(path, str(error), lost) from error
    except OSError as error:
        raise damaged(path, f"it can't be read ({error.strerror or error})", lost) from error
    if content is not None and not isinstance(value, dict):
        raise damaged(path, "it is not an object of JSON", lost)
    return value


def damaged(path: Path, why: str, lost: str) -> StoreError:
    """Makes the error of a damaged file of a build folder."""
    return StoreError(
        f"{str(path)!r} is damaged: {why}",
        valid=f"the file as it was written. Lost with it: {lost}",
        hint="put the file back, or add --repair to the command: prefdata build ... --repair "
        "sets it aside and makes only this again",
    )
