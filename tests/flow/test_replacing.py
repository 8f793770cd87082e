"""A finished dataset is not replaced by one of another size that another limit or profile makes."""

from __future__ import annotations

import pytest
from replayed import PAIRS, PROMPTS, recipe, tree

from prefdata.errors import StoreError
from prefdata.flow.build import build


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
