"""The build folder: stage folders, shards that appear whole or not at all, journals, and the right to write.

::

    BUILD/
      prefdata.lock.json                 every input pinned
      prefdata.recipe.json               the recipe, with its profile applied
      spending.jsonl                     what endpoints were paid, if any was
      stages/prompts-<key>-256/            shard-00000.parquet  drops-00000.parquet  stage.json
      stages/candidates-policy-<key>-256/  files.jsonl until the stage is finished
                                           journal-00003.jsonl while shard 3 is under way
      stages/scores-<key>-256/  stages/pairs-<key>-256/
      dataset/                           what is published
      damaged/                           what `--repair` has set aside
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from prefdata.flow.disk import alone, clear_leftovers, make_folder, store_errors
from prefdata.flow.journal import Journal
from prefdata.flow.mirror import fetch_build, mirrored
from prefdata.flow.stage_files import RECORD, STAGE, finish_stage, note_versions, read_report
from prefdata.hub import is_remote
from prefdata.spec import JSON, fingerprint

__all__ = ["SHARD_SIZE", "BuildFolder", "StageFolder", "build_folder"]

SHARD_SIZE = 256
"""Prompts of a shard."""
_PART = re.compile(rf"\.([a-z_]+-\d{{5,}}\.parquet|{re.escape(STAGE)}|{re.escape(RECORD)})\.\d+\.part")


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
        return Journal(self.path / f"journal-{number:05d}.jsonl", lambda: note_versions(self.path))

    @property
    def report(self) -> JSON | None:
        """Counts of the finished stage; None while it is not finished.

        Raises:
            StoreError: they are damaged.
        """
        return read_report(self.path)

    def finish(self, report: JSON) -> None:
        """Marks the stage as finished, and keeps the hash of each of its files."""
        finish_stage(self.path, report)

    def create(self) -> None:
        """Makes the folder, and removes what a killed run left half written."""
        make_folder(self.path)
        with store_errors(self.path):
            names = {match[1] for path in self.path.iterdir() if (match := _PART.fullmatch(path.name))}
            for name in sorted(names):
                clear_leftovers(self.path / name, folder=False, locked=True)


class BuildFolder:
    """The folder that holds a run of a recipe.

    Args:
        root: the folder.
        remote: the address of the folder on an object store whose working folder on this machine `root` is.
    """

    def __init__(self, root: Path, remote: str | None = None) -> None:
        self.root, self.remote = root, remote

    @property
    def out(self) -> str | Path:
        """The folder as a user names it: an address, or a path."""
        return self.remote or self.root

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

    @property
    def damaged(self) -> Path:
        """Where files are that `--repair` has set aside."""
        return self.root / "damaged"

    def stage(self, name: str, key: str, shard_size: int) -> StageFolder:
        """Gives the folder of stage `name` under a key, in shards of a given number of prompts."""
        return StageFolder(self.root / "stages" / f"{name}-{key[:16]}-{shard_size}")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the right to write; the system releases it when the process ends, however it ends.

        A folder on an object store is fetched first, and has what the working folder has when the block is left.

        Raises:
            StoreError: another build holds it, the folder can't be made, or the object store not be read or written.
        """
        with alone(self.root):
            with store_errors(self.root):
                clear_leftovers(self.dataset, folder=True, locked=True)
                for path in (self.lock_file, self.recipe_file):
                    clear_leftovers(path, folder=False, locked=True)
            with nullcontext() if self.remote is None else mirrored(self.root, self.remote):
                yield

    def refresh(self) -> None:
        """Fetches what an object store has of the build, into the working folder; does nothing for other folders.

        Raises:
            StoreError: the store can't be read, or a build is at work in the working folder.
        """
        if self.remote is not None:
            with alone(self.root):
                fetch_build(self.root, self.remote)


def build_folder(name: str, out: str | Path | None, *, foreign: bool = False) -> BuildFolder:
    """Gives the folder of a recipe's build.

    Args:
        name: the recipe's name.
        out: the folder; None takes `builds/<name>`. A folder of an object store has a working folder in `builds`.
        foreign: the recipe is somebody else's, whose name for it must not choose a build of the user's: None takes
            `builds/from-elsewhere/<name>`.
    """
    if is_remote(out):
        address = re.sub(r"(?<=[^:/])/+$", "", out)
        # Nothing of an address but letters and digits may become a part of a path.
        last = re.sub(r"[^\w-]+", "-", address.rpartition("/")[2])[:40]
        return BuildFolder(Path("builds") / f"{last}-{fingerprint(address)[:8]}", address)
    parent = Path("builds", "from-elsewhere") if foreign else Path("builds")
    return BuildFolder(Path(out) if out is not None else parent / name)
