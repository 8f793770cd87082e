"""Tables whose rows have to be read one by one: JSON lines, CSV, and Parquet with columns of less common types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from prefdata.lazy import pa, pl, pq
from prefdata.streaming.source import PIECE_BYTES, Table, parquet_file
from prefdata.tables import files
from prefdata.tables.scored_rows import ROLES, cleaned, cleaned_rows
from prefdata.tables.scored_table import ScoredTable, from_cleaned

__all__ = ["CleanedTable", "can_clean"]

_KINDS = {
    **dict.fromkeys(ROLES, pa.string()),
    "index": pa.int64(),
    "score": pa.float64(),
    "unscored": pa.string(),
    "response_is_row": pa.bool_(),
    "misaligned": pa.bool_(),
}
_ALWAYS = ("prompt", "response", "source", "index", "score", "unscored", "response_is_row", "misaligned")
_SAMPLED = 4
"""Batches whose ids tell how ids are spread."""
_UNPACKED = 5
"""Bytes of text in a byte of a compressed file, about."""


def can_clean(path: Path, named: Mapping[str, str]) -> bool:
    """Whether batches of the table are cleaned as the whole of it would be."""
    if path.suffix != ".parquet":
        return True
    schema = pq.read_schema(path)
    with pq.ParquetFile(path) as file:
        if not file.metadata.num_rows:
            return False
    return all(_known(role, schema.field(name).type) for role, name in named.items())


def _known(role: str, kind: pa.DataType) -> bool:
    if role in ("response", "score") and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        kind = kind.value_type
    if role == "prompt" and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return bool(pa.types.is_struct(kind.value_type))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return role != "index"
    return role in ("score", "index") and (pa.types.is_integer(kind) or kind in (pa.float32(), pa.float64()))


class CleanedTable(Table):
    """The rows as `prefdata.tables.scored_rows` cleans them, a batch at a time."""

    def __init__(self, path: Path, named: Mapping[str, str]) -> None:
        packed = path.suffix in (".gz", ".zst", ".parquet")
        super().__init__(path, named, path.stat().st_size * (_UNPACKED if packed else 1), long=True)
        self._schema = pa.schema([(name, kind) for name, kind in _KINDS.items() if name in named or name in _ALWAYS])

    def batches(self, n_bytes: int) -> Iterator[pa.Table]:
        """See `Table.batches`."""
        for frame in self._frames(n_bytes):
            yield frame.select(self._schema.names).to_arrow().cast(self._schema).combine_chunks()

    def ids(self) -> Iterator[pa.Array]:
        """See `Table.ids`."""
        for table in islice(self.batches(PIECE_BYTES), _SAMPLED):
            yield table["prompt_id"].chunk(0)

    def scored(self, rows: pa.Table) -> ScoredTable:
        """See `Table.scored`."""
        frame = pl.DataFrame(pl.from_arrow(rows))
        missing = [name for name in ROLES if name not in frame.columns]
        return from_cleaned(frame.with_columns(pl.lit(None, pl.String).alias(name) for name in missing))

    def _frames(self, n_bytes: int) -> Iterator[pl.DataFrame]:
        if self.path.suffix == ".parquet":
            yield from self._parquet_frames(n_bytes)
            return
        waiting: list[tuple[int, dict[str, Any]]] = []
        size = 0
        for number, row in enumerate(files.rows(self.path, only=list(self.named.values())), 1):
            waiting.append((number, row))
            size += sum(_size(cell) for cell in row.values())
            if size > n_bytes:
                yield cleaned_rows(self.path, self.named, waiting)
                waiting, size = [], 0
        if waiting:
            yield cleaned_rows(self.path, self.named, waiting)

    def _parquet_frames(self, n_bytes: int) -> Iterator[pl.DataFrame]:
        names = list(dict.fromkeys(self.named.values()))
        with parquet_file(self.path) as file:
            head = next(file.iter_batches(64, columns=names, use_threads=False))
            per_row = max(1.0, head.nbytes / max(1, head.num_rows))
            size = int(min(40_000, max(1, n_bytes // per_row)))
            for batch in file.iter_batches(size, columns=names, use_threads=False):
                frame = pl.DataFrame(pl.from_arrow(batch))
                yield cleaned(
                    self.path, self.named, frame.select(pl.col(name).alias(role) for role, name in self.named.items())
                )


def _size(cell: object) -> int:
    if isinstance(cell, str):
        return len(cell)
    return sum(_size(part) for part in cell) if isinstance(cell, list) else 8
