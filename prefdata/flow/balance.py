"""Counts that must balance: rows in = rows out + drops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefdata.errors import ConservationError
from prefdata.flow.stage_files import read_table
from prefdata.tables.schemas import column

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
    """Counts the rows of tables of stages."""
    return sum(read_table(file, []).num_rows for file in files)


def count_reasons(files: Iterable[Path], name: str = "reason") -> Counter[str]:
    """Counts the values of a column of tables of stages; nulls are left out."""
    reasons = Counter[str]()
    for file in files:
        reasons.update(filter(None, column(read_table(file, [name]), name)))
    return reasons
