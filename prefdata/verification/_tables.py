"""Reads the Parquet files of a dataset folder in order, in small pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prefdata.errors import InputError
from prefdata.lazy import pa, pc, pq
from prefdata.publish.folder import with_features
from prefdata.records import prompt_id_of
from prefdata.tables.parquet import open_parquet, rows_at_once
from prefdata.verification.report import Report

_BATCH = 2_048
_CHUNK = 16_384
"""Least number of rows of a chunk, which ends where a prompt ends."""


class DamagedError(InputError):
    """Raised when a Parquet file of the folder can't be read to its end; reported as a mismatch."""


class TableFiles:
    """The numbered files of one table.

    Args:
        files: name in the folder → path.
        schema: of the table.
        kept: further columns, which travel along; they are read by `kept_rows` only.
    """

    def __init__(self, files: Mapping[str, Path], schema: pa.Schema, kept: pa.Schema | None = None) -> None:
        self.files, self.schema = files, schema
        self._kept = [] if kept is None else list(kept)

    def matches_schema(self, report: Report) -> bool:
        """Checks that every file has the required schema, down to the features that `datasets` reads."""
        expected = with_features(pa.schema([*self.schema, *self._kept]).empty_table()).schema
        matches = True
        for name, path in self.files.items():
            try:
                schema = pq.read_schema(path)
            except (pa.ArrowException, OSError, ValueError) as error:
                report.add("unreadable", name, expected="a Parquet file", found=str(error))
                matches = False
                continue
            kinds = [{column.name: _kind(column.type) for column in schema} for schema in (expected, schema)]
            if schema.names != expected.names or kinds[0] != kinds[1]:
                report.compare("schema", name, kinds[0], kinds[1])
                if kinds[0] == kinds[1]:
                    report.add("schema", name, field="order", expected=expected.names, found=schema.names)
                matches = False
            elif schema.metadata != expected.metadata:
                report.add("schema", name, field="features", expected=expected.metadata, found=schema.metadata)
        return matches

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Yields all rows in order, a few at a time.

        Args:
            columns: those to read; None reads all but those that travel along.

        Raises:
            DamagedError: a file can't be read to its end.
        """
        for name, path in self.files.items():
            try:
                with open_parquet(path) as file:
                    for batch in file.iter_batches(rows_at_once(path, _BATCH), columns=columns, use_threads=False):
                        batch.validate(full=True)
                        table = pa.Table.from_batches([batch])
                        yield table if columns else table.drop_columns([column.name for column in self._kept])
            except (pa.ArrowException, OSError, ValueError, InputError) as error:
                raise DamagedError(f"{name}: {error}") from error

    def kept_rows(self) -> Iterator[dict[str, Any]]:
        """Yields the prompt id of each row and the columns that travel along."""
        for table in self.batches(["prompt_id", *(column.name for column in self._kept)]):
            yield from table.to_pylist()

    def read(self) -> pa.Table:
        """Reads all rows at once."""
        return pa.concat_tables([self.schema.empty_table(), *(part.cast(self.schema) for part in self.batches())])

    def prompt_ids(self, where: str, report: Report) -> tuple[list[str], bool]:
        """Returns the distinct prompt ids, sorted, and whether the rows are in their order; a null is a mismatch."""
        ids: list[str] = []
        last, ordered, nulls, seen = "", True, 0, False
        for table in self.batches(["prompt_id"]):
            column = table["prompt_id"]
            nulls += column.null_count
            ids_here = pc.drop_null(column).unique().to_pylist()
            ids += ids_here[1:] if ids_here and seen and ids_here[0] == last else ids_here
            runs = pc.drop_null(column).combine_chunks()
            if len(runs):
                decreases = pc.any(pc.less(runs[1:], runs[:-1])).as_py()
                ordered = ordered and not decreases and (not seen or runs[0].as_py() >= last)
                last, seen = runs[-1].as_py(), True
        if nulls:
            report.add("order", where, field="prompt_id", expected="an id in every row", found=f"{nulls} nulls")
        if not ordered:
            report.add("order", where, field="prompt_id", expected="rows sorted by prompt_id", found="another order")
        return sorted(set(ids)), ordered and not nulls

    def sorted_batches(self, ordered: bool) -> Iterator[pa.Table]:
        """Yields all rows with a prompt id, sorted by prompt; in one piece where they are not in order."""
        if ordered:
            yield from self.batches()
        else:
            table = self.read()
            table = table.filter(pc.is_valid(table["prompt_id"]))
            # A stable sort: rows of a prompt keep their order.
            order = pc.sort_indices(
                table.append_column("row", pa.array(range(table.num_rows))),
                sort_keys=[("prompt_id", "ascending"), ("row", "ascending")],
            )
            yield table.take(order)


class RowReader:
    """Reads rows that are sorted by prompt, up to a given prompt at a time."""

    def __init__(self, batches: Iterable[pa.Table], schema: pa.Schema) -> None:
        self._batches, self._schema = iter(batches), schema
        self._waiting = schema.empty_table()

    def take(self, last: str | None) -> pa.Table:
        """Returns the next rows up to those of prompt `last`; with None, all remaining rows."""
        parts = [self._waiting]
        while last is None or not parts[-1].num_rows or parts[-1]["prompt_id"][-1].as_py() <= last:
            table = next(self._batches, None)
            if table is None:
                break
            parts.append(table.cast(self._schema))
        table = pa.concat_tables(parts)
        count = table.num_rows if last is None else pc.sum(pc.less_equal(table["prompt_id"], last)).as_py() or 0
        self._waiting = table.slice(count)
        return table.slice(0, count)


def _kind(kind: pa.DataType) -> str:
    # Parquet and Arrow have different names for the values of a list.
    return str(kind).replace("<element: ", "<item: ")


def chunks(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cuts rows that are sorted by prompt into tables of whole prompts."""
    waiting: list[pa.Table] = []
    for table in batches:
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= _CHUNK:
            rows = pa.concat_tables(waiting)
            start = pc.index(rows["prompt_id"], rows["prompt_id"][-1]).as_py()
            if start:
                yield rows.slice(0, start)
            waiting = [rows.slice(start)]
    if waiting and sum(part.num_rows for part in waiting):
        yield pa.concat_tables(waiting)


def computed_id(messages: Any) -> str | None:
    """Computes the id of a prompt from its messages; None where they are not a conversation."""
    texts = [turn and turn[name] for turn in messages or () for name in ("role", "content")]
    return prompt_id_of(messages) if texts and all(isinstance(text, str) for text in texts) else None
