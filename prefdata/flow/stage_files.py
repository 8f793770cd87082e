"""What is on record of the files of a stage: SHA-256 and size of each, and the versions that made them.

While a stage is under way, `files.jsonl` has a line for each table before it appears, and one for each process that
keeps answers in a journal. A finished stage has all of it in `stage.json`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from prefdata.errors import InputError, first_line
from prefdata.flow.disk import delete, write_atomically
from prefdata.flow.documents import damaged, read_document, write_document
from prefdata.flow.journal import Journal
from prefdata.flow.versions import packages
from prefdata.lazy import pa
from prefdata.spec import JSON, sha256_of_file
from prefdata.tables.schemas import read_parquet

__all__ = [
    "RECORD",
    "STAGE",
    "StageFiles",
    "fault_of",
    "finish_stage",
    "note_file",
    "note_reused",
    "note_versions",
    "read_files",
    "read_report",
    "read_table",
    "reopen_stage",
    "tidy_stage",
    "unfinished",
    "write_noted",
]

RECORD = "files.jsonl"
"""Record of a stage that is not finished."""
STAGE = "stage.json"
"""Record of a finished stage."""
_TABLES = "*-[0-9][0-9][0-9][0-9][0-9]*.parquet"
_LOST = "counts and hashes of the stage, whose tables stay"


@dataclass(frozen=True)
class StageFiles:
    """What is on record of a stage's files."""

    files: dict[str, JSON] = field(default_factory=dict)
    """Name of each file → its `sha256` and `size`."""
    packages: list[dict[str, str]] = field(default_factory=list)
    """Versions that made them; usually the same for all."""
    lost: dict[str, str | None] = field(default_factory=dict)
    """Name of each file that was set aside → the SHA-256 that it had; None where that is not known."""
    finished: bool = False
    """Whether the stage is finished."""
    reused: int = 0
    """How many results were taken from the store, as far as it was noted before a kill."""
    written_ns: int = 0
    """When this was written: a file that is older, and of the right size, has not changed since."""

    def changed(self) -> list[str]:
        """Lists the files that were set aside and came out otherwise when they were made again."""
        return [name for name, sha256 in self.lost.items() if name in self.files and self._sha256(name) != sha256]

    def _sha256(self, name: str) -> JSON:
        return self.files[name]["sha256"]


def note_file(path: Path, partial: Path) -> None:
    """Puts a file on record that is about to appear.

    Args:
        path: where it will be.
        partial: where it is, whole.
    """
    _note(path.parent, [{"file": path.name, **_entry(partial), "packages": packages()}])


