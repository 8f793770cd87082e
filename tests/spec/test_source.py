"""A recipe prints as the Python that makes it."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import prefdata as package
from prefdata import Recipe, load_recipe, shipped_recipes
from prefdata.spec import Spec
from prefdata.spec.source import source_of


@pytest.fixture(scope="module")
def names():
    """Every class that a recipe may name."""
    for module in pkgutil.walk_packages(package.__path__, "prefdata."):
        if not module.name.endswith(("_worker", "__main__", "_figures")) and ".training._" not in module.name:
            importlib.import_module(module.name)
    found, waiting = {}, [Spec]
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found


def variants() -> list:
    found = []
    for name, path in shipped_recipes().items():
        recipe = load_recipe(path)
        found += [pytest.param(recipe, id=name)]
        found += [pytest.param(recipe.with_profile(each), id=f"{name}-{each}") for each in recipe.profiles]
    return found


@pytest.mark.parametrize("recipe", variants())
def test_what_a_recipe_prints_makes_the_same_recipe(recipe, names):
    text = repr(recipe)
    assert eval(text, dict(names)) == recipe
    assert str(recipe) == text
    lines = text.split("\n")
    assert lines[0] == "Recipe("
    assert lines[1] == f"    name={recipe.name!r},"
    assert len(text) < 12_000
    assert max(map(len, lines)) <= 140
    assert "<pre>Recipe(\n" in recipe._repr_html_()


def test_defaults_are_left_out_and_short_parts_are_on_one_line():
    from prefdata.pairing import BestVsWorst, WPOHybridV2

    assert repr(BestVsWorst()) == "BestVsWorst()"
    assert repr(WPOHybridV2(length="words")) == "WPOHybridV2(length='words')"


def test_long_texts_are_cut_after_spaces_and_keep_every_letter(names):
    recipe = load_recipe("ultrafeedback_binarized")
    for description in ("word " * 100, "x" * 500, "line\n" * 60, "\u202e\x1b[31m" * 40, "<b>&</b>" * 30):
        changed = recipe.replace(description=description)
        assert eval(repr(changed), dict(names)) == changed
        assert all(letter.isprintable() or letter == "\n" for letter in repr(changed))
        assert "<b>" not in changed._repr_html_()
    assert source_of(("a",)) == "('a',)"
    assert isinstance(recipe, Recipe)


def test_a_part_in_a_message_is_on_one_line():
    from prefdata.errors import RecipeError
    from prefdata.spec.source import one_line

    recipe = load_recipe("wpo_hybrid_v2")
    assert "\n" not in one_line(recipe)
    for field in ("prompts", "pairs", "candidates"):
        with pytest.raises(RecipeError) as caught:
            recipe.replace(**{field: recipe})
        assert "⏎" not in str(caught.value)
