"""Tables that stages write: checked, sorted where their order counts, and whole or not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdata.flow.stage_files import write_noted
from prefdata.lazy import pa
from prefdata.spec import JSON, canonical_json
from prefdata.tables.schemas import KEPT, checked, write_parquet

__all__ = ["write_kept", "write_rows", "write_table"]


def write_rows(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema, key: Sequence[str], stage: str) -> None:
    """Writes rows as one table: see `write_table`."""
    write_table(path, pa.Table.from_pylist(list(rows), schema), schema, key, stage)


def write_kept(path: Path, kept: Mapping[str, Mapping[str, JSON]], stage: str) -> None:
    """Writes the columns that travel along with prompts: see `write_table`.

    Args:
        path: the file.
        kept: prompt id → values.
        stage: see `write_table`.
    """
    rows = [{"prompt_id": prompt_id, "kept": canonical_json(dict(values))} for prompt_id, values in kept.items()]
    write_rows(path, rows, KEPT, ["prompt_id"], stage)


def write_table(path: Path, table: pa.Table, schema: pa.Schema, key: Sequence[str], stage: str) -> None:
    """Writes a table of a stage after checking it, and puts it on record.

    Args:
        path: the file; it appears at once.
        table: what is written.
        schema: the schema that it must have.
        key: columns that must name each row.
        stage: named where the table is not what it must be.

    Raises:
        ConservationError: it has another schema, a null or a duplicate in its key, or a NaN.
        StoreError: the file can't be written.
    """
    sound = checked(table, schema, key, stage)
    write_noted(path, lambda partial: write_parquet(partial, sound, page_checksums=True))