def write_noted(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a table of a stage, which appears whole and on record.

    Raises:
        StoreError: the file can't be written.
    """

    def write_and_note(partial: Path) -> None:
        write(partial)
        note_file(path, partial)

    write_atomically(path, write_and_note)


def note_versions(folder: Path, made_with: Mapping[str, str] | None = None) -> None:
    """Puts on record which versions made results of the stage.

    Args:
        folder: of the stage.
        made_with: the versions; None takes those of this process, which adds to a journal.
    """
    _note(folder, [{"packages": packages() if made_with is None else dict(made_with)}])


def note_reused(folder: Path, count: int) -> None:
    """Puts on record how many results of the stage were taken from the store."""
    _note(folder, [{"reused": count}])


def read_files(folder: Path) -> StageFiles:
    """Reads what is on record of a stage's files, finished or not.

    Raises:
        StoreError: `stage.json` is damaged.
    """
    path = folder / STAGE
    stage = read_document(path, _LOST)
    if stage is not None:
        return StageFiles(
            files=stage.get("files", {}),
            packages=stage.get("packages", []),
            finished=True,
            reused=stage.get("reused", 0),
            written_ns=path.stat().st_mtime_ns,
        )
    journal, files, versions, lost, reused = Journal(folder / RECORD), {}, [], {}, 0
    for line in journal.read():
        reused += line.get("reused", 0)
        if "file" in line:
            files[line["file"]] = {"sha256": line["sha256"], "size": line["size"]}
        if "lost" in line:
            lost[line["lost"]] = line["sha256"]
        if "packages" in line and line["packages"] not in versions:
            versions.append(line["packages"])
    written = journal.path.stat().st_mtime_ns if journal.path.exists() else 0
    return StageFiles(files, versions, lost, False, reused, written)


def read_report(folder: Path) -> dict[str, JSON] | None:
    """Reads the counts of a finished stage; returns None while it is not finished.

    Raises:
        StoreError: `stage.json` is damaged.
    """
    stage = read_document(folder / STAGE, _LOST)
    return None if stage is None else {name: stage[name] for name in stage if name not in ("files", "packages")}


def finish_stage(folder: Path, report: JSON) -> None:
    """Marks a stage as finished, and keeps its counts, and hash, size and versions of its files.

    Raises:
        StoreError: a file of which nothing is on record can't be read.
    """
    noted, files = read_files(folder), {}
    for path in sorted(folder.glob(_TABLES)):
        if path.name not in noted.files and (why := _unreadable(path)) is not None:
            raise damaged(path, why, f"the rows of {path.name} in the stage {folder.name}")
        files[path.name] = noted.files.get(path.name) or _entry(path)
    versions = sorted(noted.packages, key=lambda each: sorted(each.items()))
    reused = {"reused": noted.reused} if noted.reused else {}
    write_document(folder / STAGE, {**report, **reused, "files": files, "packages": versions})
    delete(folder / RECORD)


def tidy_stage(folder: Path) -> None:
    """Removes what a kill between the last two steps of `finish_stage` has left."""
    delete(folder / RECORD)


def reopen_stage(folder: Path, lost: Sequence[str]) -> StageFiles:
    """Puts the record of a stage back to what it was before it was finished, without some files.

    Args:
        folder: of the stage, whose `stage.json` is still there, or damaged and set aside.
        lost: names of the files that will be made again.
    """
    before = read_files(folder)
    known = {**{name: entry["sha256"] for name, entry in before.files.items()}, **before.lost}
    after = replace(
        before,
        files={name: entry for name, entry in before.files.items() if name not in lost},
        lost={**before.lost, **{name: known.get(name) for name in lost}},
    )
    lines: list[JSON] = [{"file": name, **entry} for name, entry in after.files.items()]
    lines += [{"lost": name, "sha256": sha256} for name, sha256 in after.lost.items()]
    lines += [{"packages": versions} for versions in after.packages]
    lines += [{"reused": after.reused}] if after.reused else []

    def write(partial: Path) -> None:
        journal = Journal(partial)
        for line in lines:
            journal.append(line)
        journal.close()

    write_atomically(folder / RECORD, write)
    return after


def fault_of(path: Path, files: StageFiles, *, full: bool = False) -> str | None:
    """Says what is wrong with a table of a stage; None where nothing is.

    Args:
        path: of the table.
        files: what is on record of the stage's files.
        full: compare hashes also where size and time say that it has not changed.
    """
    entry = files.files.get(path.name)
    try:
        stat = path.stat()
        if entry is None:
            # A file of an earlier version, or whose line in the record was lost, can only be read.
            return _unreadable(path) if full else None
        if stat.st_size != entry["size"]:
            return f"it has {stat.st_size:,} bytes in place of {entry['size']:,}"
        if full or stat.st_mtime_ns > files.written_ns:
            found = sha256_of_file(path) if full else _sha256(path, stat.st_size, stat.st_mtime_ns)
            return None if found == entry["sha256"] else f"its SHA-256 is {found}, and {entry['sha256']} is on record"
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it can't be read ({error.strerror or error})"
    return None


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a table of a stage, once it is known to be the one that was written.

    Raises:
        InputError: it is not there yet.
        StoreError: it is damaged.
    """
    lost = f"the rows of {path.name} in the stage {path.parent.name}"
    stage = path.parent / STAGE
    fault = None
    try:
        stat = stage.stat()
        fault = fault_of(path, _finished_files(path.parent, stat.st_mtime_ns, stat.st_size))
    except FileNotFoundError:
        if not path.exists():
            raise unfinished(path) from None
    if fault is not None:
        raise damaged(path, fault, lost)
    try:
        return read_parquet(path, columns)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise damaged(path, f"it is not a whole table ({first_line(error)})", lost) from error


def unfinished(path: Path) -> InputError:
    """Makes the error of a table that no stage has made yet."""
    return InputError(
        f"{str(path)!r} is not finished",
        valid="tables of finished stages",
        hint="run the build again: it goes on where it stopped",
    )


@functools.lru_cache(maxsize=64)
def _finished_files(folder: Path, written_ns: int, size: int) -> StageFiles:
    """Reads the record of a finished stage, once for each writing of it."""
    return read_files(folder)


@functools.lru_cache(maxsize=1 << 16)
def _sha256(path: Path, size: int, written_ns: int) -> str:
    """Hashes a file, once in this process for each writing of it."""
    return sha256_of_file(path)


def _note(folder: Path, lines: Sequence[JSON]) -> None:
    journal = Journal(folder / RECORD)
    try:
        for line in lines:
            journal.append(line)
    finally:
        journal.close()


def _entry(path: Path) -> dict[str, JSON]:
    return {"sha256": sha256_of_file(path), "size": path.stat().st_size}


def _unreadable(path: Path) -> str | None:
    try:
        read_parquet(path)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        return f"it is not a whole table ({first_line(error)})"
    return None
