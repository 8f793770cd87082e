"""From a recipe to the Hub and back: built, pushed, loaded, verified, compared and built again, by the real clients."""

from __future__ import annotations

import json

import pytest
from command_text import COMMAND
from small_dataset import dataset_folder, files, local

from prefdata.publish import push

PROMPTS = "".join(json.dumps({"id": f"p{n}", "prompt": f"Question {n}? \x1b[31m---"}) + "\n" for n in range(8))
ANSWERS = "".join(
    json.dumps({"id": f"p{n}", "response": f"{n} {'x' * score} <b>|`", "score": score}) + "\n"
    for n in range(8)
    for score in (n % 3, 4)
)
RECIPE = (
    COMMAND
    + """
import os
from pathlib import Path
from prefdata.recipe import Recipe

def recipe(name, **changes):
    made = Recipe.model_validate({
        "name": name, "seed": 3,
        "prompts": {"kind": "hub", "dataset": "alice/questions", "prompt_id_column": "id"},
        "candidates": [{"kind": "existing", "name": "replayed", "dataset": "alice/answers", "split": "train",
                        "prompt_id_column": "id", "score_column": "score"}],
        "scores": {"kind": "given"}, "pairs": {"kind": "best_vs_worst"},
        "dataset": {"kind": "trl", "test_size": 2},
        "publish": {"repo": f"alice/{name}", "tag": "v1.0", "language": ["en"],
                    "licenses": {"alice/questions": "cc-by-4.0", "alice/answers": "mit"}},
        **changes,
    })
    Path(f"{name}.json").write_text(json.dumps(made.dump()))
    return f"{name}.json"
"""
)


@pytest.fixture
def sources(hub):
    hub.put("dataset", "alice/questions", {"train.jsonl": PROMPTS.encode()})
    hub.put("dataset", "alice/answers", {"train.jsonl": ANSWERS.encode()})


ALSO = ["axolotl", "full_conversation", "kto", "llamafactory", "snorkel"]


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": {"kind": "trl", "test_size": 2}},
        {"dataset": {"kind": "snorkel", "iteration": 1, "test_size": 2}},
        {
            "also": [{"kind": kind} for kind in ALSO],
            "scores": {"kind": "baseline", "comparisons": True},
            "pairs": {"kind": "sppo"},
        },
    ],
    ids=["trl", "snorkel", "every layout"],
)
def test_a_build_is_published_loaded_verified_and_built_again(hub, client, sources, changes):
    result = client.run(
        f"""{RECIPE}
from datasets import load_dataset, get_dataset_config_names
from prefdata.verification import verify
from prefdata.inspection.summary import inspect

codes = [command("build", recipe("made", **{changes!r}), "--push", "--out", "one")]
codes.append(command("push", "one", "alice/made", "--tag", "v1.0"))
loaded = {{
    name: {{split: rows.num_rows for split, rows in load_dataset("alice/made", name, revision="v1.0").items()}}
    for name in get_dataset_config_names("alice/made", revision="v1.0")
}}
report = verify("alice/made@v1.0")
codes.append(command("inspect", "alice/made@v1.0"))
codes.append(command("diff", "alice/made@v1.0", "one"))
result = {{
    "codes": codes, "loaded": loaded, "holds": report.holds, "mismatches": [str(m) for m in report.mismatches],
    "pairs": inspect("alice/made").pairs,
}}
""",
        token="secret-of-alice",
    )
    assert result["codes"] == [0, 0, 0, 0]
    assert result["holds"], result["mismatches"]
    assert result["pairs"] == sum(result["loaded"]["default"].values())
    if "also" in changes:
        rows = {name: sum(result["loaded"].pop(name).values()) for name in ALSO}
        assert rows == {**dict.fromkeys(ALSO, result["pairs"]), "kto": 2 * result["pairs"]}
        assert result["loaded"].pop("comparisons") == {"train": 8}
    else:
        assert sorted(result["loaded"]["default"].values()) == [2, 6]
    assert result["loaded"].pop("candidates") == {"train": 16}
    traced = changes.get("dataset", {}).get("kind") != "snorkel"
    assert result["loaded"].keys() == ({"default"} if traced else {"default", "trace"})
    repo = hub.repos["dataset", "alice/made"]
    assert repo.private
    assert len(repo.commits) == 2
    # The sources change; the published dataset is rebuilt from the commits that its lock pins.
    hub.put("dataset", "alice/questions", {"train.jsonl": b'{"id": "q", "prompt": "Another?"}\n'})
    again = client.run(
        f"""{RECIPE}
result = [command("build", "--from", "alice/made@v1.0", "--out", "again"), command("diff", "one", "again")]
""",
        token="secret-of-alice",
    )
    assert again == [0, 0]
    made = {name: data for name, data in local(client.home / "again" / "dataset").items() if name.endswith(".parquet")}
    assert made
    assert {name: data for name, data in files(hub, "v1.0", "alice/made").items() if name in made} == made


