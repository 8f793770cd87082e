"""`ObjectStore`: a folder of an object store (S3, Google Cloud Storage, ...), read and written through fsspec.

The packages take address, region and keys from their own environment variables and files; none is kept or shown here.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from prefdata.errors import MissingExtraError, StoreError, closest, printable

__all__ = ["BEING_REPLACED", "ObjectStore", "is_remote"]

BEING_REPLACED = ".writing/dataset"
"""Name of an object that is there while the dataset of a build folder has files of two datasets."""
_ADDRESS = re.compile(r"([a-z][a-z0-9+.:-]*?)://.*", re.DOTALL)
_NOT_STORES = frozenset({"http", "https", "file", "local"})
"""Schemes of addresses that are not folders of an object store."""
_CONDITIONAL = frozenset({"s3", "s3a", "gs", "gcs", "memory"})
"""Schemes of stores that write an object only where there is none, and say when there is one."""
_PATIENCE_S = 90.0
"""How long an answer of a store is waited for, beyond what its package waits itself."""
_LONGEST_PAUSE_S = 10.0
_AT_ONCE = 16
_LARGE = 32 << 20
"""Bytes from which on a file is sent by itself, piece by piece."""
_SECRETS = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL")
_AGAIN = "run the same command again: it goes on where it stopped"

T = TypeVar("T")


def is_remote(where: object) -> TypeGuard[str]:
    """Checks whether something is the address of a folder of an object store: `s3://bucket/folder`, `gs://...`."""
    match = _ADDRESS.fullmatch(where) if isinstance(where, str) else None
    return match is not None and match[1] not in _NOT_STORES


class ObjectStore:
    """A folder of an object store. Names are relative to it; an object appears whole or not at all.

    Args:
        url: the folder's address.
        log: receives what a user should know, one line a call.

    Raises:
        MissingExtraError: the package for stores of this kind is not installed.
        StoreError: it is not an address, or there is no package for it.
    """

    def __init__(self, url: str, log: Callable[[str], None] = lambda _: None) -> None:
        self.url, self._log = url.rstrip("/"), log
        self._fs, self._root = _opened(url)
        self.conditional = self.url.partition(":")[0] in _CONDITIONAL
        """Whether `create` refuses, in one step, what is there."""

    def files(self, under: str = "") -> dict[str, dict[str, Any]]:
        """Lists the files below a folder: name → what the store says of it; `size` is always there.

        Raises:
            StoreError: the folder can't be listed, or what it is in does not exist.
        """
        root = f"{self._root}/{under}".rstrip("/")
        try:
            listed = self._patiently(lambda: self._fs.find(root, detail=True), "read")
        except FileNotFoundError as error:
            if not self._patiently(self._container_exists, "read"):
                raise self._error(error, "read") from error
            listed = {}
        skip = len(self._root) + 1
        named = {name[skip:]: info for name, info in listed.items() if info.get("type") != "directory"}
        return {name: info for name, info in sorted(named.items()) if _is_name(name)}

    def _container_exists(self) -> bool:
        path = str(self._root)
        while path := path.rpartition("/")[0]:
            if self._fs.exists(path):
                return True
        return bool(self._fs.exists(self._root))

    def read(self, name: str) -> bytes | None:
        """Reads a file whole; returns None where there is none."""
        try:
            return bytes(self._patiently(lambda: self._fs.cat_file(self._path(name)), "read"))
        except FileNotFoundError:
            return None

    def fetch(self, files: Mapping[str, Path]) -> None:
        """Fetches files: name → where it is written, which is whole only when this returns.

        Raises:
            StoreError: one of them is gone, or can't be read.
        """
        for names in _groups(sorted(files)):
            remote, local = [self._path(name) for name in names], [str(files[name]) for name in names]
            try:
                self._patiently(partial(self._fs.get, remote, local), "read")
            except FileNotFoundError as error:
                raise self._error(error, "read", f"a file was removed while it was read: {error}") from error

    def put(self, files: Mapping[str, Path]) -> None:
        """Puts files of this machine, each whole or not at all: name → file. One that is gone is left out.

        Raises:
            StoreError: they can't be written.
        """
        contents: dict[str, bytes] = {}
        for name, path in files.items():
            try:
                if path.stat().st_size >= _LARGE:
                    self._write(partial(self._fs.put_file, str(path), self._path(name)))
                    continue
                contents[name] = path.read_bytes()
            except FileNotFoundError:
                continue
            if len(contents) >= _AT_ONCE:
                self.put_bytes(contents)
                contents = {}
        self.put_bytes(contents)

    def put_bytes(self, contents: Mapping[str, bytes]) -> None:
        """Puts objects, in place of what is there: name → content.

        Raises:
            StoreError: they can't be written.
        """
        if contents:
            self._write(lambda: self._fs.pipe({self._path(name): content for name, content in contents.items()}))

    def create(self, name: str, content: bytes) -> bool:
        """Puts an object where there is none; returns False where there is one.

        Raises:
            StoreError: it can't be written.
        """
        path = self._path(name)
        try:
            if self.conditional:
                self._write(lambda: self._fs.pipe_file(path, content, mode="create"))
            elif self._patiently(lambda: self._fs.exists(path), "read"):
                return False
            else:
                self._write(lambda: self._fs.pipe_file(path, content))
        except FileExistsError:
            return False
        return True

    def delete(self, names: Iterable[str]) -> None:
        """Removes objects, where they are there."""
        for group in _groups(sorted(names)):
            for name in group:
                try:
                    self._patiently(partial(self._fs.rm_file, self._path(name)), "written")
                except FileNotFoundError:
                    continue

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _write(self, act: Callable[[], object]) -> None:
        try:
            self._patiently(act, "written")
        except FileNotFoundError as error:
            raise self._error(error, "written") from error

    def _patiently(self, act: Callable[[], T], verb: str) -> T:
        """Tries again what may go well later.

        Raises:
            FileExistsError: as the store says.
            FileNotFoundError: as the store says.
            StoreError: it went wrong for good.
        """
        until, pause = time.monotonic() + _PATIENCE_S, 0.5
        while True:
            try:
                return act()
            except (FileNotFoundError, FileExistsError):
                raise
            except Exception as error:
                if _is_final(error) or time.monotonic() > until:
                    raise self._error(error, verb) from error
                if pause == 0.5:
                    self._log(f"{self.url}: {_plain(error)}; trying again for {_PATIENCE_S:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _error(self, error: Exception, verb: str, why: str | None = None) -> StoreError:
        """Makes the one message of an error of the store."""
        said = _plain(error)
        valid, hint = None, f"check the address, and what the package of the store is set to; then {_AGAIN}"
        if why is not None:
            hint = _AGAIN
        elif isinstance(error, FileNotFoundError):
            why = f"it does not exist ({said})"
            valid, hint = "a folder of a bucket that exists", "make the bucket, or fix its name"
        elif isinstance(error, PermissionError):
            why = f"these credentials have no right to ({said})"
            hint = f"ask for the right to read, write, list and delete below {self.url}; then {_AGAIN}"
        elif "credential" in type(error).__name__.lower():
            why = f"there are no credentials for it ({said})"
            valid = "what the store's own package reads: for s3://, AWS_PROFILE, AWS_ACCESS_KEY_ID or ~/.aws"
            hint = f"set them in your shell; then {_AGAIN}"
        elif _is_final(error):
            why = said
        else:
            why = f"it does not answer ({said})"
        return StoreError(f"{self.url!r} can't be {verb}: {why}", valid=valid, hint=hint)


def _opened(url: str) -> tuple[Any, str]:
    """Opens the file system of an address; returns it and the path within."""
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError.of("a folder of an object store", "fsspec", "remote") from None
    scheme, _, path = url.partition("://")
    if "@" in path.partition("/")[0]:
        # Not quoted: what stands there is a key.
        raise StoreError(f"the {scheme}:// address has a key in it", hint="set it in the environment of your shell")
    if not path.strip("/") or "::" in url or {"..", "."} & {*path.split("/")}:
        raise StoreError(f"{url!r} is not a folder of an object store", valid="s3://bucket/folder")
    try:
        fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        if scheme in ("s3", "s3a"):
            raise MissingExtraError.of(f"{url!r}", "s3fs", "remote") from error
        raise MissingExtraError(
            f"{url!r} needs a package that is not installed: {printable(str(error))}", hint="install it with pip"
        ) from error
    except ValueError as error:
        raise StoreError(
            f"{url!r}: {scheme!r} is not a kind of store that fsspec knows",
            valid=closest(scheme, sorted({*fsspec.available_protocols()} - _NOT_STORES)),
        ) from error
    return fs, str(root).rstrip("/")


def _is_name(name: str) -> bool:
    """Says whether a name can be one of a file below a folder of this machine."""
    # Folders of some stores are empty objects with names that end in "/".
    return name.isprintable() and "\\" not in name and not {"", ".", ".."} & {*name.split("/")}


def _is_final(error: Exception) -> bool:
    """Says whether trying again is of no use."""
    name = type(error).__name__
    # The last is what fsspec raises for what a kind of store can't do.
    return isinstance(error, PermissionError | ValueError | TypeError | NotImplementedError) or any(
        word in name for word in ("Credential", "Validation")
    )


def _plain(error: Exception) -> str:
    """Gives what a store says, on one line and without any key of the environment."""
    text = str(error) or type(error).__name__
    for name, value in os.environ.items():
        if len(value) > 7 and _SECRETS.search(name.upper()):
            text = text.replace(value, "(secret)")
    return printable(" ".join(text.split()), 200)


def _groups(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[begin : begin + _AT_ONCE] for begin in range(0, len(names), _AT_ONCE)]
