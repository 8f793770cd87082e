"""`prefdata push`, `prefdata build --push` and `--from` on the command line."""

from __future__ import annotations

import json

import pytest
from small_dataset import dataset_folder, files, local

# huggingface_hub 2.4 sends a file in a way that its own HTTP client calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_the_last_line_is_the_commit(near, prefdata, folder):
    result = prefdata("push", folder, "alice/prefs", "--tag", "v1")
    assert result.code == 0, result.err
    sha = near.hub.repos["dataset", "alice/prefs"].tags["v1"]
    assert result.out.splitlines() == [
        "published: candidates/train 12, data/test 2, data/train 4",
        "tag: v1",
        f"{near.hub.url}/datasets/alice/prefs/commit/{sha}",
    ]
    assert files(near.hub) == local(folder)
    again = prefdata("push", folder, "alice/prefs", "--tag", "v1")
    assert again.out.splitlines()[0].startswith("already there: ")
    assert f"the same dataset is published already: {near.hub.url}/datasets/alice/prefs/commit/{sha}" in again.err


def test_json_and_what_somebody_edited(near, prefdata, folder, tmp_path):
    prefdata("push", folder, "alice/prefs")
    card = files(near.hub)["README.md"].replace(b"pretty_name: small", b'pretty_name: "\\e[31mred"')
    near.hub.put("dataset", "alice/prefs", {"README.md": card})
    other = dataset_folder(tmp_path / "two", "better")
    result = prefdata("push", other, "alice/prefs", "--json")
    report = json.loads(result.out)
    assert report["kept"] == {"pretty_name": "\x1b[31mred"}
    assert report["rows"]["data/train"] == 4
    assert report["new"] is True
    assert "kept on the card: pretty_name: \ufffd[31mred" in prefdata("push", other, "alice/prefs").out


def test_a_refusal_is_one_message_and_exit_code_2(near, prefdata, folder, tmp_path):
    prefdata("push", folder, "alice/prefs")
    result = prefdata("push", dataset_folder(tmp_path / "two", test=0), "alice/prefs")
    assert (result.code, result.out) == (2, "")
    assert "data/test: gone" in result.err
    assert "next:  --allow-schema-change" in result.err
    assert (
        prefdata("push", dataset_folder(tmp_path / "three", test=0), "alice/prefs", "--allow-schema-change").code == 0
    )


def test_public_branch_and_proposal(near, prefdata, folder):
    assert prefdata("push", folder, "alice/prefs", "--public", "--branch", "dev").code == 0
    assert files(near.hub, "dev") == local(folder)
    assert not near.hub.repos["dataset", "alice/prefs"].private
    result = prefdata("push", folder, "alice/prefs", "--public", "--create-pr")
    assert "pull request: refs/pr/1" in result.out
    assert prefdata("push", folder, "alice/prefs", "--create-pr", "--tag", "v1").code == 2


def test_build_wants_one_recipe_and_a_place_to_push_to(near, prefdata):
    assert "give one recipe" in prefdata("build").err
    assert "give one recipe" in prefdata("build", "wpo_hybrid_v2", "--from", "a/b").err
    result = prefdata("build", "wpo_hybrid_v2", "--push")
    assert result.code == 2
    assert "doesn't say where to publish" in result.err
    assert near.hub.log == []


@pytest.mark.parametrize("name", ["nothing", "a/b/c", "../x/y", "/etc/passwd", "a/b@"])
def test_from_wants_a_dataset_of_the_hub(near, prefdata, name):
    said = prefdata("build", "--from", name)
    assert said.code == 2
    path = "there is no file or folder" in said.err or "has no recipe.json" in said.err
    assert path or "neither a file or folder here nor a name of a dataset of the Hub" in said.err
    assert near.hub.log == []
