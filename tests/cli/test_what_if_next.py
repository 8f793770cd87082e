"""The next command that `what-if` prints runs, whatever the scored answers came from."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest
from sample_recipe import sample_recipe

import prefdata as library


def table(folder):
    rows = [{"prompt": f"q{n}", "response": "a" * k, "score": k} for n in range(5) for k in (1, 2)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "t.jsonl"


def finished(folder):
    return library.build(sample_recipe("made"), folder / "made").folder


def under_way(folder):
    build = finished(folder)
    shutil.rmtree(build / "dataset")
    for stage in (build / "stages").glob("pairs*"):
        shutil.rmtree(stage)
    return build


def dataset(folder):
    library.pair(table(folder), "best_vs_worst", folder / "out", with_candidates=True)
    return folder / "out"


@pytest.mark.parametrize("make", [table, finished, under_way, dataset])
def test_the_next_command_runs(prefdata, tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    said = prefdata("what-if", make(tmp_path), "--rules", "best_vs_worst,wpo_hybrid_v2")
    assert said.code == 0, said.err
    first, *command = shlex.split(said.out.splitlines()[-1].removeprefix("Next:"))
    assert first == "prefdata"
    assert prefdata(*command).code == 0
