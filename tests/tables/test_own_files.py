"""Locks that die with their holder, also where the file system has none."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from prefdata.errors import StoreError
from prefdata.tables.own_files import held

HOLD = """
import errno, fcntl, sys, time
from pathlib import Path
from prefdata.tables.own_files import held

def refused(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")

fcntl.flock = refused
with held(Path(sys.argv[1]), "in use", print):
    print("holding", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def no_locks(request, monkeypatch):
    def refused(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refused)


def test_without_locks_a_file_names_the_holder_and_is_gone_after_it(tmp_path, no_locks):
    said = []
    with held(tmp_path / "lock", "in use", said.append):
        holder = json.loads((tmp_path / "lock.held").read_text())
        assert (holder["host"], holder["process"]) == (socket.gethostname(), os.getpid())
        with pytest.raises(StoreError, match="in use") as caught, held(tmp_path / "lock", "in use", said.append):
            raise AssertionError("two hold it")
        assert repr(str(tmp_path / "lock.held")) in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert "without locks" in said[0]


def test_without_locks_a_holder_that_was_killed_is_followed_by_the_next(tmp_path, no_locks):
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE) as holder:
        assert b"without locks" in holder.stdout.readline()
        assert holder.stdout.readline() == b"holding\n"
        with pytest.raises(StoreError, match="in use"), held(lock, "in use", print):
            raise AssertionError("two hold it")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (tmp_path / "lock.held").exists()
    with held(lock, "in use", print):
        assert json.loads((tmp_path / "lock.held").read_text())["process"] == os.getpid()
    assert not (tmp_path / "lock.held").exists()


@pytest.mark.parametrize("change", [{"host": "another"}, {"process": "x"}, None], ids=str)
def test_a_holder_that_can_not_be_asked_is_never_taken_for_dead(tmp_path, no_locks, change):
    holder = {"host": socket.gethostname(), "process": 2**22 + 1, "started": "1"}
    (tmp_path / "lock.held").write_text("torn" if change is None else json.dumps({**holder, **change}))
    before = (tmp_path / "lock.held").read_text()
    with pytest.raises(StoreError, match="in use"), held(tmp_path / "lock", "in use", print):
        raise AssertionError("two hold it")
    assert (tmp_path / "lock.held").read_text() == before


def test_the_number_of_a_process_that_another_has_now_is_not_that_holder(tmp_path, no_locks):
    holder = {"host": socket.gethostname(), "process": os.getppid(), "started": "0"}
    (tmp_path / "lock.held").write_text(json.dumps(holder))
    with held(tmp_path / "lock", "in use", print):
        pass


def test_a_lock_is_not_emptied_and_no_link_is_followed(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with held(tmp_path / "notes", "in use", print):
        pass
    assert (tmp_path / "notes").read_text() == "mine"
    (tmp_path / "lock").symlink_to(tmp_path / "notes")
    with pytest.raises(OSError, match="symbolic links"), held(tmp_path / "lock", "in use", print):
        pass
