"""`prefdata run`: three real iterations with a tiny model, killed and resumed, on disjoint prompts."""

from __future__ import annotations

import itertools
import json
import mmap
import os
import sys
import time
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
from process_tree import mapped_bytes
from tiny_model import sentence, write_model
from trainings import SMALL, kill, kill_alone, run, start, weights

from prefdata.errors import InputError, RecipeError, StoreError
from prefdata.flow.iterate import iterated_recipe, read_prompts, run_folder
from prefdata.flow.iterate import run as run_here
from prefdata.flow.run_plan import plan_run
from prefdata.recipe import Recipe

PROMPTS, COUNT = 30, 3


def recipe(**changes: object) -> Recipe:
    """A recipe whose policy is the tiny model in the folder `start`."""
    sampler = {
        "kind": "samples",
        "name": "policy",
        "generator": {"kind": "transformers", "model": "start", "dtype": "float32", "batch_size": 8},
        "n": 3,
        "max_tokens": 12,
    }
    return Recipe.model_validate(
        {
            "name": "rounds",
            "description": "Made for a test.",
            "prompts": {"kind": "file", "path": "prompts.jsonl"},
            "candidates": [sampler],
            "scores": {"kind": "baseline"},
            # What an untrained model writes seldom ends.
            "pairs": {"kind": "best_vs_worst", "admit": ["cut_off", "blank"]},
            "training": {"kind": "dpo", "model": "somewhere/else", **SMALL},
            "iterations": {"count": COUNT},
            **changes,
        }
    )


