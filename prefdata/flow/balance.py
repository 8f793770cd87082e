"""Counts that must balance: rows in = rows out + drops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefdata.errors import ConservationError
from prefdata.lazy import pq
from prefdata.tables.schemas import column, read_parquet

__all__ = ["balanced", "count_reasons", "count_rows"]


def balanced(stage: str, rows_in: int, rows_out: int, drops: Counter[str]) -> dict[str, Any]:
    """Makes the report of a stage.

    Raises:
        ConservationError: rows in ≠ rows out + drops.
    """
    if rows_in != rows_out + drops.total():
        raise ConservationError(f"{stage}: {rows_in} in, but {rows_out} out and {drops.total()} drops")
    return {"stage": stage, "in": rows_in, "out": rows_out, "drops": dict(sorted(drops.items()))}


def count_rows(files: Iterable[Path]) -> int:
    """Counts the rows of Parquet files."""
    return sum(int(pq.read_metadata(file).num_rows) for file in files)


def count_reasons(files: Iterable[Path], name: str = "reason") -> Counter[str]:
    """Counts the values of a column of Parquet files; nulls are left out."""
    reasons = Counter[str]()
    for file in files:
        reasons.update(filter(None, column(read_parquet(file, [name]), name)))
    return reasons
