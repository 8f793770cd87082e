"""`TextFile`: a file of JSON or of separated values as a table. The cells of separated values stay text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from prefdata.errors import NoRowsError
from prefdata.tables.table import Table, check_columns
from prefdata.tables.text_files import has_rows, json_keys, json_rows, separated_header, separated_rows

__all__ = ["TextFile"]

_COMPRESSED = 4
"""Bytes that a byte of a compressed file is taken for."""


class TextFile(Table):
    """A file of JSON lines, of one JSON array, or of separated values.

    Args:
        path: the file.
        kind: `json`, `csv` or `tsv`.
        codec: its compression.
    """

    def __init__(self, path: Path, kind: str, codec: str | None) -> None:
        super().__init__(repr(str(path)))
        self._path, self._codec = path, codec
        self._separator = {"csv": ",", "tsv": "\t"}.get(kind)
        self._header: list[str] | None = None

    @property
    def columns(self) -> list[str]:
        """Reads the names; see `Table`."""
        if self._separator:
            return [name for name in separated_header(self._path, self._codec, self._separator, ()) if name]
        if self._header is None:
            # Any line may bring a new key.
            self._header = list(dict.fromkeys(key for keys in json_keys(self._path, self._codec) for key in keys))
            if not self._header and not any(True for _ in json_keys(self._path, self._codec)):
                raise NoRowsError(f"{self.name} has no rows")
        return self._header

    @property
    def lacks_types(self) -> bool:
        """Whether its values are separated; see `Table`."""
        return self._separator is not None

    def has_rows(self) -> bool:
        """Reads as far as the first row; see `Table`."""
        return has_rows(self._path, self._codec, self._separator)

    def rows(
        self,
        start: int = 0,
        *,
        only: Sequence[str] | None = None,
        optional: Sequence[str] = (),
        ids: Sequence[str] = (),
    ) -> Iterator[dict[str, Any]]:
        """Reads rows; see `Table`."""
        if only is not None:
            self._require(only)
            if optional and self._separator:
                have = self.columns
                optional = [name for name in optional if name in have]
            only = list(dict.fromkeys([*only, *optional]))
        if not self._separator:
            return islice(json_rows(self._path, self._codec, only), start, None)
        found = separated_rows(self._path, self._codec, self._separator, only)
        if only is None:
            return islice(found, start, None)
        floats = [name for name in ids if self.has_float_ids(name)]
        return (_cells(row, only, floats) for row in islice(found, start, None))

    def id_texts(self, name: str) -> Iterable[str | None]:
        """Reads a column of separated values; see `Table`."""
        return (row[name] for row in self.rows(only=[name])) if self._separator else ()

    def row_bytes(self, names: Sequence[str]) -> float:
        """Estimates a row; see `Table`."""
        return 0.0

    def n_bytes(self, names: Sequence[str]) -> float:
        """Estimates columns; see `Table`."""
        return self._path.stat().st_size * (_COMPRESSED if self._codec else 1)

    def _require(self, wanted: Sequence[str]) -> None:
        if self._separator or self._header is not None:
            check_columns(self.name, wanted, self.columns)
            return
        # Stop at the first line by which every name has been seen; only a missing column costs a whole pass.
        missing = set(wanted)
        for keys in json_keys(self._path, self._codec):
            missing.difference_update(keys)
            if not missing:
                return
        check_columns(self.name, wanted, self.columns)


def _cells(row: dict[str, Any], only: Sequence[str], floats: Sequence[str]) -> dict[str, Any]:
    cells = {name: row[name] for name in only}
    for name in floats:
        cells[name] = cells[name] and cells[name].removesuffix(".0")
    return cells
