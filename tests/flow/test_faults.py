"""File systems that say no: at every call that a build makes, one message, and the same bytes from the next run."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
from faults import Faults, failing
from replayed import recipe, tree, write_tables

from benchmarks.damage import build_until
from prefdata.errors import StoreError
from prefdata.flow import disk, stage_files
from prefdata.flow.build import build

MINE = b"a file of the user's"
MOVES = (errno.EXDEV, errno.ESTALE, errno.EBUSY, errno.ENOTEMPTY, errno.EIO, errno.ENOSPC)
WRITES = (errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EROFS)
NUMBERS = {
    "replace": MOVES,
    "rename": MOVES,
    "unlink": (errno.EBUSY, errno.EIO, errno.ESTALE),
    "flock": (errno.EIO, errno.ESTALE),
    "fsync": (errno.EIO, errno.ENOSPC, errno.ESTALE),
}
REFUSALS = {
    "fsync": (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP),
    "flock": (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Iterator[Path]:
    """A folder with tables, and a build that was stopped: a torn journal, half-written files, a dataset put aside."""
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        write_tables(folder)
        build(recipe(), "whole", shard_size=5)
        build_until(recipe().dump(), Path("begun"), "scores", 8)
        (journal,) = Path("begun").glob("stages/scores-*/journal-00001.jsonl")
        with journal.open("ab") as file:
            file.write(b"0123 torn")
        (journal.parent / ".notes-00002.md.77.part").write_bytes(MINE)
        (journal.parent / ".shard-00002.parquet.77.part").write_text("half")
        (folder / "begun/.prefdata.lock.json.77.part").write_text("half")
        shutil.copytree("whole/dataset", "begun/.dataset.77.old")
        yield folder


def again(begun: Path, faults: Faults, name: str = "copy") -> str:
    """Goes on with the build while a call fails; returns the message, empty where it came to its end."""
    copy = begun / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(begun / "begun", copy)
    # What another try has read is read again, so that every try makes the same calls.
    stage_files._finished_files.cache_clear()
    with failing(faults, copy):
        try:
            build(recipe(), copy, shard_size=5)
        except StoreError as error:
            return str(error)
    return ""


def check_same(begun: Path, case: str) -> None:
    """Checks that the build is the whole one, and that what is not ours is still there."""
    left, expected = tree(begun / "copy"), tree(begun / "whole")
    assert [left.pop(name) for name in list(left) if name.endswith(".part")] == [hashlib.sha256(MINE).hexdigest()], case
    assert left == expected, case


@pytest.fixture(scope="module")
def places(begun) -> dict[str, int]:
    """Every place in the code that calls the file system → how often."""
    faults = Faults()
    assert again(begun, faults, "watched") == ""
    return dict(faults.seen)


def test_the_places_are_those_of_a_whole_build(places):
    names = {place.partition(" ")[0] for place in places}
    assert {"open", "replace", "rename", "fsync", "mkdir", "unlink", "write", "flock", "write_table"} <= names
    assert len(places) > 25


def test_whatever_fails_wherever_is_one_message_and_the_next_run_gives_the_same_bytes(begun, places):
    numbers = {name: cycle(NUMBERS.get(name, WRITES)) for name in {place.partition(" ")[0] for place in places}}
    for place, count in places.items():
        for nth in {0, count - 1}:
            number = next(numbers[place.partition(" ")[0]])
            faults = Faults(place, nth, number)
            message = again(begun, faults)
            case = f"{place}: {errno.errorcode[number]}"
            assert faults.raised, case
            if message:
                assert "\n  next:  " in message, case
            build(recipe(), begun / "copy", shard_size=5)
            check_same(begun, case)


@pytest.mark.parametrize("name", REFUSALS)
def test_where_locks_or_syncing_are_refused_a_build_says_so_and_goes_on(begun, places, name, capsys):
    for number in REFUSALS[name]:
        for place in (place for place in places if place.startswith(name)):
            disk._say_unsafe.cache_clear()
            faults = Faults(place, 0, number, always=True)
            assert again(begun, faults) == ""
            assert faults.raised
            words = "without locks" if name == "flock" else "can't make files safe against a power cut"
            assert capsys.readouterr().err.count(words) == 1
            assert not list((begun / "copy").glob(".writing.held*"))
            check_same(begun, place)
