"""One reading of "a table": of this machine, or one split of a dataset of the Hub."""

from __future__ import annotations

from typing import NamedTuple

from prefdata.errors import InputError
from prefdata.hub.reading import dataset_table, resolve_dataset
from prefdata.hub.where import repo_and_revision
from prefdata.tables import files
from prefdata.tables.table import Table

__all__ = ["FoundTable", "find_table"]

_HUB = "hf:"


class FoundTable(NamedTuple):
    """A table, and what it is called."""

    table: Table
    label: str
    """Its name on a card; holds no path of this machine."""


def find_table(where: files.TableLike, config: str | None = None, split: str | None = None) -> FoundTable:
    """Opens a table.

    Args:
        where: `hf:owner/name` or `hf:owner/name@revision` of the Hub, or see `prefdata.tables.files.open_table`.
        config: the configuration of a dataset of the Hub; None takes its default.
        split: the split of a dataset of the Hub, or of a folder; None takes `train`.

    Raises:
        InputError: there is no such table.
        MissingExtraError: `datasets` is not installed.
    """
    if not isinstance(where, str) or not where.startswith(_HUB):
        label = files.label_of(where)
        if config is not None:
            raise InputError(f"{label!r} has no configuration {config!r}", valid="--config with hf:owner/name")
        return FoundTable(files.open_table(where, split), label)
    named = repo_and_revision(where)
    if named is None:
        raise InputError(
            f"{where!r} is not a name of a dataset of the Hub", valid="hf:owner/name or hf:owner/name@revision"
        )
    repo, revision = named
    sha = resolve_dataset(repo, revision)
    return FoundTable(dataset_table(repo, config, split or "train", sha), f"{repo}@{sha}")
