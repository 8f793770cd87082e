"""`clean`: removes the stages in a build folder that its recipe does not use any more."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefdata.flow.disk import delete, refuse_address, store_errors
from prefdata.flow.reader import BuildReader
from prefdata.flow.stage_files import RECORD, STAGE
from prefdata.flow.store import BuildFolder

__all__ = ["Cleaned", "OldStage", "clean"]

_STAGE = re.compile(r"(prompts|pairs|scores(-.+)?|candidates-.+)-[0-9a-f]{16}-\d+")
_OURS = re.compile(rf"[a-z_]+-\d{{5,}}\.parquet|journal-\d{{5,}}\.jsonl|{re.escape(RECORD)}|{re.escape(STAGE)}")


@dataclass(frozen=True)
class OldStage:
    """A stage that the build's recipe does not use."""

    folder: Path
    bytes: int
    """Size of its files."""
    files: int
    others: tuple[str, ...] = ()
    """Names in its folder that prefdata did not write; they stay, and the folder with them."""


@dataclass(frozen=True)
class Cleaned:
    """Old stages of a build."""

    folder: Path
    """The build folder."""
    stages: tuple[OldStage, ...]
    removed: bool
    """Whether they were removed, or only listed."""

    @property
    def bytes(self) -> int:
        """Size of all their files."""
        return sum(stage.bytes for stage in self.stages)


def clean(build: str | Path, *, yes: bool = False) -> Cleaned:
    """Lists the stages that earlier recipes, limits or shard sizes have left in a build folder, or removes them.

    A stage of the recipe that was built last is never among them, nor is a file that prefdata did not write. Answers
    and scores that were kept for other builds stay where they are.

    Args:
        build: the build folder.
        yes: remove them; otherwise nothing is changed.

    Raises:
        InputError: the folder holds no build.
        StoreError: another build is at work there, or a file can't be removed.
    """
    refuse_address(Path(build))
    folder = BuildFolder(Path(build))
    reader = BuildReader(folder.root)
    if not yes:
        return Cleaned(folder.root, tuple(_old_stages(reader)), removed=False)
    with folder.writing():
        stages = tuple(_old_stages(BuildReader(folder.root)))
        for stage in stages:
            _remove(stage)
    return Cleaned(folder.root, stages, removed=True)


def _old_stages(build: BuildReader) -> Iterator[OldStage]:
    used = {build.stage(stage.name).path.name for stage in build.graph.stages}
    stages = build.folder.root / "stages"
    with store_errors(stages):
        names = sorted(stages.iterdir()) if stages.is_dir() and not stages.is_symlink() else []
        for path in names:
            if path.name not in used and _STAGE.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                files = _files(path)
                others = {child.name for child in path.iterdir()} - {file.name for file in files}
                size = sum(file.lstat().st_size for file in files)
                yield OldStage(path, size, len(files), tuple(sorted(others)))


def _files(folder: Path) -> list[Path]:
    """Lists the files of prefdata in a stage's folder, in the order in which they can be removed.

    A kill between any two leaves a stage that a build can go on with: first it is not finished any more, then each
    shard goes before what belongs to it.
    """
    order = {STAGE: 0, RECORD: 3}
    ours = [path for path in folder.iterdir() if _OURS.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode)]
    return sorted(ours, key=lambda path: (order.get(path.name, 1 if path.name.startswith("shard-") else 2), path.name))


def _remove(stage: OldStage) -> None:
    with store_errors(stage.folder):
        for path in _files(stage.folder):
            delete(path)
        if not any(stage.folder.iterdir()):
            stage.folder.rmdir()
