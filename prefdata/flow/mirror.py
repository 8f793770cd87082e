"""`Mirror`: a working folder of this machine, and the build folder on an object store, which is the truth.

A build works in its working folder as in any other. What appears there is put on the store under its own name, in an
order that leaves the store, at any moment, as a killed build leaves a folder: tables beside a shard before the shard,
shards before `stage.json`, the files of the dataset before its manifest. Journals go up as parts: see `journal_parts`.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prefdata.errors import StoreError
from prefdata.flow.disk import (
    delete,
    make_folder,
    move,
    replace_folder,
    stopped_by,
    store_errors,
    sync,
    write_bytes,
)
from prefdata.flow.journal_parts import JournalParts, journal_of
from prefdata.flow.lease import Lease, leased
from prefdata.flow.progress import say
from prefdata.flow.stage_files import RECORD, STAGE, StageFiles, read_files
from prefdata.hub import BEING_REPLACED, ObjectStore
from prefdata.publish.manifest import MANIFEST
from prefdata.spec import sha256_of_file

__all__ = ["Mirror", "fetch_build", "mirrored"]

_OWNER = ".owner"
"""File of the working folder with its name in leases."""
_DATASET = "dataset"
_DAMAGED = "damaged"
_DOCUMENTS = ("prefdata.recipe.json", "prefdata.lock.json")
_LAST = re.compile(r"stages/[^/]+/stage\.json")
_SHARD = re.compile(r"stages/[^/]+/shard-\d{5,}\.parquet")
_OTHERS = re.compile(rf"(?!{_LAST.pattern}$|{_SHARD.pattern}$|stages/[^/]+/[^/]+\.jsonl$).*")
_FLUSH_S, _LONGEST_S = 5.0, 60.0
_PART_OF_TIME = 20
"""A pass over the folder may take one part of this many of the time."""


class Mirror:
    """A working folder and its folder on a store.

    Args:
        root: the working folder, which this process alone writes.
        store: the folder on the store, of which this process holds the lease, or only reads.
        check: called before each write on the store; raises where that is no longer allowed.
    """

    def __init__(self, root: Path, store: ObjectStore, check: Callable[[], None] = lambda: None) -> None:
        self._root, self._store, self._check = root, store, check
        self._there: dict[str, tuple[int, int]] = {}
        """Name → size and time of the file of this machine that is on the store."""
        self._journals: dict[str, JournalParts] = {}
        self._dataset: set[str] = set()
        """Names of the dataset's files on the store."""
        self._manifest: bytes | None = None
        """The manifest of the dataset on the store."""

    def fetch(self) -> None:
        """Makes the working folder what the store's folder is; what the store lacks stays, and goes up.

        Raises:
            StoreError: the store can't be read, or the working folder not be written.
        """
        there = {name: int(info["size"] or 0) for name, info in self._store.files().items()}
        self._dataset = {name for name in there if name.startswith(f"{_DATASET}/")}
        parts: dict[str, list[str]] = {}
        for name in there:
            if (journal := journal_of(name)) is not None:
                parts.setdefault(journal, []).append(name)
        wanted = {name: there[name] for name in _DOCUMENTS if name in there}
        # The next file that is set aside must get another name.
        aside = [name for name in there if name.startswith(f"{_DAMAGED}/") and not (self._root / name).exists()]
        wanted |= {name: there[name] for name in aside}
        folders = sorted({name.rpartition("/")[0] for name in [*there, *parts] if name.startswith("stages/")})
        for folder in (folder for folder in folders if folder.count("/") == 1):
            wanted |= self._fetch_records(folder, there, parts)
        for journal, names in parts.items():
            if journal not in self._journals:
                self._fetch_journal(journal, names, there)
        self._fetch(wanted)
        self._fetch_dataset(torn=BEING_REPLACED in there)
        for journal in self._journals_here():
            # What a kill has left between the last two steps of a shard.
            if _SHARD.fullmatch(replacement := _replacement(journal)) and (self._root / replacement).exists():
                delete(self._root / journal)
        for name, size in there.items():
            state = _state(self._root / name) if name.startswith(("stages/", f"{_DAMAGED}/")) else None
            if state is not None and state[0] == size:
                self._there[name] = state

    def _fetch_records(self, folder: str, there: dict[str, int], parts: dict[str, list[str]]) -> dict[str, int]:
        """Fetches what is on record of a stage; returns the tables of which this machine has none, or others."""
        here, finished, notes = self._root / folder, f"{folder}/{STAGE}", f"{folder}/{RECORD}"
        before = _records(here)
        if finished in there:
            self._fetch({finished: there[finished]})
        elif notes in parts:
            # Reopened elsewhere, or finished here and not put yet: then it is finished again of the same tables.
            delete(here / STAGE)
        if notes in parts:
            self._fetch_journal(notes, parts[notes], there)
        changed = _records(here) != before
        try:
            known = read_files(here)
        except StoreError:
            known, changed = StageFiles(), True
        tables = [name for name in there if name.rpartition("/")[0] == folder and name.endswith(".parquet")]
        return {name: there[name] for name in tables if not self._is_sound(name, there[name], known, changed)}

    def _is_sound(self, name: str, size: int, known: StageFiles, changed: bool) -> bool:
        """Says whether this machine has a table as its stage's record has it, which need not be fetched.

        Args:
            name: of the table.
            size: that it has on the store.
            known: the stage's record.
            changed: whether this machine had another record: its tables may be others, of the same sizes.
        """
        path = self._root / name
        if not path.is_file():
            return False
        entry = known.files.get(path.name)
        if entry is None:
            return not changed and path.stat().st_size == size
        return path.stat().st_size == entry["size"] and (not changed or sha256_of_file(path) == entry["sha256"])

    def _fetch_journal(self, name: str, parts: list[str], there: dict[str, int]) -> None:
        self._journals[name] = JournalParts(self._store, self._root / name, name, parts)
        if _replacement(name) not in there:
            self._journals[name].fetch()

    def _fetch(self, names: Mapping[str, int]) -> None:
        partials = {name: self._root / Path(name).parent / f".{Path(name).name}.0.part" for name in names}
        for folder in {path.parent for path in partials.values()}:
            make_folder(folder)
        self._store.fetch(partials)
        for name, partial_file in partials.items():
            if partial_file.stat().st_size != names[name]:
                raise StoreError(
                    f"{self._store.url}/{name} changed while it was read", hint="run the same command again"
                )
            sync(partial_file)
            move(partial_file, self._root / name)

    def _fetch_dataset(self, *, torn: bool) -> None:
        """Fetches the dataset; one that a build was killed over has files of two, and is put again whole."""
        name, here = f"{_DATASET}/{MANIFEST}", self._root / _DATASET
        self._manifest = self._store.read(name) if name in self._dataset and not torn else None
        if self._manifest is None or _bytes(here / MANIFEST) == self._manifest:
            return

        def fill(folder: Path) -> None:
            files = {name: folder / name.partition("/")[2] for name in self._dataset}
            for parent in {path.parent for path in files.values()}:
                make_folder(parent)
            self._store.fetch(files)

        replace_folder(here, fill)

    def flush(self, *, dataset: bool = False) -> None:
        """Puts what has appeared or changed, in order, and removes what it has made needless.

        Args:
            dataset: also the dataset folder, which nothing may be replacing.

        Raises:
            StoreError: it can't be written, or may no longer be.
        """
        # What is looked for last was there before what is looked for first: what a shard needs is found with it.
        finished = self._new(_LAST)
        shards = self._new(_SHARD)
        self._put(self._new(_OTHERS))
        for journal in self._journals_here():
            self._check()
            self._journals.setdefault(journal, JournalParts(self._store, self._root / journal, journal)).flush()
        self._put(shards)
        # A finished stage has no journals, at no moment.
        self._remove_needless()
        self._put(finished)
        self._remove_needless()
        if dataset:
            self._put_dataset()

    def _new(self, wanted: re.Pattern[str]) -> dict[str, tuple[int, int]]:
        """Lists the files that are not on the store as they are, but journals and the dataset."""
        found = {}
        for name in [*_DOCUMENTS, *_names(self._root, "stages"), *_names(self._root, _DAMAGED)]:
            if wanted.fullmatch(name):
                state = _state(self._root / name)
                if state is not None and state != self._there.get(name):
                    found[name] = state
        return found

    def _journals_here(self) -> list[str]:
        paths = [self._root / "spending.jsonl", *(self._root / "stages").glob("*/*.jsonl")]
        return sorted(path.relative_to(self._root).as_posix() for path in paths if path.is_file())

    def _put(self, files: Mapping[str, tuple[int, int]]) -> None:
        if files:
            self._check()
            self._store.put({name: self._root / name for name in files})
            self._there |= files

    def _remove_needless(self) -> None:
        """Removes journals whose shards or stages are there, and what `--repair` has set aside."""
        begin = len(_DAMAGED) + 1
        aside = {name.rpartition(".")[0][begin:] for name in self._there if name.startswith(f"{_DAMAGED}/")}
        for name in list(self._journals):
            if not (self._root / name).exists() and (_replacement(name) in self._there or name in aside):
                self._journals.pop(name).remove()
        gone = [name for name in self._there if name in aside and not (self._root / name).exists()]
        self._store.delete(gone)
        for name in gone:
            del self._there[name]

    def _put_dataset(self) -> None:
        manifest = _bytes(self._root / _DATASET / MANIFEST)
        if manifest is None or manifest == self._manifest:
            return
        files = {name: self._root / name for name in _names(self._root, _DATASET)}
        last = {f"{_DATASET}/{MANIFEST}": files.pop(f"{_DATASET}/{MANIFEST}")}
        self._check()
        self._store.put_bytes({BEING_REPLACED: b""})
        self._store.put(files)
        self._store.put(last)
        self._store.delete(self._dataset - {*files, *last})
        self._store.delete([BEING_REPLACED])
        self._dataset, self._manifest = {*files, *last}, manifest


