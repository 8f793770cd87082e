"""One reading of "a table": of this machine, or one split of a dataset of the Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from prefdata.errors import InputError
from prefdata.hub.cards import CARDS
from prefdata.hub.dataset_tables import find_tables, is_path
from prefdata.hub.reading import dataset_table, resolve_dataset
from prefdata.hub.where import repo_and_revision
from prefdata.tables import files, shards
from prefdata.tables.documents import read_text
from prefdata.tables.table import Table

__all__ = ["FoundTable", "find_table"]

_HUB = "hf:"
_CONFIGS = re.compile(r"^configs:", re.MULTILINE)


class FoundTable(NamedTuple):
    """A table, and what it is called."""

    table: Table
    label: str
    """Its name on a card; holds no path of this machine."""


def _is_dataset(folder: Path, config: str | None) -> bool:
    """Checks whether a folder is one as the Hub has it: its tables are named by a card, or in further folders."""
    if config is not None or not folder.is_dir():
        return folder.is_dir()
    cards = (folder / name for name in CARDS)
    if any(_CONFIGS.search(read_text(card, folder)) for card in cards if card.is_file()):
        return True
    return not shards.is_flat(folder) and any(child.is_dir() for child in folder.iterdir())


def find_table(where: files.TableLike, config: str | None = None, split: str | None = None) -> FoundTable:
    """Opens a table.

    Args:
        where: `hf:owner/name` or `hf:owner/name@revision` of the Hub, or see `prefdata.tables.files.open_table`.
        config: the configuration of a dataset, of the Hub or as the Hub has it; None takes its default.
        split: the split of a dataset of the Hub, or of a folder; None takes `train`.

    Raises:
        InputError: there is no such table.
        MissingExtraError: `datasets` is not installed.
    """
    if not isinstance(where, str) or not where.startswith(_HUB):
        label = files.label_of(where)
        if is_path(where) and _is_dataset(Path(where).expanduser(), config):
            found = find_tables(Path(where), config=config, split=split, one_split=True)
            paths = [path for paths in found.splits.values() for path in paths if isinstance(path, Path)]
            shards.check_one_format(Path(where), paths)
            table = files.open_files(repr(str(where)), paths)
            table.other_splits = tuple(name for name in found.all_splits if name not in found.splits)
            return FoundTable(table, label)
        if config is not None:
            raise InputError(f"{label!r} has no configuration {config!r}", valid="--config with a dataset")
        return FoundTable(files.open_table(where, split), label)
    named = repo_and_revision(where)
    if named is None:
        raise InputError(
            f"{where!r} is not a name of a dataset of the Hub", valid="hf:owner/name or hf:owner/name@revision"
        )
    repo, revision = named
    sha = resolve_dataset(repo, revision)
    return FoundTable(dataset_table(repo, config, split or "train", sha), f"{repo}@{sha}")