def write_workshop(folder: Path, made: Recipe) -> Path:
    folder.mkdir(exist_ok=True)
    write_model(folder / "start")
    rows = [{"prompt": f"Say {sentence(number, 2 + number % 7)} {number}"} for number in range(PROMPTS)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rounds.json").write_text(json.dumps(made.dump()))
    return folder


COMMAND = [sys.executable, "-m", "prefdata", "run", "rounds.json"]
LAST = "runs/rounds/models/rounds-iteration-3"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a run that nothing disturbed."""
    folder = write_workshop(tmp_path_factory.mktemp("whole"), recipe())
    watch = Path(__file__).parents[1] / "support" / "watched_run.py"
    done = run(folder, [sys.executable, str(watch), "looks.json", *COMMAND[3:]])
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture
def near(whole, monkeypatch):
    monkeypatch.chdir(whole)
    return whole


@pytest.mark.model
def test_each_iteration_samples_with_the_model_that_the_one_before_has_trained(whole):
    root = whole / "runs" / "rounds"
    models = [whole / "start", *(root / "models" / f"rounds-iteration-{number}" for number in range(1, COUNT + 1))]
    loaded = [weights(model) for model in models]
    for one, other in itertools.pairwise(loaded):
        assert any(not np.array_equal(one[name], other[name]) for name in one)
    for number in range(1, COUNT + 1):
        made = json.loads((root / f"iteration-{number}" / "dataset" / "recipe.json").read_text())
        policy = "start" if number == 1 else f"runs/rounds/models/rounds-iteration-{number - 1}"
        assert made["candidates"][0]["generator"]["model"] == made["training"]["model"] == policy
        assert "iterations" not in made
        facts = json.loads((models[number] / "training.json").read_text())
        assert facts["lineage"]["name"] == f"rounds-iteration-{number}"
        assert facts["lineage"].get("parent") == (None if number == 1 else f"rounds-iteration-{number - 1}")


@pytest.mark.model
def test_the_cards_are_a_chain(whole):
    root = whole / "runs" / "rounds"
    for number in range(1, COUNT + 1):
        dataset = (root / f"iteration-{number}" / "dataset" / "README.md").read_text()
        assert f"Iteration {number} of 3" in dataset
        card = (root / "models" / f"rounds-iteration-{number}" / "README.md").read_text()
        assert f"on `rounds-iteration-{number}`" in card
        if number > 1:
            assert f"its policy is the model that rounds-iteration-{number - 1} trained" in dataset
            assert f"`rounds-iteration-{number - 1}`, trained by `dpo`" in card
        assert str(whole) not in dataset + card


@pytest.mark.model
def test_no_two_iterations_share_a_prompt_and_the_ledger_says_so(near):
    ledger = json.loads((near / "runs" / "rounds" / "run.json").read_text())
    parts = [read_prompts(recipe().iteration(number), near / "nothing") for number in range(1, COUNT + 1)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == PROMPTS
    assert [entry["prompts"] for entry in ledger["prompts"].values()] == list(map(len, parts))
    assert [entry["iteration"] for entry in ledger["iterations"]] == [1, 2, 3]
    assert all(entry["pairs"] > 2 and entry["steps"] > 0 for entry in ledger["iterations"])


@pytest.mark.model
def test_what_is_finished_is_not_done_again(near, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise AssertionError("a finished run builds or trains")

    monkeypatch.setattr("prefdata.flow.iterate.build", stop)
    monkeypatch.setattr("prefdata.flow.iterate.train", stop)
    done = run_here("rounds.json")
    assert done.models[-1] == Path(LAST)
    assert done.ledger["iterations"] == json.loads(Path("runs/rounds/run.json").read_text())["iterations"]


@pytest.mark.model
@pytest.mark.parametrize("out", ["runs/rounds", "./runs/../runs/rounds", "absolute"])
def test_a_run_is_the_same_however_its_folder_is_spelled(near, monkeypatch, out):
    monkeypatch.setattr("prefdata.flow.iterate.build", None)
    done = run_here("rounds.json", near / "runs" / "rounds" if out == "absolute" else out)
    assert done.folder == Path("runs/rounds")


def test_a_link_to_the_folder_of_a_run_is_no_other_spelling(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(tmp_path / "here")
    for out in ("runs/rounds", tmp_path / "link" / "runs" / "rounds"):
        assert run_folder(recipe(), out) == Path("runs/rounds")


@pytest.mark.model
def test_the_plan_of_a_finished_run_has_nothing_left_to_ask(near):
    planned = plan_run("rounds.json")
    assert [step.build.estimate.totals["requests"] for step in planned.iterations] == [0, 0, 0]
    assert all(stage.state == "done" for step in planned.iterations for stage in step.build.stages)


MOMENTS = {
    "iteration-1/stages/candidates-policy-*/journal-*.jsonl": kill,
    "models/rounds-iteration-1/training/metrics.jsonl": kill_alone,
    "iteration-2/stages/candidates-policy-*/journal-*.jsonl": kill,
}
"""What is there first → who is killed then: the whole process tree, or the command alone."""


@pytest.mark.model
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(whole, tmp_path):
    folder = write_workshop(tmp_path / "killed", recipe())
    for moment, killed in MOMENTS.items():
        process = start(folder, COMMAND)
        while not any((folder / "runs" / "rounds").glob(moment)):
            assert process.poll() is None, "it ended before the moment came"
            time.sleep(0.01)
        killed(process)
    done = run(folder, COMMAND)
    assert done.returncode == 0, done.stderr[-4000:]
    mine, theirs = weights(folder / LAST), weights(whole / LAST)
    assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)
    records = [json.loads((where / "runs/rounds/run.json").read_text()) for where in (folder, whole)]
    assert records[0] == records[1]


@pytest.mark.model
@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="needs /proc to list processes and their memory")
def test_each_engine_has_ended_before_the_next_one_begins_and_the_command_holds_no_weights(whole):
    looks = json.loads((whole / "looks.json").read_text())
    engines = [engine for engine, _ in itertools.groupby(looks, key=itemgetter("engine"))]
    assert engines == ["prefdata.models.hosted._transformers_worker", "training"] * COUNT
    # While an engine runs, and when it starts, no process of the run is there besides the command.
    assert [look for look in looks if look["others"] or look["mapped"]] == []
    weights_file = (whole / LAST / "model.safetensors").open("rb")
    with weights_file, mmap.mmap(weights_file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert len(mapped[:]) <= mapped_bytes(os.getpid(), (".safetensors",))


def test_iterations_that_share_a_prompt_are_refused(tmp_path, monkeypatch):
    parts = [{"kind": "file", "path": "prompts.jsonl"}] * 2
    made = recipe(iterations={"count": 2, "prompts": parts})
    monkeypatch.chdir(write_workshop(tmp_path / "shared", made))
    with pytest.raises(InputError, match="the iterations 1 and 2 share 30 prompts"):
        run_here("rounds.json")
    assert not Path("runs/rounds/iteration-1").exists()


@pytest.mark.model
def test_a_folder_with_another_run_is_refused(near):
    with pytest.raises(StoreError, match="holds the run of another recipe: iteration 1 is finished and differs"):
        run_here(recipe(seed=9), "runs/rounds")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"training": None}, "`iterations` needs a `training`"),
        ({"iterations": {"count": 2, "policy": "teacher"}}, "`iterations.policy` is 'teacher'"),
        ({"iterations": {"count": 3, "learning_rates": [1e-6]}}, "learning_rates has 1 entries for 3 iterations"),
        ({"iterations": {"count": 2, "prompts": [{"kind": "sample"}]}}, "prompts has 1 entries for 2 iterations"),
        ({"training": {"kind": "dpo", "model": "a/b", "lora": {}}}, "`iterations` needs whole models"),
    ],
)
def test_iterations_that_do_not_fit_the_recipe_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        recipe(**changes)


def test_a_recipe_without_iterations_is_one_message():
    with pytest.raises(RecipeError, match="has no iterations"):
        iterated_recipe(recipe(iterations=None), None, None)
    with pytest.raises(RecipeError, match="has no iteration 4"):
        recipe().iteration(4, "model")


def test_learning_rates_and_reference_change_from_one_iteration_to_the_next():
    made = recipe(iterations={"count": 2, "reference": "first", "learning_rates": [1e-6, 5e-7]})
    one, two = made.iteration(1).training, made.iteration(2, "runs/a/models/b").training
    assert (one.model, one.reference, one.learning_rate) == ("start", None, 1e-6)
    assert (two.model, two.reference, two.learning_rate) == ("runs/a/models/b", "start", 5e-7)


def test_the_plan_counts_requests_steps_and_disk_of_every_iteration(tmp_path, monkeypatch):
    monkeypatch.chdir(write_workshop(tmp_path / "plan", recipe()))
    planned = plan_run("rounds.json")
    assert [step.build.prompts * 3 for step in planned.iterations] == [
        step.build.estimate.totals["requests"] for step in planned.iterations
    ]
    assert sum(step.build.prompts for step in planned.iterations) == PROMPTS
    for step in planned.iterations:
        assert step.training.steps == -(-step.training.pairs // SMALL["per_device_batch_size"])
        assert step.training.hours > 0
    numbers = sum(array.size for array in weights(Path("start")).values())
    assert planned.disk_bytes == numbers * (4 * COUNT + 2 * 12)
    assert json.dumps(planned.as_json(), allow_nan=False)
    assert not Path("runs").exists()
