"""Ctrl-C once and twice, and SIGTERM: no traceback, nothing left behind, and the same bytes from the next run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from replayed import recipe, tree, write_tables

from prefdata.flow.build import build

PAUSED = """
import os, sys, time
from prefdata.flow.journal import Journal

real, left = Journal.append, int(os.environ["RECORDS"])

def append(self, record):
    global left
    if self.path.name.startswith("journal-"):
        if left == 0:
            print("paused", flush=True)
            try:
                time.sleep(60)
            finally:
                print("ending", flush=True)
                # As long as a worker may take to end.
                time.sleep(float(os.environ["SECONDS"]))
        left -= 1
    real(self, record)

Journal.append = append
from prefdata.cli.main import main
main()
"""


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    write_tables(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe().dump()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stopped(work: Path, records: int, *signals: int) -> tuple[int, str]:
    """Builds until some records are journalled, then sends the signals; returns exit code and stderr."""
    command = [sys.executable, "-c", PAUSED, "build", "recipe.json", "--out", "out"]
    environment = {**os.environ, "RECORDS": str(records), "SECONDS": "60" if len(signals) > 1 else "0"}
    with subprocess.Popen(
        command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as build:
        assert build.stdout.readline() == "paused\n"
        for number in signals:
            build.send_signal(number)
            if number == signal.SIGINT:
                assert build.stdout.readline() in ("ending\n", "")
        _, errors = build.communicate(timeout=50)
    return build.returncode, errors


@pytest.mark.parametrize("records", [0, 15])
@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM]], ids=str)
def test_a_stopped_build_says_so_and_goes_on_to_the_same_bytes(work, records, signals):
    code, errors = stopped(work, records, *signals)
    assert code == (-signal.SIGTERM if signals[-1] == signal.SIGTERM else 130)
    assert "Traceback" not in errors
    if signals == [signal.SIGINT]:
        assert errors.endswith("prefdata: stopped. What was finished is kept: the same command goes on from there\n")
    whole = build(recipe(), "whole")
    assert tree(build(recipe(), "out").folder) == tree(whole.folder)
