"""Which files make a table: one file, the shards of a folder or a pattern, the folder of `save_to_disk`."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prefdata.errors import InputError
from prefdata.spec.quoting import closest_of
from prefdata.tables.documents import check_regular, read_object

__all__ = [
    "Layout",
    "Parts",
    "check_one_format",
    "existing",
    "files_of",
    "is_blank",
    "is_flat",
    "is_pattern",
    "layout_of",
    "saved_files",
    "saved_splits",
    "split_of",
]

_CODECS = {".gz": "gzip", ".zst": "zstd"}
_TEXTS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "tsv"}
_ENDINGS = [".parquet", ".arrow", *_TEXTS]
_VALID = f"{', '.join(_ENDINGS)}; the text ones also with {' or '.join(_CODECS)}"
_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")
_SHARD = re.compile(r"(?P<split>.+?)[-_.]?(?:\d+(?:-of-\d+)?)?")
_OF_DATASETS = ("dataset_info.json", "state.json", "dataset_dict.json")
"""Documents that `save_to_disk` puts beside the data."""


class Layout(NamedTuple):
    """The format and the compression that a file's name says."""

    kind: str
    """`parquet`, `arrow`, `json`, `csv` or `tsv`."""
    codec: str | None


class Parts(NamedTuple):
    """The files of a table, in order."""

    files: list[Path]
    other_splits: tuple[str, ...] = ()
    """Splits of the same folder that are not the table's."""


def layout_of(path: Path) -> Layout:
    """Returns the layout of a file that is there and not empty.

    Raises:
        InputError: it is not a file, is empty, or its name has no ending of a table.
    """
    existing(path)
    if path.name in _OF_DATASETS:
        raise InputError(
            f"{str(path)!r} describes a folder of `save_to_disk`, and is not a table",
            hint=f"name the folder: {str(path.parent)!r}",
        )
    found = _ending(path)
    if found is None:
        raise InputError(f"{str(path)!r} has an unknown ending {''.join(path.suffixes)!r}", valid=_VALID)
    if path.stat().st_size == 0:
        raise InputError(f"{str(path)!r}: the file is empty")
    return found


def existing(path: Path) -> Path:
    """Returns the path of a file that is there.

    Raises:
        InputError: it is not a file.
    """
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder, not a file", valid=_VALID, hint="name one file")
    if path.exists() and not path.is_file():
        raise InputError(f"{str(path)!r} is a pipe or a device, not a file", valid=_VALID)
    if not path.is_file():
        near = sorted(child.name for child in path.parent.iterdir()) if path.parent.is_dir() else []
        raise InputError(
            f"{str(path)!r} does not exist",
            valid=closest_of(path.name, near) if 0 < len(near) <= 20 else None,
            hint="check the path; a relative one starts at the current folder",
        )
    return path


def is_blank(path: Path) -> bool:
    """Checks whether a file is plain text without a byte. Every other format begins with something."""
    found = _ending(path)
    return (
        found is not None and found.kind in _TEXTS.values() and not found.codec and existing(path).stat().st_size == 0
    )


def files_of(path: Path, split: str | None = None) -> Parts:
    """Finds the files of a table; a path that is not there is returned as it is.

    Args:
        path: a file, a folder, or a pattern with `*`, `?` or `[...]`.
        split: the split of a folder that has several; None takes `train`, or the only one.

    Raises:
        InputError: there are no tables, or no such split.
    """
    if path.is_dir():
        return _of_folder(path, split)
    if not is_pattern(path):
        return Parts([path])
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207 - a pattern may begin at the root
    found = [each for each in found if each.is_file()]
    if not found:
        raise InputError(f"no file matches {str(path)!r}", hint="check the pattern; a relative one starts here")
    return Parts(found)


def is_pattern(path: Path) -> bool:
    """Checks whether a path is a pattern of files, and not the name of one that is there."""
    return glob.has_magic(str(path)) and not path.exists()


def split_of(name: str) -> str:
    """Returns the split that a file's name says: `train` of `train-00000-of-00002.parquet`."""
    stem = name.partition(".")[0]
    match = _SHARD.fullmatch(stem)
    return match["split"] if match else stem


def _ending(path: Path) -> Layout | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".parquet"]:
        return Layout("parquet", None)
    if suffixes[-1:] == [".arrow"]:
        return Layout("arrow", None)
    codec = _CODECS.get(suffixes[-1]) if suffixes else None
    kind = _TEXTS.get(suffixes[-2 if codec and len(suffixes) > 1 else -1]) if suffixes else None
    return Layout(kind, codec) if kind else None


