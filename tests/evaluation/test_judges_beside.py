"""A reward model and a pairwise judge beside AlpacaEval's: means, win rates, and nothing is paid for twice."""

from __future__ import annotations

import json
import math

import pytest
from chat_server import KEY, Reply, completion, serving
from evaluated import Echo, write_baseline
from tiny_reward import save_model

from prefdata import evaluate
from prefdata.evaluation.judges import mean_and_error


def test_a_pairwise_judge_at_an_endpoint_is_asked_in_both_orders_and_once(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def verdict(text, _times, _body):
        # The model's outputs begin with "Say", the baseline's with "Here": the first shown is named by its place.
        ours_first = text.rfind("\nSay ") < text.rfind("\nHere:")
        return Reply(body=completion(json.dumps({"winner": "A" if ours_first else "B"})))

    with serving(verdict) as server:
        options = {"baseline": write_baseline(tmp_path), "judge": [f"endpoint=judge@{server.url}"]}
        done = evaluate(Echo(), out=tmp_path / "out", **options)
        asked = len(server.bodies)
        again = evaluate(Echo(), out=tmp_path / "out", **options)
        assert len(server.bodies) == asked == 12
    found = done.results["judges"]["endpoint judge"]
    assert (found["win_rate"], found["n_total"], found["n_undecided"]) == (100.0, 6, 0)
    assert again.results["judges"] == done.results["judges"]


@pytest.mark.model
def test_a_reward_model_gives_means_and_a_win_rate(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = save_model(tmp_path / "reward")
    options = {"baseline": write_baseline(tmp_path), "judge": [f"reward_model={model}"]}
    done = evaluate(Echo(), out=tmp_path / "out", **options)
    found = done.results["judges"]["reward_model reward"]
    journal = next((tmp_path / "out").rglob("judged-*.jsonl"))
    scores = [json.loads(line.partition(" ")[2])["scores"] for line in journal.read_text().splitlines()]
    assert len(scores) == 6
    ours, theirs = ([score[source] for score in scores] for source in ("model", "baseline"))
    assert found["mean_reward"] == pytest.approx(math.fsum(ours) / 6)
    assert found["baseline_mean_reward"] == pytest.approx(math.fsum(theirs) / 6)
    assert found["win_rate"] == pytest.approx(100 * sum(a > b for a, b in zip(ours, theirs, strict=True)) / 6)
    before = journal.read_bytes()
    evaluate(Echo(), out=tmp_path / "out", **options)
    assert journal.read_bytes() == before


def test_a_standard_error_is_that_of_the_mean():
    assert mean_and_error([]) == (None, None)
    assert mean_and_error([2.0]) == (2.0, None)
    mean, error = mean_and_error([1.0, 0.0, 0.5, 0.5], 100)
    assert mean == 50
    assert error == pytest.approx(100 * math.sqrt(0.5 / 3 / 4))
