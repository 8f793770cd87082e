"""Reads the files of a dataset folder, which may be anybody's; what is not as expected is a message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from prefdata.errors import InputError
from prefdata.hub import CARDS, DatasetTables, Found, at_commit, find_dataset, find_tables, is_ours, is_path
from prefdata.lazy import pa, pl
from prefdata.publish.folder import splits_of
from prefdata.tables.documents import check_regular, read_object
from prefdata.tables.files import TableLike
from prefdata.tables.parquet import check_parquet
from prefdata.tables.table import check_columns


class _Stage(BaseModel):
    stage: str
    rows_in: int = Field(alias="in")
    rows_out: int = Field(alias="out")
    drops: dict[str, int]


class Ledger(BaseModel):
    """What `ledger.json` holds, as far as it is shown."""

    prompts: int
    pairs: int
    paired_prompts: int
    drops: dict[str, int]
    ineligible: dict[str, int]
    stages: list[_Stage]


class _Limit(BaseModel):
    measure: str
    holds: bool
    at_least: float | None
    at_most: float | None
    value: float | None


class AuditFile(BaseModel):
    """What `audit.json` holds, as far as it is shown."""

    measures: dict[str, float | None] = {}
    limits: list[_Limit] = []


def refuse_unfinished(where: object, found: Found) -> None:
    """Refuses a build folder without its dataset.

    Raises:
        InputError: it is one.
    """
    if found.path.is_dir() and not is_ours(found.dataset) and (found.path / "stages").is_dir():
        raise InputError(
            f"{str(where)!r} holds no finished dataset",
            valid="a folder that `prefdata build` or `prefdata pair` has finished",
            hint="run the build again: it continues where it stopped",
        )


def tables_of(where: TableLike, config: str | None = None) -> DatasetTables:
    """Finds the tables of any dataset, all splits of one configuration.

    Args:
        where: a path, a name of the Hub, a frame, or split → frame: see `prefdata.hub.find_tables`.
        config: the configuration; None takes the default one.

    Raises:
        InputError: there is no such dataset, or it is a build that is not finished.
    """
    if not is_path(where):
        return find_tables(where, config=config)
    found = find_dataset(where, only=CARDS)
    if config is None and found.commit is None and is_ours(found.dataset):
        return _own_tables(found.dataset)
    refuse_unfinished(where, found)
    return find_tables(at_commit(where, found), config=config)


def _own_tables(folder: Path) -> DatasetTables:
    """Finds the pairs in a folder that prefdata has written; no rules of `datasets` are needed for that."""
    files = sorted((folder / "data").glob("*.parquet"))
    if not files:
        raise InputError(
            f"{str(folder)!r} has lost its pairs: there is no Parquet file in its folder data",
            hint="make it again, or fetch it again",
        )
    for file in files:
        check_regular(file, folder)
    splits = {
        split: tuple(file for file in files if file.name.partition("-")[0] == split)
        for split in splits_of(folder / "data")
    }
    return DatasetTables(folder, None, None, splits, tuple(splits), ())


def read_table(path: Path, folder: Path | None = None) -> pl.DataFrame:
    """Reads a Parquet file.

    Args:
        path: the file.
        folder: see `prefdata.tables.documents.read_text`.

    Raises:
        InputError: it is not a whole Parquet file, or not a file of the folder.
    """
    check_regular(path, folder)
    check_parquet(path)
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{str(path)!r} is not a whole Parquet file: {error}", hint="copy the file again") from error


def read_json(path: Path, folder: Path, shape: type[BaseModel] | None = None) -> dict[str, Any]:
    """Reads a document of a dataset folder; one that is not there is empty.

    Args:
        path: the file.
        folder: the folder, out of which no link may lead.
        shape: what the document must hold.

    Raises:
        InputError: it is not a JSON object, or has another shape.
    """
    if not path.is_symlink() and not path.exists():
        return {}
    value = read_object(path, folder)
    if shape is not None:
        try:
            shape.model_validate(value, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(
                f"{str(path)!r} is not as prefdata writes it: {where}: {first['msg']}",
                hint="prefdata verify lists what differs",
            ) from error
    return value


def check_types(what: str, frame: pl.DataFrame, types: Mapping[str, str]) -> pl.DataFrame:
    """Checks that a table has columns of these kinds, and returns it.

    Args:
        what: name of the table in messages.
        frame: the table.
        types: column → `number`, `text`, or `id`, a text in each row.

    Raises:
        InputError: a column is missing, or of another type.
    """
    check_columns(what, types, frame.columns)
    for name, kind in types.items():
        dtype = frame.schema[name]
        fits = dtype.is_numeric() if kind == "number" else dtype == pl.String
        if not (fits or (dtype == pl.Null and kind != "id")) or (kind == "id" and frame[name].null_count()):
            raise InputError(
                f"{what}: the column {name!r} is not a {kind} in each row: {dtype}",
                hint="prefdata verify lists what differs",
            )
    return frame


@contextmanager
def table_errors(what: str) -> Iterator[None]:
    """Turns what Polars and Arrow say of tables that don't fit together into one message."""
    try:
        yield
    except (pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise InputError(f"{what}: {error}", hint="prefdata verify lists what differs") from error
