"""Old stages of a build are listed with their sizes and removed; nothing else is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from replayed import recipe, tree

import prefdata as api
from prefdata.errors import InputError, StoreError
from prefdata.flow.build import build
from prefdata.flow.store import BuildFolder


@pytest.fixture
def stages(work) -> Path:
    """The stages of a build whose recipe has changed: only the pairs are of no use any more."""
    build(recipe(), "out")
    build(recipe().replace(pairs={"kind": "wpo_hybrid_v2"}), "out")
    return Path("out/stages")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_old_stages_are_listed_and_then_removed_and_the_build_is_as_it_was(stages, work, prefdata):
    before = tree(Path("out"))
    listed = api.clean("out")
    [old] = listed.stages
    assert old.folder.name.startswith("pairs-")
    assert old.bytes == listed.bytes == sum(path.stat().st_size for path in old.folder.iterdir())
    assert (old.files, old.others, listed.removed) == (len(names(old.folder)), (), False)
    assert tree(Path("out")) == before

    said = prefdata("clean", "out")
    assert old.folder.name in said.out
    assert "Next:    prefdata clean out --yes" in said.out
    assert json.loads(prefdata("clean", "out", "--json").out)["bytes"] == old.bytes
    assert tree(Path("out")) == before

    assert prefdata("clean", "out", "--yes").code == 0
    assert not old.folder.exists()
    assert tree(Path("out")) == {name: file for name, file in before.items() if old.folder.name not in name}
    assert api.clean("out", yes=True).stages == ()
    assert "no old stages" in prefdata("clean", "out").out
    build(recipe(), "out")


def test_only_files_of_prefdata_are_removed(stages, work):
    [old] = api.clean("out").stages
    (work / "mine").mkdir()
    (work / "mine" / "shard-00000.parquet").write_text("mine")
    (old.folder / "notes.txt").write_text("mine")
    (old.folder / "shard-00009.parquet").symlink_to(work / "mine" / "shard-00000.parquet")
    (stages / "pairs-notes").mkdir()
    (stages / "pairs-0123456789abcdef-256").symlink_to(work / "mine")
    [again] = api.clean("out", yes=True).stages
    assert again.others == ("notes.txt", "shard-00009.parquet")
    assert names(old.folder) == {"notes.txt", "shard-00009.parquet"}
    assert names(work / "mine") == {"shard-00000.parquet"}
    assert {"pairs-notes", "pairs-0123456789abcdef-256"} <= names(stages)


def test_a_kill_between_any_two_removals_leaves_a_build_that_goes_on(stages, work, monkeypatch):
    whole = tree(build(recipe(), "whole").dataset)
    [old] = api.clean("out").stages
    unlink = Path.unlink
    for most in range(old.files):
        shutil.copytree("out", f"killed{most}")
        left = most

        def killed(path: Path, missing_ok: bool = False) -> None:
            nonlocal left
            if path.parent.name == old.folder.name:
                if left == 0:
                    raise KeyboardInterrupt
                left -= 1
            unlink(path, missing_ok=missing_ok)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Path, "unlink", killed)
            api.clean(f"killed{most}", yes=True)
        assert tree(build(recipe(), f"killed{most}").dataset) == whole


def test_a_folder_without_a_build_or_with_one_at_work_is_left_alone(stages, work):
    (work / "empty").mkdir()
    with pytest.raises(InputError, match="holds no build"):
        api.clean("empty", yes=True)
    with BuildFolder(Path("out")).writing():
        before = tree(Path("out"))
        with pytest.raises(StoreError, match="in use by another build"):
            api.clean("out", yes=True)
        assert tree(Path("out")) == before
