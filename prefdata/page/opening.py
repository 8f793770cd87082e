"""Finds out what a page is asked for: a build, a dataset of prefdata, anybody's table, or an evaluated model."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

from prefdata.errors import InputError, UserError
from prefdata.hub import CARDS, MARKS, Found, at_commit, find_dataset, is_ours, repo_and_revision
from prefdata.page.build_source import BuildSource
from prefdata.page.comparing import ComparedSource
from prefdata.page.dataset_source import DatasetSource
from prefdata.page.described import document
from prefdata.page.evaluation_source import EvaluationSource, is_evaluation
from prefdata.page.sources import Source
from prefdata.page.table_source import TableSource

__all__ = ["open_source"]

_FILES = (
    *("README.md", "*.json", "drops.parquet", "drops_candidates.parquet"),
    *("data/*.parquet", "trace/*.parquet", "candidates/*.parquet"),
)


def open_source(
    where: str | PathLike[str], compare: str | PathLike[str] | None = None, config: str | None = None
) -> Source:
    """Opens what a page shows.

    Args:
        where: see `prefdata.page.write_page`.
        compare: see there.
        config: see there.

    Raises:
        UserError: there is nothing to show, or nothing of the same kind to compare it with.
    """
    path = Path(os.fspath(where)).expanduser()
    if not is_evaluation(path):
        source = _dataset(where, config)
        if compare is None:
            return source
        return ComparedSource(source, _dataset(compare, config), Path(os.fspath(compare)).name)
    other = None if compare is None else Path(os.fspath(compare)).expanduser()
    if other is not None and not is_evaluation(other):
        raise InputError(
            f"{str(where)!r} is an evaluated model, and {str(compare)!r} is not",
            valid="another evaluated model",
            hint="prefdata evaluate MODEL --suite alpaca_eval makes one",
        )
    return EvaluationSource(path, other)


def _dataset(where: str | PathLike[str], config: str | None) -> Source:
    if config is None and _is_build(path := Path(os.fspath(where)).expanduser()):
        try:
            return BuildSource(path)
        except UserError:
            # A finished build has a dataset, which says enough where its stages can't be read.
            if not is_ours(path / "dataset"):
                raise
    found = find_dataset(where, only=(*MARKS, *CARDS))
    if config is None and found.dataset.is_dir() and is_ours(found.dataset):
        found = find_dataset(at_commit(where, found), only=_FILES)
        return _ours(where, found)
    return TableSource(at_commit(where, found), _title(where, found), config)


def _ours(where: str | PathLike[str], found: Found) -> Source:
    folder = found.dataset
    title = str(document(folder, "recipe.json").get("name") or _title(where, found))
    if any(folder.glob("candidates/*.parquet")):
        return DatasetSource(folder, title, found.commit)
    return TableSource(at_commit(where, found), title, folder=folder)


def _is_build(path: Path) -> bool:
    return path.is_dir() and (path / "prefdata.lock.json").is_file() and (path / "stages").is_dir()


def _title(where: str | PathLike[str], found: Found) -> str:
    """Names the dataset without the path of this machine."""
    named = repo_and_revision(str(where)) if found.commit is not None else None
    return found.path.resolve().name if named is None else named[0]
