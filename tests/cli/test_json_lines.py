"""`build --json-lines`: one JSON object a line, progress first and the result last, and nothing else."""

from __future__ import annotations

import json

import pytest

from prefdata.flow.progress import Progress, reporting_to, say

RECIPE = """
from prefdata.pairing import BestVsWorst
from prefdata.prompts import SamplePrompts
from prefdata.recipe import Recipe
from prefdata.sampling import SampleAnswers
from prefdata.scoring import BaselineScorer

recipe = Recipe(
    name="told",
    prompts=SamplePrompts(scored=True),
    candidates=(SampleAnswers(name="a", scored=True),),
    scores=BaselineScorer(),
    pairs=BestVsWorst(),
)
"""


def test_every_line_is_an_event(prefdata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "told.py").write_text(RECIPE)
    said = prefdata("build", "told.py", "--json-lines")
    assert (said.code, said.err) == (0, "")
    events = [json.loads(line) for line in said.out.splitlines()]
    assert {event["event"] for event in events} == {"line", "progress", "finished"}
    stages = [event for event in events if event["event"] == "progress"]
    assert {event["stage"] for event in stages} == {"candidates-a", "scores"}
    last = {event["stage"]: event for event in stages}
    for event in last.values():
        assert event["done"] == event["total"] > 0
        assert event["shards"]["done"] == event["shards"]["total"] == 1
        assert set(event) == {
            *("event", "stage", "unit", "done", "total", "shards"),
            *("tokens_per_second", "seconds_left", "spent", "failures"),
        }
    assert events[-1]["event"] == "finished"
    assert events[-1]["pairs"] == prefdata_pairs(tmp_path)
    assert any(event["event"] == "line" and event["text"].startswith("pairs: ") for event in events)


def prefdata_pairs(folder) -> int:
    return json.loads((folder / "builds/told/dataset/ledger.json").read_text())["pairs"]


@pytest.mark.parametrize("option", ["--json", "--dry-run"])
def test_no_other_output_is_asked_for_beside_events(prefdata, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "told.py").write_text(RECIPE)
    said = prefdata("build", "told.py", "--json-lines", option)
    assert (said.code, said.out) == (2, "")
    assert "--json-lines cannot be combined with" in said.err


def test_a_build_without_pairs_ends_with_1_after_its_result(prefdata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "told.py").write_text(RECIPE.replace("BestVsWorst()", "BestVsWorst(min_margin=1e9)"))
    said = prefdata("build", "told.py", "--json-lines")
    assert said.code == 1
    assert json.loads(said.out.splitlines()[-1])["pairs"] == 0
    assert "no pair came out" in said.err


def test_a_stage_counts_failures_money_tokens_and_shards():
    told: list[dict] = []
    with reporting_to(told.append):
        say("a line\x1b[31m")
        with Progress.of("candidates-x", 10, "answers", lambda: {"USD": 1.25}) as progress:
            progress.shards(1, 3)
            progress.advance(4, fresh=False)
            progress.advance(1)
            progress.advance(2, tokens=50, failures={"cut_off": 1})
    assert told[0] == {"event": "line", "text": "a line\ufffd[31m"}
    last = told[-1]
    assert (last["done"], last["total"], last["shards"]) == (7, 10, {"done": 1, "total": 3})
    assert (last["spent"], last["failures"]) == ({"USD": 1.25}, {"cut_off": 1})
    assert last["tokens_per_second"] > 0
    assert last["seconds_left"] >= 0
