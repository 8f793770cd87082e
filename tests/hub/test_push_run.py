"""A run is pushed iteration by iteration: each dataset, then the model that was trained on it, one commit each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from small_dataset import dataset_folder
from small_model import model_folder

from prefdata.errors import PublishError, RecipeError, UnconfirmedError
from prefdata.flow.iterate import run
from prefdata.flow.push import push
from prefdata.publish.manifest import MANIFEST
from prefdata.recipe import Recipe
from prefdata.spec import fingerprint, sha256_of_file

# huggingface_hub 2.4 sends a file in a way that its own HTTP client calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

COUNT = 2
IN_ORDER = [(kind, f"alice/rounds-iteration-{k}") for k in range(1, COUNT + 1) for kind in ("dataset", "model")]
START = "HuggingFaceTB/SmolLM2-135M-Instruct"


def recipe(**publish: object) -> Recipe:
    generator = {"kind": "transformers", "model": START}
    return Recipe.model_validate(
        {
            "name": "rounds",
            "prompts": {"kind": "sample"},
            "candidates": [{"kind": "samples", "name": "policy", "generator": generator, "n": 2, "max_tokens": 9}],
            "scores": {"kind": "baseline"},
            "pairs": {"kind": "best_vs_worst"},
            "training": {"kind": "dpo", "model": START},
            "iterations": {"count": COUNT},
            "publish": publish,
        }
    )


def write_iteration(root: Path, number: int) -> None:
    """What a build and a training leave."""
    dataset_folder(root / f"iteration-{number}" / "dataset", f"answer {number}")
    parent = {"parent": f"rounds-iteration-{number - 1}", "base_model": START} if number > 1 else {}
    pins = {"sha": "3" * 40} if number == 1 else {"sha256": "4" * 64}
    model_folder(
        root / "models" / f"rounds-iteration-{number}",
        f"good {number}",
        lineage={"name": f"rounds-iteration-{number}", **parent},
        model={"model_pins": pins, "template_date": None},
    )


@pytest.fixture
def root(tmp_path):
    """The folder of a finished run that has published nothing."""
    folder = tmp_path / "runs" / "rounds"
    entries = []
    for number in range(1, COUNT + 1):
        write_iteration(folder, number)
        policy = None if number == 1 else str(folder / "models" / f"rounds-iteration-{number - 1}")
        fingerprint = recipe().iteration(number, policy).fingerprint()
        entries.append({"iteration": number, "recipe": fingerprint, "pairs": 6, "steps": 2, "weights_sha256": number})
    (folder / "run.json").write_text(json.dumps({"prompts": {}, "iterations": entries}))
    return folder


def made(hub) -> list[tuple[str, str]]:
    """Kind and repository of every commit, in the order in which they were made."""
    return [
        (kind[:-1], repo)
        for method, path, *_ in hub.log
        if method == "POST" and "/commit/" in path
        for kind, repo in [path.removeprefix("/api/").split("/commit/")[0].split("/", 1)]
    ]


def card(hub, number: int) -> tuple[dict, str]:
    repo = hub.repos["model", f"alice/rounds-iteration-{number}"]
    text = hub.read(repo.resolve("main").tree["README.md"]).decode()
    return yaml.safe_load(text.split("---")[1]), text


def test_each_dataset_and_then_its_model_one_private_commit_each_and_a_chain_of_cards(near, prefdata, root):
    said = prefdata("push", root, "alice/rounds")
    assert said.code == 0, said.err
    assert made(near.hub) == list(near.hub.repos) == IN_ORDER
    assert all(repo.private for repo in near.hub.repos.values())
    kinds = {"dataset": "datasets/", "model": ""}
    addresses = [f"{near.hub.url}/{kinds[kind]}{repo}/commit/" for kind, repo in IN_ORDER]
    assert [line.rpartition("/")[0] + "/" for line in said.out.splitlines() if "/commit/" in line] == addresses
    first, text = card(near.hub, 1)
    assert (first["base_model"], first["datasets"]) == (START, ["alice/rounds-iteration-1"])
    assert f"`{START}`, trained by `wpo` on `alice/rounds-iteration-1`" in text
    second, text = card(near.hub, 2)
    assert (second["base_model"], second["datasets"]) == ("alice/rounds-iteration-1", ["alice/rounds-iteration-2"])
    assert "`alice/rounds-iteration-1`, trained by `wpo` on `alice/rounds-iteration-2`" in text
    assert "parent: `rounds-iteration-1`" in text


def test_the_same_run_again_makes_no_commit_and_sends_no_file(near, root):
    first = push(root, "alice/rounds")
    near.hub.log.clear()
    again = push(root, "alice/rounds")
    assert not [entry for entry in near.hub.log if entry[0] == "PUT" or "/commit/" in entry[1]]
    assert [one.commit for one in (*first.before, first)] == [one.commit for one in (*again.before, again)]
    assert [one.new for one in (*again.before, again)] == [False] * 4
    # Elsewhere the cards name the repositories there.
    push(root, "alice/other")
    assert "`alice/other-iteration-1`, trained by" in (root / "models" / "rounds-iteration-2" / "README.md").read_text()
    push(root, "alice/rounds")
    assert all(len(list(repo.history("main"))) == 2 for repo in near.hub.repos.values())


def test_public_and_tag_hold_for_all_of_them(near, root):
    push(root, "alice/rounds", public=True, tag="v1")
    assert not any(repo.private for repo in near.hub.repos.values())
    assert all(repo.tags == {"v1": next(iter(repo.history("main"))).id} for repo in near.hub.repos.values())


def test_what_stops_in_the_middle_says_what_is_published_and_goes_on(near, root):
    weights = root / "models" / "rounds-iteration-1" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole + b"damage")
    with pytest.raises(PublishError) as told:
        push(root, "alice/rounds")
    assert str(told.value).startswith("not published: 'model.safetensors'")
    assert "of this run, 1 datasets and models before it are published and checked" in str(told.value)
    assert not isinstance(told.value, UnconfirmedError)
    assert made(near.hub) == IN_ORDER[:1]
    weights.write_bytes(whole)
    push(root, "alice/rounds")
    assert made(near.hub) == IN_ORDER


def test_a_card_that_somebody_has_changed_is_not_written_over(near, root):
    path = root / "models" / "rounds-iteration-1" / "README.md"
    path.write_text(edited := path.read_text() + "\nMine.\n")
    with pytest.raises(PublishError, match=r"'README.md' of .* differs from the manifest"):
        push(root, "alice/rounds")
    assert path.read_text() == edited


def test_only_finished_iterations_are_published_and_a_run_without_one_is_refused(near, root):
    ledger = json.loads((root / "run.json").read_text())
    (root / "run.json").write_text(json.dumps({**ledger, "iterations": ledger["iterations"][:1]}))
    push(root, "alice/rounds")
    assert made(near.hub) == IN_ORDER[:2]
    (root / "run.json").write_text(json.dumps({**ledger, "iterations": []}))
    with pytest.raises(PublishError, match=r"not published: no iteration of the run .* is finished"):
        push(root, "alice/rounds")
    (root / "run.json").write_text(json.dumps(ledger))
    shutil.rmtree(root / "models" / "rounds-iteration-2")
    with pytest.raises(PublishError, match="holds 0 models of iteration 2"):
        push(root, "alice/rounds")


def test_a_finished_run_publishes_what_it_has_not_published_there(near, root):
    options = {"out": root, "log": lambda _: None}
    with pytest.raises(RecipeError, match="doesn't say where to publish"):
        run(recipe(), push=True, **options)
    with pytest.raises(PublishError, match="not a valid repository name"):
        run(recipe(), push="alice", **options)
    run(recipe(), push="alice/rounds", **options)
    assert made(near.hub) == IN_ORDER
    ledger = json.loads((root / "run.json").read_text())["iterations"]
    addresses = [entry[key] for entry in ledger for key in ("commit", "model_commit")]
    assert [f"/{repo}/commit/" in address for address, (_, repo) in zip(addresses, IN_ORDER, strict=True)] == [True] * 4
    near.hub.log.clear()
    # The recipe says the same place, and what is published there is not looked at again; another place gets all of it.
    run(recipe(repo="alice/rounds"), push=True, **options)
    assert near.hub.log == []
    run(recipe(repo="alice/rounds"), push="alice/other", **options)
    assert made(near.hub) == [(kind, repo.replace("rounds", "other")) for kind, repo in IN_ORDER]


class Built:
    """A finished build."""

    ledger: ClassVar[dict[str, int]] = {"pairs": 6}

    def __init__(self, folder: Path) -> None:
        self.folder, self.dataset = folder, folder / "dataset"


class Trained:
    """A finished training."""

    facts: ClassVar[dict[str, dict[str, int]]] = {"result": {"steps": 2}}

    def __init__(self, folder: Path) -> None:
        self.folder = folder


PROOF = {"prompts": 0, "sha256": fingerprint([])}


def test_a_run_publishes_each_dataset_before_it_trains_and_each_model_before_it_samples_again(
    near, tmp_path, monkeypatch
):
    root, done = tmp_path / "new", []

    def build(part: Recipe, folder: Path, **_: object) -> object:
        number = int(folder.name.rpartition("-")[2])
        assert made(near.hub) == IN_ORDER[: 2 * number - 2]
        done.append(f"build {number}")
        write_iteration(root, number)
        return Built(folder)

    def train(part: Recipe, folder: Path, *, out: Path, **_: object) -> object:
        number = int(folder.name.rpartition("-")[2])
        assert made(near.hub) == IN_ORDER[: 2 * number - 1]
        done.append(f"train {number}")
        return Trained(out)

    monkeypatch.setattr("prefdata.flow.iterate.build", build)
    monkeypatch.setattr("prefdata.flow.iterate.train", train)
    monkeypatch.setattr("prefdata.flow.iterate._Run._prove_disjoint", lambda _: {str(k): PROOF for k in (1, 2)})
    monkeypatch.setattr("prefdata.flow.iterate._Run._built_prompts", lambda *_: [])
    monkeypatch.setattr("prefdata.flow.iterate.Build", Built)
    run(recipe(), root, push="alice/rounds", log=lambda _: None)
    assert done == ["build 1", "train 1", "build 2", "train 2"]
    assert made(near.hub) == IN_ORDER
    entry = json.loads((root / "run.json").read_text())["iterations"][1]
    assert entry["dataset_sha256"] == sha256_of_file(root / "iteration-2" / "dataset" / MANIFEST)
