"""Damaged files of a build: found before anything is built upon them, named, and set aside where that is asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefdata.errors import StoreError
from prefdata.flow.disk import lost_files, make_folder, move, write_json
from prefdata.flow.documents import read_document, read_object
from prefdata.flow.graph import Stage
from prefdata.flow.progress import say
from prefdata.flow.reader import BuildReader
from prefdata.flow.stage_files import STAGE, StageFiles, fault_of, read_files, reopen_stage
from prefdata.flow.store import BuildFolder
from prefdata.publish.manifest import MANIFEST
from prefdata.scoring import CompositeScorer, GroupScorer
from prefdata.spec import sha256_of_file

__all__ = ["Damage", "find_damage", "refuse", "repair", "repair_documents", "set_aside_dependants"]

_NUMBER = re.compile(r"[a-z_]+-(\d{5,})\.[a-z]+")
_NAMED = 5


@dataclass(frozen=True)
class Damage:
    """A damaged file of a stage."""

    stage: Stage
    path: Path
    why: str


def find_damage(build: BuildReader, *, full: bool = False) -> list[Damage]:
    """Compares the files of all stages with what is on record of them.

    Args:
        build: its lock is made.
        full: compare the hash of every file; otherwise only of those whose size or time have changed.
    """
    return [damage for stage in build.graph.stages for damage in _of_stage(build, stage, full)]


def _of_stage(build: BuildReader, stage: Stage, full: bool) -> Iterator[Damage]:
    folder = build.stage(stage.name).path
    try:
        files = read_files(folder)
    except StoreError as error:
        yield Damage(stage, folder / STAGE, error.problem)
        # Without its record a table can only be read; what can't be must not get into the record that is made anew.
        for path in sorted(folder.glob("*.parquet")):
            if _NUMBER.fullmatch(path.name) and (why := fault_of(path, StageFiles(), full=True)) is not None:
                yield Damage(stage, path, why)
        return
    there = {path.name for path in folder.glob("*.parquet") if _NUMBER.fullmatch(path.name)}
    for name in sorted({*files.files, *there}):
        path = folder / name
        # Of a shard under way, and of prompts that are not finished, everything is made again.
        if not files.finished and (stage.kind == "prompts" or not _shard_is_there(path)):
            continue
        if (why := fault_of(path, files, full=full)) is not None:
            yield Damage(stage, path, why)


def _shard_is_there(path: Path) -> bool:
    return path.with_name(f"shard-{_number(path.name):05d}.parquet").exists()


def refuse(build: BuildReader, damages: Sequence[Damage]) -> StoreError:
    """Makes the one error of all damaged files."""
    first, others = damages[0], damages[1:]
    more = "".join(f"\n  {str(each.path)!r}: {each.why}" for each in others[: _NAMED - 1])
    if len(others) >= _NAMED:
        more += f"\n  and {len(others) - _NAMED + 1:,} more files"
    problem = first.why if first.path.name == STAGE else f"{str(first.path)!r} is damaged: {first.why}"
    lost = "; ".join(dict.fromkeys(_lost(build, damage) for damage in damages))
    return StoreError(
        problem + more,
        valid=f"the files as they were written. Lost with them: {lost}",
        hint="put them back, or add --repair to the command: prefdata build ... --repair "
        "sets them aside and makes only these shards again",
    )


def _lost(build: BuildReader, damage: Damage) -> str:
    """Says what is lost with a file, and what making it again costs."""
    stage, name = damage.stage, damage.path.name
    if name == STAGE:
        return f"the counts of {stage.name}, which are made again of its tables"
    number = _number(name)
    where = f"shard {number} of {stage.name}"
    if stage.kind in ("candidates", "backfill"):
        return f"{where}; asked again: at most {build.shard_size * stage.per_prompt:,} answers"
    if stage.kind in ("member", "scores") and not isinstance(stage.part, CompositeScorer):
        return f"{where}; scored again: at most {build.shard_size:,} prompts"
    return f"{'all shards' if stage.kind == 'prompts' else where} of {stage.name}, made again of their input"


def repair(build: BuildReader, damages: Sequence[Damage]) -> None:
    """Moves damaged files into the folder `damaged` of the build, so that the next run makes their shards again.

    Raises:
        StoreError: a file can't be moved.
    """
    for stage in build.graph.stages:
        paths = [damage.path for damage in damages if damage.stage == stage]
        if not paths:
            continue
        folder = build.stage(stage.name).path
        if folder / STAGE in paths:
            _set_aside(build.folder, [folder / STAGE])
            paths.remove(folder / STAGE)
            if not paths:
                continue
        # The prompts are cut into shards all at once.
        numbers = None if stage.kind == "prompts" else {_number(path.name) for path in paths}
        _reopen(build, stage, numbers, journals=False)


def _reopen(build: BuildReader, stage: Stage, numbers: set[int] | None, *, journals: bool) -> bool:
    """Sets shards of a stage aside; returns whether there was anything of them.

    Args:
        build: holds the stage.
        stage: of the build's graph.
        numbers: of the shards; None for all.
        journals: set their journals aside, too.
    """
    folder = build.stage(stage.name).path
    known = read_files(folder)
    files = {path.name for path in folder.iterdir() if _NUMBER.fullmatch(path.name)} if folder.is_dir() else set()
    of_shards = sorted(name for name in {*files, *known.files} if numbers is None or _number(name) in numbers)
    tables = [name for name in of_shards if name.endswith(".parquet")]
    if tables:
        reopen_stage(folder, tables)
    aside = [name for name in of_shards if name in files and (journals or name in tables)]
    _set_aside(build.folder, [folder / name for name in aside] + ([folder / STAGE] if tables else []))
    return bool(aside)


def set_aside_dependants(build: BuildReader, stage: Stage) -> None:
    """Sets aside what was made of shards that came out otherwise when they were made again.

    Called before the stage is finished again, so that a kill can't leave both.

    Args:
        build: holds the stages.
        stage: whose tables are all there.
    """
    changed = read_files(build.stage(stage.name).path).changed()
    if not changed:
        return
    touched: dict[str, set[int] | None] = {stage.name: {_number(name) for name in changed}}
    for other in build.graph.stages:
        inputs = [touched[name] for name in other.inputs if name in touched]
        if not inputs:
            continue
        numbers = set[int]().union(*(each for each in inputs if each is not None))
        touched[other.name] = None if None in inputs or _needs_all(build, other) else numbers
        if _reopen(build, other, touched[other.name], journals=True):
            say(f"{other.name}: what was made of {stage.name} is made again, since that came out otherwise")


def _needs_all(build: BuildReader, stage: Stage) -> bool:
    """Says whether a shard of a stage depends on other shards of its inputs."""
    if isinstance(stage.part, GroupScorer):
        return build.shard_size % stage.part.group != 0
    return isinstance(stage.part, CompositeScorer)


def repair_documents(folder: BuildFolder) -> None:
    """Sets a damaged lock aside, and takes that of the dataset in its place, where there is a whole one.

    A recipe that is not a file is set aside, too, and so is a dataset that lacks what its manifest lists: every build
    writes them anew.

    Raises:
        StoreError: it can't be moved or written.
    """
    try:
        read_document(folder.lock_file, "")
    except StoreError as error:
        _set_aside(folder, [folder.lock_file])
        lock = _published_lock(folder.dataset)
        if lock is not None:
            write_json(folder.lock_file, lock)
        say(f"{error.problem}; {'that of the dataset takes its place' if lock else 'branches are resolved anew'}")
    if not folder.recipe_file.is_file():
        _set_aside(folder, [folder.recipe_file])
    if lost_files(folder.dataset):
        _set_aside(folder, [folder.dataset])


def _published_lock(dataset: Path) -> dict[str, object] | None:
    lock = dataset / "prefdata.lock.json"
    try:
        manifest = read_object(dataset / MANIFEST, "")
        if manifest is None or manifest["files"][lock.name]["sha256"] != sha256_of_file(lock):
            return None
        return read_object(lock, "")
    except (StoreError, OSError, KeyError, TypeError):
        return None


def _set_aside(folder: BuildFolder, paths: Sequence[Path]) -> None:
    for path in paths:
        if not os.path.lexists(path):
            continue
        where = folder.damaged / path.relative_to(folder.root).parent
        make_folder(where)
        number = 0
        while (target := where / f"{path.name}.{number}").exists():
            number += 1
        move(path, target)
        say(f"set aside: {target}")


def _number(name: str) -> int:
    match = _NUMBER.fullmatch(name)
    return int(match[1]) if match else -1
