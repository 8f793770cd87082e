"""Ctrl-C once and twice, and SIGTERM: no traceback, nothing left behind, and the same bytes from the next run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chat_server import HANG, Reply, serving
from counting_endpoint import PROMPTS, reply, write_prompts
from counting_endpoint import recipe as asking
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
        kept = {0: "0 of 12 prompts", 15: "3 of 12 prompts"}[records]
        assert errors.splitlines()[-1] == f"prefdata: stopped; {kept} kept; run the same command again"
    whole = build(recipe(), "whole")
    assert tree(build(recipe(), "out").folder) == tree(whole.folder)


@pytest.mark.parametrize(("number", "next_out"), [(signal.SIGINT, "out"), (signal.SIGKILL, "elsewhere")])
def test_a_stopped_build_says_how_many_answers_are_kept_and_no_build_asks_them_again(
    number, next_out, tmp_path, monkeypatch, prefdata
):
    monkeypatch.chdir(tmp_path)
    write_prompts(tmp_path / "prompts.jsonl")
    answered = 7

    def script(text: str, before: int, body: dict) -> Reply:
        return reply(text, before, body) if len(server.bodies) <= answered else Reply(HANG)

    with serving(script) as server:
        made = asking(server.url, tmp_path / "prompts.jsonl", judge=None).dump()
        made["candidates"][0]["generator"]["concurrency"] = 1
        (tmp_path / "recipe.json").write_text(json.dumps(made))
        command = [sys.executable, "-m", "prefdata", "build", "recipe.json", "--out", "out"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as build:
            while build.poll() is None and kept(tmp_path / "out") < answered:
                time.sleep(0.05)
            build.send_signal(number)
            _, errors = build.communicate(timeout=50)
        if number == signal.SIGINT:
            assert build.returncode == 130
            line = f"prefdata: stopped; {answered} of {4 * PROMPTS} answers kept; run the same command again"
            assert errors.splitlines()[-1] == line
        answered, before = 10**6, len(server.bodies)
        assert prefdata("build", "recipe.json", "--out", next_out).code == 0
        assert len(server.bodies) - before == 4 * PROMPTS - 7


def kept(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob("stages/candidates-*/journal-*.jsonl"))
