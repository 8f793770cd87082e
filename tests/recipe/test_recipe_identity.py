"""A recipe is data: JSON and back, one fingerprint everywhere, profiles and limits."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from prefdata.dataset import TRLPairs
from prefdata.errors import RecipeError
from prefdata.models import VLLM, Local
from prefdata.pairing import AnyRule, BestVsWorst, CustomRule, Highest, Random, Selection, WPOHybridV2, rule_named
from prefdata.prompts import SamplePrompts
from prefdata.recipe import Profile, Recipe, load_recipe, shipped_recipes
from prefdata.sampling import SampleAnswers, Samples
from prefdata.scoring import GivenScores
from prefdata.spec import Operational, Spec, canonical_json, derive_seed, fingerprint

NAMES = sorted(shipped_recipes())
EVERY = [(name, profile) for name in NAMES for profile in (None, *load_recipe(name).profiles)]


def recipe(**changed):
    parts = {
        "name": "tiny",
        "prompts": SamplePrompts(),
        "candidates": (SampleAnswers(name="teacher"),),
        "scores": GivenScores(),
        "pairs": WPOHybridV2(),
    }
    return Recipe(**{**parts, **changed})


def test_the_seed_recipe_is_shipped_with_its_cpu_profile():
    assert ("wpo_hybrid_v2", "cpu") in EVERY


@pytest.mark.parametrize(("name", "profile"), EVERY)
def test_a_shipped_recipe_survives_json(tmp_path, name, profile):
    made = load_recipe(name).with_profile(profile)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(made.dump()))
    again = load_recipe(path, allow=["paths", "endpoint=https://api.openai.com/v1", "keys=OPENAI_API_KEY"])
    assert again == made
    assert again.fingerprint() == made.fingerprint()
    assert again.dump() == made.dump()


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_with_all_its_profiles_survives_json(name):
    made = load_recipe(name)
    assert Recipe.model_validate(json.loads(canonical_json(made.dump()))) == made


@pytest.mark.parametrize("kind", sorted(rule_named()))
def test_a_named_rule_survives_json(kind):
    rule = rule_named()[kind](length="words", admit=("blank",))
    adapter = TypeAdapter(AnyRule)
    assert adapter.validate_python(json.loads(json.dumps(rule.dump()))) == rule


def test_a_custom_rule_survives_json():
    rule = CustomRule(chosen=Selection(by=(Highest(),)), rejected=Selection(by=(Random(seed=3),)))
    assert TypeAdapter(AnyRule).validate_python(json.loads(json.dumps(rule.dump()))) == rule


def test_fingerprints_are_the_same_in_every_process(fresh, tmp_path):
    program = """
import json, sys
from prefdata.recipe import load_recipe, shipped_recipes
found = {}
for name in shipped_recipes():
    recipe = load_recipe(name)
    found |= {f"{name}/{p}": recipe.with_profile(p).fingerprint() for p in ("full", *recipe.profiles)}
print(json.dumps(found))
"""
    here = {
        f"{name}/{profile or 'full'}": load_recipe(name).with_profile(profile).fingerprint() for name, profile in EVERY
    }
    for seed in ("0", "4242"):
        assert json.loads(fresh(code=program, cwd=tmp_path, PYTHONHASHSEED=seed).out) == here


def test_the_functions_below_every_fingerprint_never_change():
    value = {"b": [1, 2.5, None, True], "a": "ü\u2028"}
    assert canonical_json(value) == '{"a":"ü\u2028","b":[1,2.5,null,true]}'
    assert fingerprint(value) == "dee46b4cbe4732b568480631a397331f0e3fb216087219c2062dd8fad50a7298"
    assert derive_seed("pair", 0, "abc") == 0x370B38E9D1BEFA28 >> 11
    assert 0 <= derive_seed("x", 1) < 2**53


def test_only_operational_fields_leave_the_identity():
    plain = Samples(name="policy", generator=VLLM(model="m"), n=5)
    for name, field in VLLM.model_fields.items():
        # A field that says nothing where it is left out is not dumped at all.
        if field.exclude_if is None:
            assert (name in plain.generator.identity()) == (Operational not in field.metadata)
    tuned = Samples(name="policy", generator=VLLM(model="m", max_num_seqs=7), n=5)
    assert tuned != plain
    assert tuned.dump() != plain.dump()
    assert recipe(candidates=(tuned,)).fingerprint() == recipe(candidates=(plain,)).fingerprint()


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"limit": 3},
        {"name": "other"},
        {"pairs": BestVsWorst()},
        {"pairs": WPOHybridV2(length="words")},
        {"dataset": TRLPairs(test_size=1)},
        {"candidates": (SampleAnswers(name="teacher2"),)},
    ],
)
def test_what_can_change_a_result_changes_the_fingerprint(changed):
    assert recipe(**changed).fingerprint() != recipe().fingerprint()


def test_recipes_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        recipe().seed = 3


@pytest.mark.parametrize("value", [{1, 2}, len, float("nan"), b"x", object()])
def test_a_value_without_stable_json_has_no_fingerprint(value):
    with pytest.raises(RecipeError, match="no stable JSON form"):
        fingerprint({"a": value})


class Tagged(Spec):
    """A spec of the tests."""

    tags: tuple[str, ...] = ()
    """Tags."""


@pytest.mark.parametrize("value", [{"a", "b"}, frozenset({"a"}), len, 1, "ab", [1]])
def test_a_list_takes_lists_only(value):
    with pytest.raises(ValidationError):
        Tagged(tags=value)
    assert Tagged(tags=["b", "a"]).tags == ("b", "a")


# Profiles and limits.


def test_a_profile_swaps_named_parts_and_keeps_the_rest():
    full = recipe(
        seed=9,
        profiles={"quick": Profile(pairs=BestVsWorst(), candidates=(SampleAnswers(name="other"),))},
    )
    quick = full.with_profile("quick")
    assert (quick.pairs, quick.candidates[0].name) == (BestVsWorst(), "other")
    assert (quick.seed, quick.prompts, quick.scores, quick.dataset) == (9, full.prompts, full.scores, full.dataset)
    assert quick.name == "tiny-quick"
    assert not quick.profiles
    assert full.with_profile("full") == full.with_profile(None)
    assert full.with_profile(None).fingerprint() == recipe(seed=9).fingerprint()


def test_an_unknown_profile_is_refused_with_a_suggestion():
    with pytest.raises(RecipeError) as refused:
        load_recipe("wpo_hybrid_v2").with_profile("cpuu")
    assert "did you mean 'cpu'?" in str(refused.value)
    assert "full" in str(refused.value)


def test_a_profile_that_makes_an_invalid_recipe_is_a_recipe_error():
    with pytest.raises(RecipeError, match=r"Recipe\.name"):
        recipe(profiles={"a b": Profile()}).with_profile("a b")


def test_a_limit_is_set_and_left():
    assert recipe().with_limit(7).limit == 7
    assert recipe(limit=3).with_limit(None).limit == 3
    with pytest.raises(RecipeError, match="greater than or equal to 1"):
        recipe().with_limit(0)


def test_the_cpu_profile_needs_no_network():
    dumped = canonical_json(load_recipe("wpo_hybrid_v2").with_profile("cpu").dump())
    assert '"kind":"hub"' not in dumped
    assert "chat_endpoint" not in dumped
    assert Local.model_fields["kind"].default in dumped
