"""`find_tables`: the tables of one configuration of a dataset, split by split, as `load_dataset` would read them.

Several configurations are never mixed: one is the default, or one must be named.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeGuard, TypeVar

from prefdata.errors import InputError, closest
from prefdata.hub._client import client
from prefdata.hub.cards import CARDS, check_card
from prefdata.hub.data_files import ShownFiles, shown_files
from prefdata.hub.reading import download_dataset
from prefdata.hub.where import Found, find_dataset, repo_and_revision
from prefdata.tables import files as tables_here
from prefdata.tables.documents import check_regular, read_text
from prefdata.tables.shards import saved_files, saved_splits
from prefdata.tables.table import Table

__all__ = ["DatasetTables", "find_tables", "is_path", "name_of"]

_Part = TypeVar("_Part")
_MOST_FILES = 200_000
"""Most files of a folder."""


@dataclass(frozen=True, slots=True)
class DatasetTables:
    """The tables of one configuration of a dataset, on this machine."""

    path: Path | None
    """The folder, or the one file; None of frames."""
    commit: str | None
    """The commit of a dataset of the Hub."""
    config: str | None
    """Name of the configuration; None for one file, and where there is only one."""
    splits: Mapping[str, tuple[Path | Table, ...]]
    """Split → its files with rows, in order, or its frame as a table: those that were asked for."""
    all_splits: tuple[str, ...]
    """Every split of the configuration."""
    all_configs: tuple[str, ...]
    """Every configuration of the dataset."""


def is_path(where: object) -> TypeGuard[str | PathLike[str]]:
    """Checks whether something is a path or a name, and not a table: a frame, a pattern of files, or standard input."""
    return isinstance(where, str | PathLike) and not tables_here.is_pattern(where) and os.fspath(where) != "-"


def name_of(where: tables_here.TableLike) -> str:
    """Returns how messages and reports call a dataset: its path or name, and frames by what they are."""
    if isinstance(where, str | PathLike) and os.fspath(where) != "-":
        return os.fspath(where)
    return f"a {type(where).__name__} of tables" if isinstance(where, Mapping) else tables_here.label_of(where)


def find_tables(
    where: tables_here.TableLike, *, config: str | None = None, split: str | None = None, one_split: bool = False
) -> DatasetTables:
    """Finds a file, or the tables of a folder or a dataset of the Hub; of the latter only these files are downloaded.

    Args:
        where: a file, a folder (also one of `save_to_disk`), a build, or `owner/name[@revision]` of the Hub: see
            `prefdata.hub.where`; or split → table (a `DatasetDict`), or one table: see
            `prefdata.tables.files.open_table`.
        config: name of the configuration; None takes the default one.
        split: name of the split; None takes all.
        one_split: take one split; without a name `train`, or the only one.

    Raises:
        InputError: there is no such dataset, configuration or split; several configurations and no default one;
            several splits where one is asked for; or the card names files elsewhere.
        MissingExtraError: `datasets` is not installed, whose rules are followed.
    """
    if not is_path(where):
        return _of_frames(where, config, split, one_split)
    found = find_dataset(where, only=CARDS)
    what = repr(str(where))
    if found.commit is None and not found.path.is_dir():
        return _one_file(found.path, config, split)
    if found.commit is None and (saved := saved_splits(found.path)) is not None:
        return _of_saved(found.path, saved, config, split, one_split)
    cards = _cards(found, what)
    chosen: list[tuple[ShownFiles, str, dict[str, tuple[str, ...]]]] = []

    def wanted(names: Sequence[str]) -> list[str]:
        shown = shown_files(names, cards, f"the dataset {what}")
        name = _config(shown, config, what, names)
        splits = _splits(shown.configs[name], split, one_split, what)
        chosen.append((shown, name, splits))
        return [file for files in splits.values() for file in files]

    folder = found.dataset
    if found.commit is None:
        wanted(_names(folder))
    else:
        named = repo_and_revision(str(where))
        assert named is not None
        folder, _ = download_dataset(named[0], found.commit, only=wanted)
        if not chosen:
            # Without the Hub: what of this commit was fetched before.
            wanted(_names(folder))
    shown, name, splits = chosen[0]
    for files in splits.values():
        for file in files:
            check_regular(folder / file, folder)
    return DatasetTables(
        folder,
        found.commit,
        name if len(shown.configs) > 1 else None,
        {split: tuple(tables_here.with_rows([folder / file for file in files])) for split, files in splits.items()},
        tuple(shown.configs[name]),
        tuple(shown.configs),
    )


def _of_frames(where: tables_here.TableLike, config: str | None, split: str | None, one_split: bool) -> DatasetTables:
    what = name_of(where)
    if config is not None:
        raise InputError(f"{what} has no configuration {config!r}", hint="leave `config` out")
    frames = where if isinstance(where, Mapping) else {"train": where}
    if not frames:
        raise InputError(f"{what} holds no table", valid="split → frame")
    tables = {str(name): (tables_here.open_table(frame),) for name, frame in frames.items()}
    return DatasetTables(None, None, None, _splits(tables, split, one_split, what), tuple(tables), ())


def _of_saved(
    folder: Path, saved: Mapping[str, Path], config: str | None, split: str | None, one_split: bool
) -> DatasetTables:
    what = repr(str(folder))
    if config is not None:
        raise InputError(f"{what} has no configuration {config!r}", hint="leave --config out")
    chosen = _splits({name: (each,) for name, each in saved.items()}, split, one_split, what)
    parts = {name: tuple(tables_here.with_rows(saved_files(each))) for name, (each,) in chosen.items()}
    return DatasetTables(folder, None, None, parts, tuple(saved), ())


def _one_file(path: Path, config: str | None, split: str | None) -> DatasetTables:
    for what, option, value in (("configuration", "--config", config), ("split", "--split", split)):
        if value is not None:
            raise InputError(
                f"{str(path)!r} is not a folder, so it has no {what} {value!r}", hint=f"leave {option} out"
            )
    return DatasetTables(path, None, None, {"train": (path,)}, ("train",), ())


def _cards(found: Found, what: str) -> dict[str, str]:
    folder = found.dataset
    cards = {name: read_text(folder / name, folder) for name in CARDS if (folder / name).is_file()}
    for name, text in cards.items():
        check_card(client(), what.strip("'"), text, name)
    return cards


def _names(folder: Path) -> list[str]:
    """Lists the files of a folder; folders that are links, and hidden ones, are left out."""
    names: list[str] = []
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(directory).relative_to(folder)
        names += [(here / name).as_posix() for name in sorted(files)]
        if len(names) > _MOST_FILES:
            raise InputError(
                f"{str(folder)!r} holds more than {_MOST_FILES:,} files", hint="name a folder or file in it"
            )
    return names


def _config(shown: ShownFiles, config: str | None, what: str, names: Sequence[str]) -> str:
    files = [file for splits in shown.configs.values() for files in splits.values() for file in files]
    saved = any(name.rpartition("/")[2] in ("state.json", "dataset_dict.json") for name in names)
    saved = saved or any(file.endswith(".arrow") for file in files)
    if not files or saved:
        raise InputError(
            f"{what} holds no table that `load_dataset` would read",
            valid="a dataset folder as the Hub has it, or one table",
            hint="a folder of `save_to_disk`: datasets.load_from_disk(FOLDER).to_parquet(FILE)" if saved else None,
        )
    if config is not None and config not in shown.configs:
        raise InputError(
            f"{what} has no configuration {config!r}", valid=f"configurations: {closest(config, shown.configs)}"
        )
    name = config or shown.default
    if name is None and len(shown.configs) > 1:
        raise InputError(
            f"{what} has several configurations and no default one",
            valid=f"configurations: {closest('', shown.configs)}",
            hint="name one of them: --config NAME",
        )
    return name or next(iter(shown.configs))


def _splits(
    splits: Mapping[str, tuple[_Part, ...]], split: str | None, one_split: bool, what: str
) -> dict[str, tuple[_Part, ...]]:
    if split is not None and split not in splits:
        raise InputError(f"{what} has no split {split!r}", valid=f"splits: {closest(split, splits)}")
    if split is None and one_split:
        if len(splits) > 1 and "train" not in splits:
            raise InputError(
                f"{what} has several splits, and none of them is 'train'",
                valid=f"splits: {closest('', splits)}",
                hint="name one of them: --split NAME",
            )
        split = "train" if "train" in splits else next(iter(splits))
    chosen = {name: files for name, files in splits.items() if split in (None, name)}
    for name, files in chosen.items():
        if not files:
            raise InputError(f"{what} names files of the split {name!r} that are not there", hint="fix its README.md")
    return chosen
