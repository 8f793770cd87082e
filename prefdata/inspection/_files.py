"""Reads the files of a dataset folder; a damaged one is a message."""

from __future__ import annotations

from pathlib import Path

from prefdata.errors import InputError
from prefdata.lazy import pl
from prefdata.spec import JSON
from prefdata.tables.documents import parse_json


def read_table(path: Path) -> pl.DataFrame:
    """Reads a Parquet file.

    Raises:
        InputError: it is not a whole Parquet file.
    """
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{str(path)!r} is not a whole Parquet file: {error}", hint="copy the file again") from error


def read_json(path: Path) -> JSON:
    """Reads a JSON file; one that is not there is an empty object.

    Raises:
        InputError: it is not JSON.
    """
    if not path.exists():
        return {}
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not JSON: {error}", hint="copy the file again") from error