def fetch_build(root: Path, url: str) -> None:
    """Fetches a build folder into its working folder, which no other process writes.

    Raises:
        StoreError: the store can't be read.
    """
    Mirror(root, ObjectStore(url, say)).fetch()


@contextmanager
def mirrored(root: Path, url: str) -> Iterator[None]:
    """Mirrors the working folder on a store while the block runs, and to its end.

    Args:
        root: the working folder, which this process alone writes.
        url: the folder on the store.

    Raises:
        StoreError: another build holds the folder, or the store can't be read or written.
    """
    store = ObjectStore(url, say)
    with leased(store, _owner(root), say) as lease:
        mirror = Mirror(root, store, lease.check)
        mirror.fetch()
        flusher = _Flusher(mirror, lease)
        try:
            with stopped_by(flusher.check):
                yield
        except BaseException as stop:
            flusher.end()
            if flusher.failure is None:
                if isinstance(stop, KeyboardInterrupt):
                    say(f"{store.url}: what is finished is put there; Ctrl-C again stops that")
                try:
                    mirror.flush(dataset=True)
                except StoreError as error:
                    say(f"{error.problem}; it is kept in {str(root)!r}, and put there by the next run")
            raise
        flusher.end()
        flusher.check()
        mirror.flush(dataset=True)
        say(f"{store.url}: all of the build is there")


