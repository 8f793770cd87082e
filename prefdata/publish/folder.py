"""Writes the dataset folder, in the layout that the dataset has on the Hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdata.errors import ConservationError
from prefdata.lazy import pa, pc
from prefdata.publish.card.pictures import FLOW, MARGINS, flow_svg, margins_svg
from prefdata.publish.card.statistics import FileStats, read_file_stats
from prefdata.publish.card.text import CardFacts, card_text
from prefdata.publish.manifest import write_manifest
from prefdata.spec import JSON
from prefdata.tables.documents import document_text
from prefdata.tables.kept import Kept
from prefdata.tables.schemas import (
    CANDIDATE_DROPS,
    DROPS,
    ROWS_PER_GROUP,
    SPLITS,
    in_one_chunk,
    parquet_writer,
    write_parquet,
)

__all__ = ["DatasetFolder", "OtherLayout", "splits_of", "with_features", "write_dataset_folder"]

_FILE_BYTES = 500_000_000
"""Parquet files are rolled over at this size, as `datasets` does on the Hub."""


@dataclass(frozen=True)
class OtherLayout:
    """The pairs in a further layout."""

    rows: Iterable[pa.Table]
    """Tables of the same prompts as the pairs, cut after the same rows."""
    rows_per_pair: int
    split_names: tuple[str, str]
    documents: Callable[[list[str]], Mapping[str, JSON]]
    """Returns further files that its readers want at the top of the folder: names of the splits → file name → JSON."""


@dataclass
class DatasetFolder:
    """The content of a dataset folder."""

    rows: Iterable[pa.Table]
    """Tables of one schema, with a `prompt_id` column; written in this order."""
    test_ids: Collection[str]
    """Prompts of the test split."""
    drops: pa.Table
    """Schema `prefdata.tables.schemas.DROPS`."""
    candidate_drops: pa.Table
    """Schema `prefdata.tables.schemas.CANDIDATE_DROPS`."""
    ledger: JSON
    """Counts of each stage: see `prefdata.flow.build`."""
    recipe: JSON
    """The recipe as JSON."""
    lock: JSON
    """The lock, which pins every input."""
    card: CardFacts
    """Facts for the card."""
    rows_per_pair: int = 1
    """Rows that the layout gives each pair."""
    answers: Iterable[pa.Table] | None = None
    """Every answer with its score, schema `prefdata.tables.schemas.ANSWERS`; None leaves them out."""
    audit: JSON | None = None
    """Biases as `prefdata.dataset.measures` counts them; None leaves them out."""
    comparisons: Iterable[pa.Table] | None = None
    """The scorer's comparisons, schema `prefdata.tables.schemas.COMPARISONS`; None where it makes none."""
    trace: Iterable[pa.Table] | None = None
    """The trace of every pair, where `rows` doesn't hold it: tables of the same prompts, cut after the same rows."""
    also: Mapping[str, OtherLayout] = field(default_factory=dict)
    """The pairs in further layouts, by their kinds."""
    scoring: JSON | None = None
    """Numbers that the stages of scores computed over all prompts; None without any."""
    given_splits: pa.Table | None = None
    """Schema `prefdata.tables.schemas.SPLITS`: the prompts whose source assigns them to a split."""
    split_names: tuple[str, str] = ("train", "test")
    """Names of the two splits."""
    kept: Kept | None = None
    """Columns that travel along to pairs, answers and drops; None without any."""
    split_rows: dict[str, int] = field(default_factory=dict)
    """Rows of each split; filled by writing."""

    def with_kept(self, tables: Iterable[pa.Table]) -> Iterable[pa.Table]:
        """Appends the columns that travel along to tables."""
        return tables if self.kept is None else map(self.kept.add, tables)


def write_dataset_folder(folder: Path, dataset: DatasetFolder) -> None:
    """Writes a dataset into an empty folder; its bytes don't depend on how `rows` is cut into tables.

    Raises:
        ConservationError: the ledger counts another number of pairs than there are rows.
    """
    (folder / "data").mkdir()
    splits = _Splits(folder / "data", dataset.test_ids, dataset.split_names)
    for table in dataset.with_kept(dataset.rows):
        splits.write(table)
    dataset.split_rows |= splits.close()
    answers = None if dataset.answers is None else dataset.with_kept(dataset.answers)
    for name, tables, test_ids, names in (
        ("candidates", answers, (), ("train", "test")),
        ("comparisons", dataset.comparisons, (), ("train", "test")),
        ("trace", dataset.trace, dataset.test_ids, dataset.split_names),
    ):
        if tables is not None:
            _write_table(folder / name, tables, test_ids, names)
    documents = {"recipe.json": dataset.recipe, "prefdata.lock.json": dataset.lock, "ledger.json": dataset.ledger}
    for name, other in dataset.also.items():
        rows_of_layout = _write_table(folder / name, dataset.with_kept(other.rows), dataset.test_ids, other.split_names)
        if sum(rows_of_layout.values()) != dataset.ledger["pairs"] * other.rows_per_pair:
            raise ConservationError(
                f"{name}: {dataset.ledger['pairs']} pairs in, {sum(rows_of_layout.values())} rows out"
            )
        documents |= other.documents(list(rows_of_layout))
    written, expected = sum(dataset.split_rows.values()), dataset.ledger["pairs"] * dataset.rows_per_pair
    if written != expected:
        raise ConservationError(f"dataset: {dataset.ledger['pairs']} pairs in, {written} rows out")
    lost = (dataset.drops.cast(DROPS), dataset.candidate_drops.cast(CANDIDATE_DROPS))
    for name, table in zip(("drops", "drops_candidates"), dataset.with_kept(lost), strict=True):
        write_parquet(folder / f"{name}.parquet", with_features(table))
    if dataset.given_splits is not None:
        write_parquet(folder / "splits.parquet", with_features(dataset.given_splits.cast(SPLITS)))
    if dataset.audit is not None:
        documents["audit.json"] = dataset.audit
    if dataset.scoring is not None:
        documents["scoring.json"] = dataset.scoring
    for name, value in documents.items():
        (folder / name).write_text(document_text(value), "utf-8")
    stats = read_file_stats(folder)
    text = card_text(
        dataset.card,
        dataset.ledger,
        dataset.split_rows,
        answers=dataset.answers is not None,
        comparisons=dataset.comparisons is not None,
        trace=dataset.trace is not None,
        also={name: splits_of(folder / name) for name in dataset.also},
        audit=dataset.audit,
        scoring=dataset.scoring,
        recipe=dataset.recipe,
        kept=() if dataset.kept is None else dataset.kept.names,
        stats=stats,
        pictures=_write_pictures(folder, dataset.ledger, stats),
    )
    (folder / "README.md").write_text(text, "utf-8")
    write_manifest(folder)


