"""A finished dataset is not replaced by one of another size that another limit or profile makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from replayed import PAIRS, PROMPTS, recipe, tree

from prefdata.errors import StoreError
from prefdata.flow.build import build
from prefdata.flow.disk import alone, replace_folder
from prefdata.flow.from_table import pair
from prefdata.flow.iterate import run


def test_another_limit_replaces_a_dataset_of_another_size_only_where_it_is_asked_to(work):
    whole = build(recipe(), "out")
    before = tree(whole.folder / "dataset"), (whole.folder / "prefdata.recipe.json").read_bytes()
    lock = (whole.folder / "prefdata.lock.json").read_bytes()
    with pytest.raises(StoreError, match=r"a finished dataset of 12 prompts \(limit none\).* 3 \(limit 3\)") as refused:
        build(recipe(limit=3), "out")
    assert "--replace" in str(refused.value)
    assert before == (tree(whole.folder / "dataset"), (whole.folder / "prefdata.recipe.json").read_bytes())
    assert lock == (whole.folder / "prefdata.lock.json").read_bytes()
    assert build(recipe(), "out").ledger["pairs"] == PAIRS
    assert build(recipe(limit=3), "out", replace=True).ledger["prompts"] == 3
    with pytest.raises(StoreError, match="another folder, or --replace"):
        build(recipe(), "out")
    assert build(recipe(), "out", replace=True).ledger["pairs"] == PAIRS


def test_another_profile_is_another_dataset(work):
    build(recipe(), "out")
    with pytest.raises(StoreError, match="name"):
        build(recipe(name="another", limit=2), "out")


def test_what_has_the_same_size_or_the_same_limit_is_replaced_as_ever(work):
    build(recipe(), "out")
    assert build(recipe(limit=PROMPTS), "out").ledger["pairs"] == PAIRS
    assert build(recipe(pairs={"kind": "wpo_hybrid_v2"}, limit=PROMPTS), "out").ledger["pairs"] == PAIRS
    (work / "out" / "dataset" / "ledger.json").write_text("{")
    assert build(recipe(limit=2), "out").ledger["prompts"] == 2


TABLE = [{"prompt": f"Q{n}?", "response": f"{n} {score}", "score": score} for n in range(4) for score in (1, 2)]


DAMAGED = [[], {"stages": 3}, {"stages": [3]}, {"stages": [{"stagf": "pairs", "in": 4}]}]
DAMAGED += [
    {"stages": [{"stage": "pairs", **rest}]} for rest in ({}, {"in": "4"}, {"in": None}, {"in": [4]}, {"in": 4.5})
]


@pytest.mark.parametrize("ledger", DAMAGED)
def test_a_dataset_whose_counts_are_damaged_is_made_again(work, ledger):
    build(recipe(), "builds/one")
    whole = tree(work / "builds" / "one" / "dataset")
    (work / "builds" / "one" / "dataset" / "ledger.json").write_text(json.dumps(ledger))
    build(recipe(limit=2), "builds/one")
    build(recipe(), "builds/one", replace=True)
    assert tree(work / "builds" / "one" / "dataset") == whole


def paired(folder, **options):
    import polars as pl

    return pair(pl.DataFrame(TABLE), "best_vs_worst", folder, **options)


def test_pair_replaces_a_dataset_of_another_limit_and_size_only_where_it_is_asked_to(tmp_path):
    paired(tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(StoreError, match=r"a finished dataset of 4 prompts \(limit none\).* 2 \(limit 2\)"):
        paired(tmp_path / "out", limit=2)
    assert tree(tmp_path / "out") == before
    assert paired(tmp_path / "out", limit=2, replace=True)["prompts"] == 2


def test_a_folder_that_another_process_is_filling_is_refused(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        theirs = tmp_path / f".out.{other.pid}.part"
        theirs.mkdir()
        with pytest.raises(StoreError, match=f"is being written by another process .{other.pid}."):
            paired(tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == [theirs.name]
        assert other.stdin is not None
        other.stdin.close()
        other.wait()
    # What a killed process has left is removed.
    assert paired(tmp_path / "out")["pairs"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_two_processes_that_fill_one_folder_at_once_one_is_refused(tmp_path):
    code = f"""
import pathlib, sys
from prefdata.flow.disk import replace_folder
def fill(folder):
    (folder / "ledger.json").write_text("theirs")
    print("filling", flush=True)
    input()
replace_folder(pathlib.Path({str(tmp_path / "out")!r}), fill)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "filling\n"
        with pytest.raises(StoreError, match="another process"):
            replace_folder(tmp_path / "out", lambda folder: None)
        other.stdin.write("\n")
        other.stdin.close()
        assert other.wait() == 0
    assert (tmp_path / "out" / "ledger.json").read_text() == "theirs"


def test_a_build_or_a_run_in_a_folder_that_is_in_use_is_refused(work):
    from prefdata.recipe import as_recipe

    with alone(work / "out"):
        with pytest.raises(StoreError, match="in use by another build"):
            build(recipe(), work / "out")
        with pytest.raises(StoreError, match="in use by another build"):
            run(as_recipe("gpo_gpm_llama3").with_profile("cpu"), out=work / "out")
