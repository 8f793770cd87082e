"""The Parquet files of a dataset folder, read in order and in small pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prefdata.errors import InputError
from prefdata.lazy import pa, pc, pq
from prefdata.publish.folder import with_features
from prefdata.records import prompt_id_of
from prefdata.verification.report import Report

_BATCH = 2_048
_CHUNK = 16_384
"""Rows of a chunk, at least; a chunk ends where a prompt ends."""


class DamagedError(InputError):
    """A Parquet file of the folder that can't be read on; told as a mismatch."""


class TableFiles:
    """The numbered files of one table."""

    def __init__(self, files: Mapping[str, Path], schema: pa.Schema) -> None:
        self.files, self.schema = files, schema

    def fits(self, report: Report) -> bool:
        """Whether every file has the schema that it must have, down to the features that `datasets` reads."""
        expected = with_features(self.schema.empty_table()).schema
        whole = True
        for name, path in self.files.items():
            try:
                found = pq.read_schema(path)
            except (pa.ArrowException, OSError, ValueError) as error:
                report.add("unreadable", name, expected="a Parquet file", found=str(error))
                whole = False
                continue
            kinds = [{one.name: _kind(one.type) for one in schema} for schema in (expected, found)]
            if found.names != expected.names or kinds[0] != kinds[1]:
                report.compare("schema", name, kinds[0], kinds[1])
                if kinds[0] == kinds[1]:
                    report.add("schema", name, field="order", expected=expected.names, found=found.names)
                whole = False
            elif found.metadata != expected.metadata:
                report.add("schema", name, field="features", expected=expected.metadata, found=found.metadata)
        return whole

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """All rows in order, a few at a time.

        Raises:
            DamagedError: a file can't be read to its end.
        """
        for name, path in self.files.items():
            try:
                with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
                    for batch in file.iter_batches(_BATCH, columns=columns, use_threads=False):
                        batch.validate(full=True)
                        yield pa.Table.from_batches([batch])
            except (pa.ArrowException, OSError, ValueError) as error:
                raise DamagedError(f"{name}: {error}") from error

    def read(self) -> pa.Table:
        """All rows at once."""
        return pa.concat_tables([self.schema.empty_table(), *(part.cast(self.schema) for part in self.batches())])

    def prompt_ids(self, where: str, report: Report) -> tuple[list[str], bool]:
        """The different prompt ids, sorted, and whether the rows come in their order; a null is a mismatch."""
        ids: list[str] = []
        last, ordered, nulls, seen = "", True, 0, False
        for table in self.batches(["prompt_id"]):
            column = table["prompt_id"]
            nulls += column.null_count
            here = pc.drop_null(column).unique().to_pylist()
            ids += here[1:] if here and seen and here[0] == last else here
            runs = pc.drop_null(column).combine_chunks()
            if len(runs):
                falls = pc.any(pc.less(runs[1:], runs[:-1])).as_py()
                ordered = ordered and not falls and (not seen or runs[0].as_py() >= last)
                last, seen = runs[-1].as_py(), True
        if nulls:
            report.add("order", where, field="prompt_id", expected="an id in every row", found=f"{nulls} nulls")
        if not ordered:
            report.add("order", where, field="prompt_id", expected="rows sorted by prompt_id", found="another order")
        return sorted(set(ids)), ordered and not nulls

    def sorted_batches(self, ordered: bool) -> Iterator[pa.Table]:
        """All rows sorted by prompt, without those that name none; in one piece where they don't come in order."""
        if ordered:
            yield from self.batches()
        else:
            table = self.read()
            table = table.filter(pc.is_valid(table["prompt_id"]))
            # A stable sort: rows of a prompt keep the order that they have.
            place = pc.sort_indices(
                table.append_column("row", pa.array(range(table.num_rows))),
                sort_keys=[("prompt_id", "ascending"), ("row", "ascending")],
            )
            yield table.take(place)


class Rows:
    """Rows sorted by prompt, taken prompt by prompt."""

    def __init__(self, batches: Iterable[pa.Table], schema: pa.Schema) -> None:
        self._batches, self._schema = iter(batches), schema
        self._waiting = schema.empty_table()

    def take(self, last: str | None) -> pa.Table:
        """The rows up to those of prompt `last`; with None, all the rest."""
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
    # Parquet and Arrow name the values of a list each in its own way.
    return str(kind).replace("<element: ", "<item: ")


def chunks(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Rows sorted by prompt, cut into tables of whole prompts."""
    waiting: list[pa.Table] = []
    for table in batches:
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= _CHUNK:
            whole = pa.concat_tables(waiting)
            start = pc.index(whole["prompt_id"], whole["prompt_id"][-1]).as_py()
            if start:
                yield whole.slice(0, start)
            waiting = [whole.slice(start)]
    if waiting and sum(part.num_rows for part in waiting):
        yield pa.concat_tables(waiting)


def made_id(messages: Any) -> str | None:
    """The hash of a conversation; None where it is none."""
    texts = [turn and turn[name] for turn in messages or () for name in ("role", "content")]
    return prompt_id_of(messages) if texts and all(isinstance(text, str) for text in texts) else None