def _write_pictures(folder: Path, ledger: JSON, stats: FileStats) -> list[str]:
    """Writes the pictures of the card, and returns their names; without stages or pairs there is nothing to draw."""
    pictures = {FLOW: flow_svg(ledger)} if ledger["stages"] else {}
    pictures |= {MARGINS: margins_svg(stats.margins)} if stats.margins else {}
    for name, text in pictures.items():
        (folder / name).write_text(text, "utf-8")
    return list(pictures)


def _write_table(
    folder: Path, tables: Iterable[pa.Table], test_ids: Collection[str], names: tuple[str, str]
) -> dict[str, int]:
    """Writes one more table; returns the rows of each split."""
    folder.mkdir()
    files = _Splits(folder, test_ids, names)
    for table in tables:
        files.write(table)
    return files.close()


class _Splits:
    """The Parquet files of train and test, written as rows arrive, in row groups of one size."""

    def __init__(self, folder: Path, test_ids: Collection[str], names: tuple[str, str]) -> None:
        self._folder, (self._train_name, self._test_name) = folder, names
        self._test = pa.array(sorted(test_ids), pa.string())
        self._splits: dict[str, _Split] = {}

    def write(self, table: pa.Table) -> None:
        if not len(self._test):
            self._splits.setdefault(self._train_name, _Split(self._folder, self._train_name)).write(table)
            return
        is_test = pc.is_in(table["prompt_id"], value_set=self._test)
        for name in (self._train_name, self._test_name):
            split = self._splits.setdefault(name, _Split(self._folder, name))
            split.write(table.filter(is_test if name == self._test_name else pc.invert(is_test)))

    def close(self) -> dict[str, int]:
        rows = {name: split.close() for name, split in self._splits.items()}
        # `datasets` 5.2 refuses a whole dataset when one of its splits has no row.
        kept = [name for name, count in rows.items() if count] or [self._train_name]
        for name in rows.keys() - kept:
            self._splits[name].remove()
        return {name: rows[name] for name in kept}


class _Split:
    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._waiting: pa.Table | None = None
        self._files: list[Path] = []
        self._writer: Any = None
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        start = 0
        if self._waiting is not None and self._waiting.num_rows:
            start = min(ROWS_PER_GROUP - self._waiting.num_rows, table.num_rows)
            self._waiting = pa.concat_tables([self._waiting, table.slice(0, start)])
            if self._waiting.num_rows < ROWS_PER_GROUP:
                return
            self._write_group(self._waiting)
        while table.num_rows - start >= ROWS_PER_GROUP:
            self._write_group(table.slice(start, ROWS_PER_GROUP))
            start += ROWS_PER_GROUP
        self._waiting = table.slice(start)

    def close(self) -> int:
        assert self._waiting is not None
        if self._waiting.num_rows:
            self._write_group(self._waiting)
        if self._writer is None:
            self._next_file(self._waiting.schema)
        self._writer.close()
        for number, file in enumerate(self._files):
            file.rename(self._folder / f"{self._name}-{number:05d}-of-{len(self._files):05d}.parquet")
        return self._rows

    def remove(self) -> None:
        for file in self._folder.glob(f"{self._name}-*"):
            file.unlink()

    def _write_group(self, rows: pa.Table) -> None:
        # The bytes must not show where the tables were cut. Most groups are within one table and are not copied.
        rows = in_one_chunk(rows)
        if self._writer is None or self._files[-1].stat().st_size > _FILE_BYTES:
            self._next_file(rows.schema)
        self._writer.write_table(rows)
        self._rows += rows.num_rows

    def _next_file(self, schema: pa.Schema) -> None:
        if self._writer is not None:
            self._writer.close()
        self._files.append(self._folder / f"{self._name}-{len(self._files):05d}.part")
        # A file has the metadata of the writer's schema, whatever that of the tables is.
        self._writer = parquet_writer(self._files[-1], with_features(schema.empty_table()).schema)


def splits_of(folder: Path) -> list[str]:
    """Lists the splits whose files are in a folder, those of training first."""
    names = {path.name.partition("-")[0] for path in folder.glob("*.parquet")}
    return sorted(names, key=lambda name: (not name.startswith("train"), name))


def with_features(table: pa.Table) -> pa.Table:
    """Adds the schema metadata from which `datasets` reads the exact features."""
    features = {name: _feature(table.schema.field(name).type) for name in table.schema.names}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}}, allow_nan=False)})


def _feature(kind: pa.DataType) -> Mapping[str, Any]:
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {inner.name: _feature(inner.type) for inner in kind}
    names = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64", pa.bool_(): "bool"}
    return {"dtype": names[kind], "_type": "Value"}
