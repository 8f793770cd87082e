"""Writes the dataset folder: the very layout that the dataset has on the Hub."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prefdata.errors import ConservationError
from prefdata.publish.card import CardFacts, card_text
from prefdata.publish.manifest import write_manifest
from prefdata.spec import JSON
from prefdata.tables import CANDIDATE_DROPS, DROPS, parquet_writer, write_parquet

__all__ = ["DatasetFolder", "with_features", "write_dataset_folder"]

_ROWS_PER_GROUP = 1_000
_FILE_BYTES = 500_000_000
"""Parquet files are rolled over at this size, as `datasets` does on the Hub."""


@dataclass
class DatasetFolder:
    """Everything that goes into a dataset folder."""

    rows: Iterable[pa.Table]
    """Tables of one schema, with a `prompt_id` column; written in this order."""
    test_ids: Collection[str]
    """Prompts of the test split."""
    drops: pa.Table
    """Schema `prefdata.tables.DROPS`."""
    candidate_drops: pa.Table
    """Schema `prefdata.tables.CANDIDATE_DROPS`."""
    ledger: JSON
    """Counts of each stage: see `prefdata.flow`."""
    recipe: JSON
    """The recipe as JSON."""
    lock: JSON
    """Every input pinned."""
    card: CardFacts
    """What the card says."""
    answers: Iterable[pa.Table] | None = None
    """Every answer with its score, schema `prefdata.tables.ANSWERS`; None leaves them out."""
    audit: JSON | None = None
    """Biases as `prefdata.audit` counts them; None leaves them out."""
    split_rows: dict[str, int] = field(default_factory=dict)
    """Rows of each split; filled by writing."""


def write_dataset_folder(folder: Path, dataset: DatasetFolder) -> None:
    """Fills an empty folder; the bytes depend on the arguments only, not on how `rows` is cut into tables.

    Raises:
        ConservationError: the ledger counts another number of pairs than there are rows.
    """
    (folder / "data").mkdir()
    splits = _Splits(folder / "data", dataset.test_ids)
    for table in dataset.rows:
        splits.write(table)
    dataset.split_rows |= splits.close()
    if dataset.answers is not None:
        _write_answers(folder / "candidates", dataset.answers)
    written, expected = sum(dataset.split_rows.values()), dataset.ledger["pairs"]
    if written != expected:
        raise ConservationError(f"dataset: {expected} pairs in, {written} rows out")
    write_parquet(folder / "drops.parquet", with_features(dataset.drops.cast(DROPS)))
    write_parquet(folder / "drops_candidates.parquet", with_features(dataset.candidate_drops.cast(CANDIDATE_DROPS)))
    documents = {"recipe.json": dataset.recipe, "prefdata.lock.json": dataset.lock, "ledger.json": dataset.ledger}
    if dataset.audit is not None:
        documents["audit.json"] = dataset.audit
    for name, value in documents.items():
        (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n", "utf-8")
    answers, audit = dataset.answers is not None, dataset.audit
    text = card_text(dataset.card, dataset.ledger, dataset.split_rows, answers=answers, audit=audit)
    (folder / "README.md").write_text(text, "utf-8")
    write_manifest(folder)


def _write_answers(folder: Path, answers: Iterable[pa.Table]) -> None:
    folder.mkdir()
    files = _Splits(folder, ())
    for table in answers:
        files.write(table)
    files.close()


class _Splits:
    """The Parquet files of train and test, written as rows arrive, in row groups of one size."""

    def __init__(self, folder: Path, test_ids: Collection[str]) -> None:
        self._folder = folder
        self._test = pa.array(sorted(test_ids), pa.string())
        self._splits: dict[str, _Split] = {}

    def write(self, table: pa.Table) -> None:
        if not len(self._test):
            self._splits.setdefault("train", _Split(self._folder, "train")).write(table)
            return
        is_test = pc.is_in(table["prompt_id"], value_set=self._test)
        for name in ("train", "test"):
            split = self._splits.setdefault(name, _Split(self._folder, name))
            split.write(table.filter(is_test if name == "test" else pc.invert(is_test)))

    def close(self) -> dict[str, int]:
        rows = {name: split.close() for name, split in self._splits.items()}
        # `datasets` 5.2 refuses a whole dataset when one of its splits has no row.
        kept = [name for name, count in rows.items() if count] or ["train"]
        for name in rows.keys() - kept:
            self._splits[name].remove()
        return {name: rows[name] for name in kept}


class _Split:
    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._waiting: list[pa.Table] = []
        self._files: list[Path] = []
        self._writer: Any = None
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        self._waiting.append(with_features(table))
        if sum(part.num_rows for part in self._waiting) >= _ROWS_PER_GROUP:
            self._flush(keep_rest=True)

    def close(self) -> int:
        self._flush(keep_rest=False)
        self._writer.close()
        for number, file in enumerate(self._files):
            file.rename(self._folder / f"{self._name}-{number:05d}-of-{len(self._files):05d}.parquet")
        return self._rows

    def remove(self) -> None:
        for file in self._folder.glob(f"{self._name}-*"):
            file.unlink()

    def _flush(self, *, keep_rest: bool) -> None:
        table = pa.concat_tables(self._waiting).combine_chunks()
        whole = table.num_rows - table.num_rows % _ROWS_PER_GROUP if keep_rest else table.num_rows
        for start in range(0, max(whole, 1), _ROWS_PER_GROUP):
            if self._writer is None or (self._files[-1].stat().st_size > _FILE_BYTES and start < whole):
                self._next_file(table.schema)
            if start < whole:
                self._writer.write_table(table.slice(start, min(_ROWS_PER_GROUP, whole - start)))
        self._rows += whole
        self._waiting = [table.slice(whole)]

    def _next_file(self, schema: pa.Schema) -> None:
        if self._writer is not None:
            self._writer.close()
        self._files.append(self._folder / f"{self._name}-{len(self._files):05d}.part")
        self._writer = parquet_writer(self._files[-1], schema)


def with_features(table: pa.Table) -> pa.Table:
    """The table with the schema metadata by which `datasets` knows its features exactly."""
    features = {name: _feature(table.schema.field(name).type) for name in table.schema.names}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> Mapping[str, Any]:
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {inner.name: _feature(inner.type) for inner in kind}
    names = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64", pa.bool_(): "bool"}
    return {"dtype": names[kind], "_type": "Value"}