def test_the_code_of_a_recipe_from_elsewhere_is_not_run(hub, client, sources):
    base = {"name": "x", "scores": {"kind": "given"}, "pairs": {"kind": "best_vs_worst"}}
    base["prompts"] = {"kind": "hub", "dataset": "alice/questions"}
    base["candidates"] = [{"kind": "existing", "name": "r", "dataset": "alice/answers"}]
    python = {**base, "pairs": {"kind": "python", "path": "evil:rule"}}
    python["scores"] = {"kind": "python", "path": "evil:Scorer", "options": {"most": 3}}
    python["filters"] = [{"kind": "python", "path": "evil:keep"}]
    python["also"] = [{"kind": "python", "path": "evil:Layout", "test_size": 0}]
    lock = {"format": 2, "commits": {"dataset:alice/questions@main": "../../elsewhere"}}
    hub.put(
        "dataset", "alice/code", {"recipe.json": json.dumps(python).encode(), "prefdata.lock.json": b'{"format": 2}'}
    )
    hub.put("dataset", "alice/pins", {"recipe.json": json.dumps(base).encode()})
    hub.put("dataset", "alice/pins", {"prefdata.lock.json": json.dumps(lock).encode()})
    hub.put("dataset", "alice/pins", {"evil.py": b"open('ran', 'w')", "prefdata.py": b"open('ran', 'w')"})
    result = client.run(
        f"""{RECIPE}
from prefdata.flow.from_hub import fetch_recipe
told = [refused(lambda: fetch_recipe(name)) for name in ("alice/pins", "../x", "alice/nothing")]
Path("evil.py").write_text("open('ran', 'w')")
told.append(refused(lambda: __import__("prefdata").build(fetch_recipe("alice/code", "b"), "b")))
result = [told, sorted(path.name for path in Path().iterdir() if path.name in ("ran", "builds"))]
""",
        token="secret-of-alice",
    )
    refusals, made = result
    assert "pins more than commits" in refusals[0][1]
    assert [kind for kind, _ in refusals] == ["InputError", "InputError", "InputError", "RecipeError"]
    assert made == []


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_through_xet_a_push_and_its_faults_are_the_same(near, folder, tmp_path, monkeypatch):
    pytest.importorskip("hf_xet")
    from huggingface_hub import constants

    near.hub.xet = "write"
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    near.hub.fail(0, drop=True, post=True, path=r"/commit/main")
    done = push(folder, "alice/prefs")
    assert any("xet-write-token" in entry[1] for entry in near.hub.log)
    assert not any("objects/batch" in entry[1] for entry in near.hub.log)
    assert files(near.hub) == local(folder)
    assert len(near.hub.repos["dataset", "alice/prefs"].commits) == 2
    assert push(folder, "alice/prefs").commit == done.commit
    near.hub.fail(404, path=r"xet-write-token", times=99)
    from prefdata.errors import PublishError

    with pytest.raises(PublishError, match="HF_HUB_DISABLE_XET"):
        push(dataset_folder(tmp_path / "two", "better"), "alice/prefs")
    assert files(near.hub) == local(folder)
