"""`prefdata train`, in processes of its own, on a tiny model."""

from __future__ import annotations

import json
import random
import time

import numpy as np
import pytest
from trainings import command, kill, losses, metrics, run, start, weights, workshop

from prefdata.publish.outgoing import read_outgoing

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return workshop(tmp_path_factory.mktemp("train"))


def test_what_a_training_leaves(shop):
    done = run(shop, command("wpo", "left", "--json", trl={"max_steps": 3}))
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    folder = shop / "left"
    assert told["folder"] == "left"
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "config.json", "generation_config.json", "model.safetensors", "curves.svg", "metrics.jsonl"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "training.json", "training"),
        *("train-dropped.parquet", "test-dropped.parquet", "prefdata.manifest.json"),
    }
    listed = read_outgoing(folder)
    assert listed.kind == "model"
    assert set(listed.files()) == {path.name for path in folder.iterdir() if path.is_file()}
    facts = json.loads((folder / "training.json").read_text())
    assert facts["training"]["beta"] == 0.01
    assert (facts["preflight"][0]["rows_in"], facts["preflight"][0]["rows_trained"]) == (40, 40)
    assert {"torch", "transformers", "trl"} <= set(facts["versions"])
    assert [entry["step"] for entry in metrics(folder) if "loss" in entry] == [1, 2, 3]
    # Where policy and reference are one model the weighted loss is ln 2 times the weight, and no reward differs.
    assert metrics(folder)[0]["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert any("eval_loss" in entry for entry in metrics(folder))
    assert "<svg" in (folder / "curves.svg").read_text()
    again = run(shop, command("wpo", "left", trl={"max_steps": 3}))
    assert again.returncode == 0
    assert "already trained" in again.stderr
    assert read_outgoing(folder).digest == listed.digest
    other = run(shop, command("wpo", "left", trl={"max_steps": 3}, beta=0.5))
    assert other.returncode == 2
    assert "holds another training" in other.stderr


def test_a_plan_trains_nothing(shop):
    done = run(shop, command("dpo", "planned", "--plan", "--json", stop_after=0.5, epochs=2))
    assert done.returncode == 0, done.stderr[-3000:]
    plan = json.loads(done.stdout)
    assert (plan["steps"], plan["stop_step"], plan["batch_size"], plan["rows_trained"]) == (20, 5, 4, 40)
    assert plan["parameters"] == 125_248
    assert set(plan["memory"]) == {"none", "zero2", "zero3", "zero3_offload", "fsdp2"}
    assert plan["command"][-1].endswith("job.json")
    assert not (shop / "planned" / "training.json").exists()


def test_killed_at_random_moments_and_resumed_it_ends_with_the_same_weights(shop, tmp_path):
    fields = {"trl": {"max_steps": 12, "save_steps": 2}, "epochs": 2}
    straight = run(shop, command("wpo", "straight", **fields))
    assert straight.returncode == 0, straight.stderr[-4000:]
    workshop(tmp_path)
    draw, kills = random.Random(7), 0
    for _ in range(4):
        process = start(tmp_path, command("wpo", "killed", **fields))
        # Killed when a file of the work appears, or a while later: before, in and after the reference's pass.
        seen = {str(path) for path in tmp_path.rglob("*")}
        while process.poll() is None and {str(path) for path in tmp_path.glob("killed/training/**/*")} <= seen:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 1.5))
        if process.poll() is not None:
            break
        kill(process)
        kills += 1
    last = run(tmp_path, command("wpo", "killed", **fields))
    assert last.returncode == 0, last.stderr[-4000:]
    assert kills > 0
    one, other = weights(shop / "straight"), weights(tmp_path / "killed")
    assert {name: float(np.abs(one[name] - other[name]).max()) for name in one} == dict.fromkeys(one, 0.0)
    steps = [entry["step"] for entry in metrics(tmp_path / "killed") if "loss" in entry]
    assert steps == list(range(1, 13))
    assert losses(shop / "straight") == losses(tmp_path / "killed")