class _Flusher:
    """Flushes a mirror in a thread, every few seconds."""

    def __init__(self, mirror: Mirror, lease: Lease) -> None:
        self.failure: BaseException | None = None
        """What has ended the thread, if anything has."""
        self._mirror, self._lease, self._ended = mirror, lease, threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefdata-mirror", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = _FLUSH_S
        while not self._ended.wait(pause):
            began = time.monotonic()
            try:
                self._mirror.flush()
            except BaseException as error:  # noqa: BLE001 - raised where the build can see it
                self.failure = error
                return
            pause = max(_FLUSH_S, min(_LONGEST_S, _PART_OF_TIME * (time.monotonic() - began)))

    def check(self) -> None:
        """Raises what went wrong on the store, if anything did."""
        if failure := self.failure or self._lease.lost:
            self.failure = failure
            raise failure

    def end(self) -> None:
        """Waits until the pass under way is finished; no other begins."""
        self._ended.set()
        self._thread.join()


def _owner(root: Path) -> str:
    """Gives the working folder's name in leases."""
    path = root / _OWNER
    if (known := _bytes(path)) is None or not known.strip():
        write_bytes(path, secrets.token_hex(8).encode())
        known = _bytes(path) or b""
    return known.decode("ascii", "replace").strip()


def _replacement(journal: str) -> str:
    """Names the file that takes the place of a journal when it is finished."""
    folder, _, name = journal.rpartition("/")
    number = name.removesuffix(".jsonl").rpartition("-")[2]
    return f"{folder}/{STAGE if name == RECORD else f'shard-{number}.parquet'}"


def _records(folder: Path) -> tuple[bytes | None, bytes | None]:
    return _bytes(folder / STAGE), _bytes(folder / RECORD)


def _bytes(path: Path) -> bytes | None:
    with store_errors(path):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None


def _names(root: Path, folder: str) -> list[str]:
    """Lists the files below a folder of the root; what is not whole yet has a name that begins with a dot."""
    names: list[str] = []
    for here, _, files in os.walk(root / folder):
        prefix = Path(here).relative_to(root).as_posix()
        names += [f"{prefix}/{name}" for name in files if not name.startswith(".")]
    return sorted(names)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state.st_size, state.st_mtime_ns
