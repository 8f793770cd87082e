"""One reading of "a folder, a build, a file, a dataset of the Hub, or a folder of an object store"."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from prefdata.errors import InputError
from prefdata.hub.named_files import Wanted
from prefdata.hub.object_store import is_remote
from prefdata.hub.reading import download_dataset
from prefdata.hub.remote_folder import fetch_folder

__all__ = ["MARKS", "Found", "at_commit", "find_dataset", "is_ours", "repo_and_revision"]

_HUB = "hf:"
_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^@]+))?")
_ENDINGS = {".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".arrow", ".gz", ".zst", ".py", ".md", ".txt"}
_MODEL = ("config.json", "adapter_config.json")
_VALID = "a file, a dataset folder, a build folder, or a dataset of the Hub: owner/name or owner/name@revision"


MARKS = ("ledger.json", "prefdata.manifest.json")
"""Files of a dataset folder of prefdata, by which it is known."""


def is_ours(folder: Path) -> bool:
    """Checks whether a folder is a dataset of prefdata."""
    return any((folder / name).is_file() for name in MARKS)


@dataclass(frozen=True, slots=True)
class Found:
    """Where something is on this machine."""

    path: Path
    commit: str | None
    """The commit of a dataset that was downloaded; None for what was here already."""

    @property
    def dataset(self) -> Path:
        """The dataset folder: within `path` where that is a build folder, otherwise `path` itself."""
        inner = self.path / "dataset"
        return inner if inner.is_dir() and not (self.path / "data").is_dir() else self.path


def repo_and_revision(name: str) -> tuple[str, str | None] | None:
    """Reads `owner/name` or `owner/name@revision`, with or without `hf:` before it; None where it is neither."""
    named = _NAME.fullmatch(name.removeprefix(_HUB))
    return (named["repo"], named["revision"]) if named else None


def at_commit(where: str | PathLike[str], found: Found) -> str | PathLike[str]:
    """Names the same commit of a dataset of the Hub again; what is here has its own name."""
    named = repo_and_revision(str(where)) if found.commit is not None else None
    return where if named is None else f"hf:{named[0]}@{found.commit}"


def find_dataset(where: str | PathLike[str], *, only: Wanted) -> Found:
    """Finds a file or folder of this machine, or downloads a dataset of the Hub or of an object store.

    A `Path` (or a build), a text with the ending of a file, and a text whose first part exists here are paths.
    `hf:owner/name` is a dataset of the Hub. `s3://bucket/folder`, or another address that fsspec knows, is a build or
    dataset folder on an object store, whose dataset is fetched whole. Any other `owner/name` is what is here under this
    path, or else a dataset of the Hub.

    Args:
        where: the path, or the name of the dataset.
        only: which files of a dataset of the Hub to download.

    Raises:
        InputError: there is no such path, and no such dataset either; or it is the folder of a trained model.
        MissingExtraError: `huggingface_hub`, or the package for a kind of store, is not installed.
        StoreError: the store can't be read.
    """
    text = os.fspath(where)
    if is_remote(where):
        return Found(fetch_folder(where), None)
    named = repo_and_revision(text)
    if isinstance(where, str) and text.startswith(_HUB):
        if named is None:
            raise InputError(
                f"{text!r} is not a name of a dataset of the Hub", valid="hf:owner/name or hf:owner/name@revision"
            )
        return _downloaded(*named, only)
    path = Path(text).expanduser()
    if path.exists():
        _refuse_model(path)
        return Found(path, None)
    if not isinstance(where, str) or _is_path(text):
        raise InputError(
            f"there is no file or folder {text!r}",
            valid=_VALID,
            hint="check the path; a relative one starts at the current folder"
            + (f". For a dataset of the Hub: hf:{text}" if named and isinstance(where, str) else ""),
        )
    if named is None:
        raise InputError(f"{text!r} is neither a file or folder here nor a name of a dataset of the Hub", valid=_VALID)
    try:
        return _downloaded(*named, only)
    except InputError as error:
        raise InputError(
            f"{text!r} is neither a file or folder here nor a dataset of the Hub: {error.problem}",
            valid=error.valid or _VALID,
            hint=error.hint,
        ) from error


def _refuse_model(path: Path) -> None:
    # A file `training.json` alone may be a table.
    if (path / "training.json").is_file() and any((path / name).is_file() for name in _MODEL):
        raise InputError(
            f"{str(path)!r} is the folder of a trained model, not a dataset",
            valid=_VALID,
            hint="name the dataset that it was trained on; prefdata evaluate and prefdata push take models",
        )


def _downloaded(repo: str, revision: str | None, only: Wanted) -> Found:
    return Found(*download_dataset(repo, revision, only=only))


def _is_path(text: str) -> bool:
    first = Path(text).parts[0] if Path(text).parts else ""
    begins = text.startswith((".", "~", "/")) or Path(text).is_absolute()
    return begins or Path(text).suffix.lower() in _ENDINGS or ("/" in text and Path(first).exists())