def _of_folder(folder: Path, split: str | None) -> Parts:
    if (saved := saved_splits(folder)) is not None:
        taken = _taken(folder, saved, split)
        return Parts(saved_files(saved[taken]), tuple(name for name in saved if name != taken))
    if tables := _tables_of(folder):
        return _shards(folder, tables, split)
    raise InputError(
        f"{str(folder)!r} is a folder without a table",
        valid=f"a folder of `save_to_disk`, or of files {_VALID}",
        hint=f"name one file; of files in folders within it, a pattern in quotes: '{folder}/**/*.parquet'",
    )


def saved_splits(folder: Path) -> dict[str, Path] | None:
    """Returns split → its folder of what `save_to_disk` wrote; None for another folder.

    Raises:
        InputError: the splits are not folders in it.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = read_object(folder / "dataset_dict.json", folder).get("splits")
        names = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
        if not names or any(Path(name).name != name or name == ".." for name in names):
            raise InputError(
                f"{str(folder)!r} does not list its splits as `save_to_disk` does", hint="save the dataset again"
            )
        return {name: folder / name for name in names}
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return {"train": folder}
    return None


def saved_files(folder: Path) -> list[Path]:
    """Returns the Arrow files of one split that `save_to_disk` wrote, in its order.

    Raises:
        InputError: it has none, or one leads out of the folder.
    """
    listed = read_object(folder / "state.json", folder).get("_data_files")
    names = [each.get("filename") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    paths = [folder / Path(str(name)).name for name in names]
    for path in paths:
        check_regular(path, folder)
    if not paths:
        raise InputError(f"{str(folder)!r} has no rows", hint="save the dataset again")
    return paths


def is_flat(folder: Path) -> bool:
    """Checks whether a folder has its tables directly in it, or in `data`, as those of one dataset."""
    return bool(_tables_of(folder))


def _tables_of(folder: Path) -> list[Path]:
    places = (place for place in (folder, folder / "data") if place.is_dir())
    return next((tables for place in places if (tables := _tables(folder, place.iterdir()))), [])


def _tables(folder: Path, paths: Iterable[Path]) -> list[Path]:
    found = sorted(path for path in paths if _ending(path) is not None and path.name not in _OF_DATASETS)
    # A data file is never one of these; documents are, in any folder of a dataset.
    found = [path for path in found if path.is_file() and not (path.suffix == ".json" and _is_document(path))]
    for path in found:
        check_regular(path, folder)
    return found


def _is_document(path: Path) -> bool:
    return path.name.startswith(("prefdata.", ".")) or path.name in ("ledger.json", "recipe.json", "config.json")


def _shards(folder: Path, paths: Sequence[Path], split: str | None) -> Parts:
    splits: dict[str, list[Path]] = {}
    for path in paths:
        splits.setdefault(split_of(path.name), []).append(path)
    if split is None and not any(name.split("_")[0] in _SPLITS for name in splits):
        found = Parts(list(paths))
    else:
        taken = _taken(folder, splits, split)
        found = Parts(splits[taken], tuple(name for name in splits if name != taken))
    check_one_format(folder, found.files)
    return found


def check_one_format(folder: Path, paths: Sequence[Path]) -> None:
    """Refuses files of several formats as one table: often they are the same rows twice.

    Raises:
        InputError: there are several.
    """
    if len({_format(path) for path in paths}) > 1:
        raise InputError(
            f"{str(folder)!r} holds tables of several formats",
            valid=f"files in it: {', '.join(path.name for path in paths[:20])}{' ...' if len(paths) > 20 else ''}",
            hint="name one file, or a pattern in quotes, for instance 'FOLDER/*.parquet'",
        )


def _format(path: Path) -> str:
    """Returns the ending that says the format: `.jsonl.gz` of `a.b.jsonl.gz`."""
    suffixes = path.name.lower().split(".")
    return ".".join(suffixes[-2 if f".{suffixes[-1]}" in _CODECS else -1 :])


def _taken(folder: Path, splits: Mapping[str, object], split: str | None) -> str:
    taken = split or ("train" if "train" in splits or len(splits) != 1 else next(iter(splits)))
    if taken not in splits:
        raise InputError(
            f"{str(folder)!r} has no split {taken!r}",
            valid=f"splits: {closest_of(taken, splits)}",
            hint="name one: --split NAME",
        )
    return taken
