"""Writes rows as a table of any format, as the programs that write such tables do."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FORMS = ("parquet", "jsonl", "json", "csv", "tsv", "arrow", "pandas", "polars", "dataset")
"""Files by their endings, and frames."""


def as_text(cell: Any) -> Any:
    """A list or object as CSV has it: as JSON."""
    return json.dumps(cell) if isinstance(cell, list | dict) else cell


def separated(rows: list[dict[str, Any]], separator: str = ",") -> str:
    file = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, names, delimiter=separator)
    writer.writeheader()
    writer.writerows([{name: as_text(cell) for name, cell in row.items()} for row in rows])
    return file.getvalue()


def table_of(form: str, rows: list[dict[str, Any]], folder: Path) -> Any:
    """The rows as a path, or as a frame."""
    path = folder / f"table.{form}"
    match form:
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "json":
            path.write_text(json.dumps(rows, indent=1))
        case "csv" | "tsv":
            path.write_text(separated(rows, "," if form == "csv" else "\t"))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
        case "arrow":
            table = pa.Table.from_pylist(rows)
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
        case "pandas":
            import pandas as pd

            return pd.DataFrame(rows)
        case "polars":
            import polars as pl

            return pl.DataFrame(rows)
        case "dataset":
            import datasets

            return datasets.Dataset.from_list([*rows, *rows]).select(range(len(rows)))
    return path
