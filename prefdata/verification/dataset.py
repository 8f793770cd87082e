"""`verify`: checks a dataset against its own recipe, lock, ledger and answers."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from prefdata import hub
from prefdata.errors import InputError
from prefdata.lazy import pa, pl
from prefdata.publish.card.pictures import PICTURES
from prefdata.publish.manifest import MANIFEST
from prefdata.spec.code import allowing_code
from prefdata.tables.first_prompts import FirstPrompts
from prefdata.tables.kept import Kept
from prefdata.tables.kept_table import kept_of_table
from prefdata.tables.scored_table import ScoredTableFile
from prefdata.tables.whole_table import ScoredTable, read_whole
from prefdata.verification._contents import Contents
from prefdata.verification._folder import (
    check_manifest,
    check_names,
    inventory,
    read_document,
    set_own_pictures_aside,
)
from prefdata.verification._origin import Origin, read_origin
from prefdata.verification._tables import DamagedError
from prefdata.verification.report import Report

__all__ = ["verify"]


def verify(
    where: str | PathLike[str],
    *,
    table: str | Path | None = None,
    keep: int | None = 20,
    allow_code: bool = False,
) -> Report:
    """Verifies a dataset folder, a build folder, or a dataset of the Hub; `docs/verify.md` lists what this proves.

    Args:
        where: a build, its folder, a dataset folder, or `owner/name` or `owner/name@revision` of the Hub.
        table: the table that `prefdata pair` read, for its folders: see `prefdata.hub.find_table`. Configuration and
            split are those that it was given.
        keep: number of mismatches that the report keeps; all are counted. None keeps all.
        allow_code: run Python parts that the dataset's recipe names.

    Returns:
        What was checked, what was not, and every mismatch. No content of the folder raises an error.

    Raises:
        UserError: there is nothing to verify at `where`, the table can't be read, or the rule or a layout is Python
            code and code is not allowed.
    """
    with allowing_code(allow_code):
        return _verified(where, table, keep)


def _verified(where: str | PathLike[str], table: str | Path | None, keep: int | None) -> Report:
    folder, links_into, commit = _locate(where)
    report = Report(str(where) if commit else str(folder), keep, commit)
    files = inventory(folder, links_into, report)
    manifest = read_document(files, MANIFEST, report)
    set_own_pictures_aside(files, manifest, report)
    with report.checking("names of the files"):
        check_names(files, report)
    with report.checking("hash and size of every file"):
        if MANIFEST in files:
            check_manifest(files, manifest, report)
    origin = read_origin(files, report)
    if origin is None:
        report.not_checked.append("pairs, drops, splits, ledger, card: the recipe can't be read")
        return report
    if table is not None and origin.recipe is not None:
        raise InputError(
            f"{str(folder)!r} is the dataset of a build, which contains its answers",
            valid="--table for datasets of `prefdata pair`",
            hint="leave --table out",
        )
    scored, kept = (None, None) if table is None else _of_table(table, origin)
    try:
        Contents(files, origin, scored, report, kept).check()
    except (DamagedError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        report.add("unreadable", "Parquet files", expected="tables that can be read", found=str(error))
        report.not_checked.append("everything after the table that can't be read")
    return report


_FILES = ("*.md", "*.json", "*.jsonl", "*.parquet", "*/*.parquet", "*/*.json", "*/*.jsonl", *PICTURES)


def _locate(where: str | PathLike[str]) -> tuple[Path, Path, str | None]:
    """Returns the dataset folder, the folder into which its links may lead, and the commit of a download."""
    dataset = hub.find_dataset(where, only=_FILES)
    if dataset.commit is not None:
        # The client's cache has the files elsewhere in the repository's folder, and links to them.
        return dataset.path, dataset.path.parent.parent, dataset.commit
    folder = dataset.path
    if not folder.is_dir():
        raise InputError(
            f"{str(where)!r} is not a folder",
            valid="a dataset folder, a build folder, or owner/name of a dataset of the Hub",
            hint="check the path; a relative one starts at the current folder",
        )
    if not (folder / "ledger.json").exists() and (folder / "dataset" / "ledger.json").exists():
        folder = folder / "dataset"
    if not any((folder / name).exists() for name in ("ledger.json", "recipe.json", MANIFEST)):
        raise InputError(f"{str(where)!r} holds no dataset of prefdata", valid="a dataset folder or a build folder")
    return folder, folder, None


def _of_table(where: str | Path, origin: Origin) -> tuple[ScoredTable, Kept | None]:
    """Reads the table that a dataset says it was made of, and the columns of it that travel along."""
    # The one file that a split is in has neither configurations nor splits.
    has_parts = str(where).startswith("hf:") or Path(where).expanduser().is_dir()
    table = hub.find_table(where, *((origin.config, origin.split) if has_parts else ())).table
    if origin.limit is None:
        file = ScoredTableFile(table, origin.columns)
    else:
        file = FirstPrompts(table, origin.columns, origin.limit)
    return read_whole(file, named=origin.named), kept_of_table(file, origin.keep) if origin.keep else None
