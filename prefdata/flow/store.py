"""The build folder: stage folders, shards that appear whole or not at all, journals, and the right to write.

::

    BUILD/
      prefdata.lock.json                 every input pinned
      prefdata.recipe.json               the recipe, with its profile applied
      spending.jsonl                     what endpoints were paid, if any was
      stages/prompts-<key>-256/            shard-00000.parquet  drops-00000.parquet  stage.json
      stages/candidates-policy-<key>-256/  journal-00003.jsonl while shard 3 is under way
      stages/scores-<key>-256/  stages/pairs-<key>-256/
      dataset/                           what is published
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from prefdata.errors import StoreError
from prefdata.flow.disk import store_errors, sync, write_json
from prefdata.spec import JSON, canonical_json

__all__ = ["SHARD_SIZE", "BuildFolder", "Journal", "StageFolder", "build_folder"]

SHARD_SIZE = 256
"""Prompts of a shard."""


class Journal:
    """Keeps the finished results of a shard that is not written yet: one line each, appended at once.

    A line is `<crc32 of the rest, 8 hex digits> <JSON>`. The bytes are handed to the system at once, so killing the
    process loses nothing that was appended; `sync` makes them safe against a power cut.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def read(self) -> Iterator[JSON]:
        """Reads the records so far, and cuts a torn or damaged end off."""
        if not self.path.exists():
            return
        good = 0
        with self.path.open("rb") as file:
            for line in file:
                crc, _, text = line.rstrip(b"\n").partition(b" ")
                if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text):
                    break
                yield json.loads(text)
                good += len(line)
        if good < self.path.stat().st_size:
            with store_errors(self.path):
                os.truncate(self.path, good)

    def append(self, record: JSON) -> None:
        """Adds one record."""
        text = canonical_json(record).encode()
        with store_errors(self.path):
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
                sync(self.path.parent)
            line = b"%08x %s\n" % (zlib.crc32(text), text)
            while line:
                line = line[self._file.write(line) :]

    def sync(self) -> None:
        """Makes what was appended safe against a power cut."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self, *, remove: bool = False) -> None:
        """Closes the file, and removes it when its shard is written."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if remove:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class StageFolder:
    """The output of one stage under one key."""

    path: Path

    def shard(self, number: int) -> Path:
        """Gives the path of shard `number`. The file exists exactly when the shard is complete."""
        return self.path / f"shard-{number:05d}.parquet"

    def side_table(self, kind: str, number: int) -> Path:
        """Gives the path of a second table of shard `number` (`drops`, ...); it is written before the shard itself."""
        return self.path / f"{kind}-{number:05d}.parquet"

    def journal(self, number: int) -> Journal:
        """Gives the journal of shard `number`."""
        return Journal(self.path / f"journal-{number:05d}.jsonl")

    @property
    def report(self) -> JSON | None:
        """Counts of the finished stage; None while it is not finished."""
        path = self.path / "stage.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def finish(self, report: JSON) -> None:
        """Marks the stage as finished."""
        write_json(self.path / "stage.json", report)

    def create(self) -> None:
        """Makes the folder, and removes what a killed run left half written."""
        with store_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for left in self.path.glob(".*.part"):
                left.unlink()


class BuildFolder:
    """The folder that holds a run of a recipe."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def dataset(self) -> Path:
        """The dataset folder, in the layout of the Hub."""
        return self.root / "dataset"

    @property
    def lock_file(self) -> Path:
        """Every input pinned."""
        return self.root / "prefdata.lock.json"

    @property
    def recipe_file(self) -> Path:
        """The recipe, with its profile applied."""
        return self.root / "prefdata.recipe.json"

    @property
    def spending_file(self) -> Path:
        """What endpoints were paid over all runs."""
        return self.root / "spending.jsonl"

    def stage(self, name: str, key: str, shard_size: int) -> StageFolder:
        """Gives the folder of stage `name` under a key, in shards of a given number of prompts."""
        return StageFolder(self.root / "stages" / f"{name}-{key[:16]}-{shard_size}")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the right to write; the system releases it when the process ends, however it ends.

        Raises:
            StoreError: another build holds it, or the folder can't be made.
        """
        with store_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / ".writing").open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreError(
                    f"{str(self.root)!r} is in use by another build",
                    hint="wait for it to end, or choose another folder with --out",
                ) from error
            for left in [*self.root.glob(".*.part"), *self.root.glob(".*.old")]:
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)
            yield


def build_folder(name: str, out: str | Path | None) -> BuildFolder:
    """Gives the folder of a recipe's build.

    Args:
        name: the recipe's name.
        out: the folder; None takes `builds/<name>`.
    """
    return BuildFolder(Path(out) if out is not None else Path("builds") / name)
