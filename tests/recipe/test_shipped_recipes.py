"""Every shipped recipe loads, dumps, is checked, and is built on the embedded model, as `--profile cpu --limit 20`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from trainings import losses, metrics, run

from prefdata.recipe import load_recipe, shipped_recipes
from prefdata.training.plan import memory_by_strategy

NAMES = {
    "gpo_gpm_llama3",
    "simpo_llama3_armorm",
    "snorkel_pairrm",
    "sppo_llama3",
    "ultrafeedback_binarized",
    "wpo_gemma2_armorm",
    "wpo_hybrid_v1",
    "wpo_hybrid_v2",
}
ITERATED = ("gpo_gpm_llama3", "snorkel_pairrm", "sppo_llama3")
SNORKEL = ["prompt_id", "prompt", "chosen", "rejected", "all_generated_responses", "all_rm_scores"]


def test_the_recipes_are_those_of_the_documentation():
    assert set(shipped_recipes()) == NAMES
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text("utf-8")
    assert {name for name in NAMES if f"## {name}\n" not in page} == set()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_recipe_and_its_profiles_survive_the_json_round_trip(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    for profile in ("full", *recipe.profiles):
        applied = recipe.with_profile(profile)
        (tmp_path / "recipe.json").write_text(json.dumps(applied.dump()))
        again = load_recipe(
            tmp_path / "recipe.json", allow=["paths", "endpoint=https://api.openai.com/v1", "keys=OPENAI_API_KEY"]
        )
        assert again == applied
        assert again.fingerprint() == applied.fingerprint()
        assert applied.training is not None
        applied.training.trl_arguments()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_cpu_profile_is_checked_without_a_network_a_key_or_a_model(name, prefdata, tmp_path):
    said = prefdata("check", name, "--profile", "cpu", "--limit", 20, "--out", tmp_path / "build")
    assert said.code == 0, said.err
    assert "prompts  20;" in said.out
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_cpu_profile_keeps_the_rule_and_the_sampling_of_the_recipe(name):
    full, cpu = load_recipe(name), load_recipe(name).with_profile("cpu")
    assert cpu.pairs == full.pairs
    assert type(cpu.dataset) is type(full.dataset)
    assert cpu.candidates[0].name == full.candidates[0].name
    for option in ("n", "temperature", "top_p"):
        assert getattr(cpu.candidates[0], option, None) == getattr(full.candidates[0], option, None)
    assert cpu.scores.compares == full.scores.compares or not cpu.pairs.needs_comparisons()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_training_of_a_recipe_fits_gpus_of_80_gib(name):
    training = load_recipe(name).training
    llama = {"hidden_size": 4096, "num_hidden_layers": 32}
    memory = memory_by_strategy(training, 8_030_261_248, training.devices, llama, training.max_length)
    assert memory[training.strategy]["device_gib"] < 80


@pytest.mark.parametrize("name", ITERATED)
def test_each_iteration_has_its_own_prompts_policy_and_start_of_training(name):
    recipe = load_recipe(name)
    models = [None, *(f"runs/{name}/models/{name}-iteration-{number}" for number in (1, 2))]
    parts = [recipe.iteration(number, model) for number, model in enumerate(models, 1)]
    assert len({part.prompts.fingerprint() for part in parts}) == 3
    policies = [part.candidates[0].generator.model for part in parts]
    assert policies[1:] == models[1:]
    assert [part.training.model for part in parts] == policies
    same = {field for field in type(recipe).model_fields if len({repr(getattr(part, field)) for part in parts}) == 1}
    assert {"seed", "scores", "pairs", "limit", "filters"} <= same
    assert len({part.name for part in parts}) == 3


def test_filters_of_a_recipe_drop_prompts_of_a_build_and_every_drop_says_what_it_matched(prefdata, tmp_path):
    (tmp_path / "held_out.jsonl").write_text('{"q": "Convert 5 miles to kilometres, please!"}\n{"q": "Hm?"}\n')
    recipe = load_recipe("ultrafeedback_binarized").with_profile("cpu").dump()
    recipe["filters"] = [
        {"kind": "length", "at_most": 150},
        {"kind": "language", "languages": ["en"]},
        {"kind": "near_duplicates"},
        {
            "kind": "decontaminate",
            "sets": [{"name": "held out", "path": str(tmp_path / "held_out.jsonl"), "column": "q"}],
            "n": 5,
            "share": 0.8,
        },
    ]
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    said = prefdata("build", tmp_path / "recipe.json", "--allow", "paths", "--out", tmp_path / "build", "--json")
    assert said.code == 0, said.err
    ledger = json.loads(said.out)
    assert ledger["stages"][0] == {"stage": "prompts", "in": 20, "out": 18, "drops": {"contaminated": 1, "too_long": 1}}
    drops = pq.read_table(tmp_path / "build" / "dataset" / "drops.parquet").to_pylist()
    details = {drop["reason"]: drop["detail"] for drop in drops}
    assert details["contaminated"] == "held out, row 1: 83% of its words, such as 'convert 5 miles to kilometres'"
    assert details["too_long"] == "186 characters, at most 150"
    assert prefdata("verify", tmp_path / "build").code == 0


@pytest.fixture(scope="module")
def built():
    """The build folders so far."""
    return []


@pytest.fixture
def build(built, prefdata, tmp_path_factory):
    """Builds a recipe on the embedded model, unless it was built before."""

    def run(name):
        if earlier := [folder for folder in built if folder.name == name]:
            return earlier[0]
        out = tmp_path_factory.mktemp("builds") / name
        # Recipes with the same prompts, sampler and seed ask for the same answers. Their stages have the same keys, so
        # one that an earlier recipe has finished is taken here as a run of this recipe would have left it.
        for folder in built:
            shutil.copytree(folder / "stages", out / "stages", dirs_exist_ok=True)
        said = prefdata("build", name, "--profile", "cpu", "--limit", 20, "--out", out, "--json")
        assert said.code == 0, said.err
        built.append(out)
        return out

    return run


@pytest.mark.model
@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_recipe_is_built_on_the_embedded_model_and_verified(name, build, built, prefdata):
    out = build(name)
    ledger = json.loads((out / "dataset" / "ledger.json").read_text())
    assert ledger["stages"][0]["out"] == 20
    assert 3 <= ledger["pairs"] <= 20
    assert ledger["pairs"] + ledger["stages"][-1]["drops"].get("no_contrast", 0) <= 20
    checked = prefdata("verify", out)
    assert checked.code == 0, checked.out + checked.err
    recipe = load_recipe(name).with_profile("cpu")
    files = sorted((out / "dataset" / "data").glob("*.parquet"))
    splits = {recipe.dataset.train_split, recipe.dataset.test_split}
    assert {path.name.rpartition("-00000-of-")[0] for path in files} <= splits
    columns = pq.read_schema(files[0]).names
    assert sum(pq.read_metadata(path).num_rows for path in files) == ledger["pairs"]
    if name == "snorkel_pairrm":
        assert columns == SNORKEL
    else:
        assert columns[:4] == ["prompt_id", "prompt", "chosen", "rejected"]
        assert set(recipe.pairs.extra_columns()) <= set(columns)
    if len(built) == len(NAMES):
        policies = {stage.name for folder in built for stage in (folder / "stages").glob("candidates-policy-*")}
        assert len(policies) == 4, "three recipes of WPO share their answers, and so do SPPO and GPO"


@pytest.mark.model
def test_the_embedded_model_is_trained_ten_steps_by_wpo_on_the_pairs_that_it_answered_and_judged(build, tmp_path):
    fields = {"learning_rate": 1e-5, "warmup": 0.0, "per_device_batch_size": 1, "gradient_accumulation_steps": 1}
    fields |= {"max_length": 160, "max_prompt_length": 96, "epochs": 2}
    words = [word for name, value in fields.items() for word in ("--set", f"{name}={value}")]
    words += ["--profile", "cpu", "--dataset", str(build("wpo_hybrid_v2")), "--limit", "5", "--out", "model"]
    # The model is converted into the user's cache once, which all tests share.
    command = [sys.executable, "-m", "prefdata", "train", "wpo_hybrid_v2", *words]
    done = run(tmp_path, command, shared_cache=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-3:-1] == [
        "Model:   model (a recipe can name it as its `model`)",
        "Card:    model/README.md",
    ]
    model = tmp_path / "model"
    found = losses(model)
    assert len(found) == 10
    # ln 2 times a weight of at most 1, and little more where the rejected answer gains.
    assert all(0 < loss < 1 for loss in found)
    margins = [entry["rewards/margins"] for entry in metrics(model) if "loss" in entry]
    assert margins[0] == pytest.approx(0, abs=1e-4)
    # In the second epoch the model prefers, of the same pairs, the chosen answers more than its reference does.
    assert sum(margins[5:]) > max(1e-3, sum(margins[:5]))
    card = (model / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "`embedded:smollm2-135m-instruct`, trained by `wpo` on `wpo_hybrid_v2-cpu`" in card
    assert str(tmp_path) not in card + (model / "training.json").read_text()
