"""`recipes`, `rules` and `new`: what there is to start from, in Python and on the command line."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from prefdata.errors import UserError
from prefdata.pairing import AnyRule
from prefdata.recipe import load_recipe, shipped_recipes
from prefdata.recipe.listing import new, recipes, rules


def test_every_recipe_and_every_rule_is_listed(prefdata):
    assert {*recipes()} == {*shipped_recipes()}
    kinds = {kind.model_fields["kind"].default for kind in get_args(get_args(AnyRule)[0])}
    assert {*rules()} == kinds
    for command, found in (("recipes", recipes()), ("rules", rules())):
        said = prefdata(command)
        assert (said.code, said.err) == (0, "")
        assert [line.split()[0] for line in said.out.splitlines()] == list(found)
        assert json.loads(prefdata(command, "--json").out) == found


@pytest.mark.parametrize("origin", [*shipped_recipes()])
def test_a_new_recipe_is_a_copy_of_a_shipped_one_under_its_own_name(tmp_path, monkeypatch, origin):
    monkeypatch.chdir(tmp_path)
    path = new("mine", origin=origin)
    ours, theirs = load_recipe(path), load_recipe(origin)
    assert ours.name == "mine"
    assert ours.replace(name=theirs.name).fingerprint() == theirs.fingerprint()
    with pytest.raises(UserError, match="already"):
        new("mine", origin=origin)


def test_mistakes_are_one_message(prefdata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prefdata("new", "mine", "--from", "wpo_hybrid_v3").code == 2
    assert prefdata("new", "../mine").code == 2
    said = prefdata("new", "mine")
    assert (said.code, said.err) == (0, "")
    assert "prefdata check mine.py --profile cpu" in said.out
