"""`fetch_folder`: a dataset folder on an object store, on this machine; fetched again only when it has changed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from prefdata.errors import InputError, StoreError
from prefdata.hub.named_files import say
from prefdata.hub.object_store import BEING_REPLACED, ObjectStore
from prefdata.spec import JSON, fingerprint
from prefdata.tables.own_files import cache_folder

__all__ = ["fetch_folder"]

_BUILD = ("prefdata.lock.json", "prefdata.recipe.json")
_CHANGES = ("size", "ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "mtime", "created")
"""What stores say of an object that becomes another when it is written again."""
_MOST_FILES = 200_000
_LARGE = 256 << 20
"""Bytes from which on the size is said before anything is fetched."""


def fetch_folder(url: str) -> Path:
    """Fetches a dataset folder, or the dataset of a build folder, and returns where it is.

    Raises:
        InputError: there is nothing, or a build that is not finished.
        StoreError: the store can't be read, or the folder changed while it was read.
    """
    store = ObjectStore(url, say)
    files = store.files()
    if BEING_REPLACED in files:
        raise StoreError(
            f"the dataset in {url!r} is being replaced by a build, or one was killed over it",
            hint=f"wait for the build to end, or finish it: prefdata build RECIPE --out {url}",
        )
    if any(name in files for name in _BUILD) or any(name.startswith("stages/") for name in files):
        files = {name: info for name, info in files.items() if name.startswith("dataset/")}
        if "dataset/prefdata.manifest.json" not in files:
            raise InputError(
                f"{url!r} holds a build that is not finished",
                valid="a finished build, or a dataset folder",
                hint=f"prefdata build RECIPE --out {url}: it goes on where it stopped",
            )
    files = {name: info for name, info in files.items() if not name.startswith(".")}
    if not files or len(files) > _MOST_FILES:
        what = f"more than {_MOST_FILES:,} files" if files else "no files"
        raise InputError(f"{url!r} holds {what}", valid="a build folder, or a dataset folder", hint="check the address")
    state = fingerprint([url, {name: _state(info) for name, info in files.items()}])
    inner = "dataset" if all(name.startswith("dataset/") for name in files) else ""
    target = _cache() / state[:32]
    if not target.is_dir():
        _fetch(store, {name: int(info["size"] or 0) for name, info in files.items()}, target)
    return target / inner


def _fetch(store: ObjectStore, sizes: dict[str, int], target: Path) -> None:
    total = sum(sizes.values())
    if total > _LARGE:
        say(f"fetching {len(sizes):,} files of {store.url}, {total / 1e9:,.1f} GB")
    partial = Path(tempfile.mkdtemp(prefix=".fetching-", dir=target.parent))
    try:
        files = {name: partial / name for name in sizes}
        for folder in {path.parent for path in files.values()}:
            folder.mkdir(parents=True, exist_ok=True)
        store.fetch(files)
        if any(path.stat().st_size != sizes[name] for name, path in files.items()):
            raise StoreError(f"{store.url!r} changed while it was read", hint="run the same command again")
        if not target.is_dir():
            partial.rename(target)
    except OSError as error:
        raise StoreError(
            f"{str(target)!r} can't be written: {error.strerror or error}",
            hint="free some space, or name another folder in XDG_CACHE_HOME",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _cache() -> Path:
    folder = cache_folder() / "folders"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"{str(folder)!r} can't be written: {error.strerror or error}", hint="name another folder in XDG_CACHE_HOME"
        ) from error
    return folder


def _state(info: dict[str, JSON]) -> JSON:
    return {key: str(info[key]) for key in _CHANGES if key in info}
