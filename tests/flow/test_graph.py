"""The stage graph: every stage once, inputs first, and the keys that existing builds have."""

from __future__ import annotations

import pytest
from replayed import recipe

from prefdata.flow.build import build
from prefdata.flow.graph import StageGraph, graph_of
from prefdata.flow.lock import locked_parts, make_lock
from prefdata.flow.plan import describe_steps, plan
from prefdata.flow.reader import BuildReader
from prefdata.recipe import Recipe, load_recipe, shipped_recipes

PUBLISHED = {"kind": "published_pairs", "name": "published", "path": "published.jsonl", "prompt_id_column": "id"}
DEBIASED = {"kind": "length_debiased", "scorer": {"kind": "given"}}
PANEL = {"kind": "ensemble", "scorers": [{"kind": "given"}, DEBIASED], "combine_by": "mean"}
FILTERS = [{"kind": "length", "at_least": 3}, {"kind": "length", "at_most": 500}]


def everything() -> Recipe:
    """A recipe with two filters, a backfill, and an ensemble of which one member is made of another scorer."""
    return recipe(filters=FILTERS, backfill=PUBLISHED, scores=PANEL)


def shipped() -> dict[str, Recipe]:
    """Every shipped recipe with each of its profiles."""
    recipes = {name: load_recipe(name) for name in shipped_recipes()}
    return {
        f"{name}:{profile}": found.with_profile(profile)
        for name, found in recipes.items()
        for profile in ("full", *found.profiles)
    }


SHIPPED = shipped()


def names(graph: StageGraph) -> list[str]:
    return [stage.name for stage in graph.parts]


def test_the_order_of_the_stages_is_that_of_the_flow_with_members_before_what_is_made_of_them():
    graph = graph_of(everything())
    assert [(stage.name, stage.kind, stage.unit) for stage in graph.parts] == [
        ("filters-0", "filter", "prompts"),
        ("filters-1", "filter", "prompts"),
        ("prompts", "prompts", "rows"),
        ("candidates-replayed", "candidates", "prompts"),
        ("candidates-published", "backfill", "prompts"),
        ("scores-scorers.0", "member", "prompts"),
        ("scores-scorers.1-scorer", "member", "prompts"),
        ("scores-scorers.1", "member", "prompts"),
        ("scores", "scores", "prompts"),
        ("pairs", "pairs", "prompts"),
    ]
    scored = ("prompts", "candidates-replayed")
    assert {stage.name: stage.inputs for stage in graph.parts} == {
        "filters-0": (),
        "filters-1": (),
        "prompts": ("filters-0", "filters-1"),
        "candidates-replayed": ("prompts",),
        "candidates-published": ("prompts",),
        "scores-scorers.0": scored,
        "scores-scorers.1-scorer": scored,
        "scores-scorers.1": (*scored, "scores-scorers.1-scorer"),
        "scores": (*scored, "scores-scorers.0", "scores-scorers.1"),
        "pairs": ("scores", "candidates-published"),
    }
    assert names(StageGraph(graph.stages)) == names(graph)[2:]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_part_of_a_shipped_recipe_is_in_the_graph_once_and_its_inputs_come_before_it(name):
    made = SHIPPED[name]
    graph = graph_of(made)
    assert len(set(names(graph))) == len(graph.parts)
    before: set[str] = set()
    for stage in graph.parts:
        assert set(stage.inputs) <= before, stage.name
        before.add(stage.name)
    wanted = [made.prompts, *made.filters, *made.samplers, made.scores, made.pairs]
    outside = [stage.part for stage in graph.parts if stage.kind != "member"]
    assert len(outside) == len(wanted)
    assert all(any(part is found for found in outside) for part in wanted)


@pytest.mark.parametrize("name", SHIPPED)
def test_plan_card_and_lock_have_exactly_the_stages_of_the_graph(name):
    graph = graph_of(SHIPPED[name])
    assert list(locked_parts(SHIPPED[name], {})) == names(graph)
    assert list(describe_steps(SHIPPED[name])) == [stage.name for stage in graph.stages]


def test_what_a_build_writes_and_plans_are_the_stages_of_the_graph(work):
    (work / "published.jsonl").write_text(
        '{"id": "p10", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 1}\n'
    )
    built = build(everything(), "out")
    lock = make_lock(everything(), None)
    folders = {f"{stage.name}-{stage.key[:16]}-256" for stage in lock.graph.stages}
    assert {path.name for path in (work / "out" / "stages").iterdir()} == folders
    assert [stage.stage for stage in plan(everything(), "out").stages] == [stage.name for stage in lock.graph.stages]
    in_ledger = [stage.name for stage in lock.graph.stages if stage.in_ledger]
    assert [stage["stage"] for stage in built.ledger["stages"]] == in_ledger
    assert in_ledger == ["prompts", "candidates-replayed", "candidates-published", "scores", "pairs"]


def test_a_lock_gives_the_graph_that_it_was_made_of(work):
    lock = make_lock(recipe(scores=PANEL), None)
    assert graph_of(recipe(scores=PANEL)).locked(lock.content["parts"]) == lock.graph
    build(recipe(scores=PANEL), "out")
    assert BuildReader("out").graph == lock.graph


PAIRS_KEYS = {
    "gpo_gpm_llama3:full": "4a36dfecc78c136f422488715ab2ee7118982dbe5306a3bfda4810e59a949690",
    "gpo_gpm_llama3:cpu": "984d9dc8ae5a515651316b64152830e4961cd1e979c98411b2f3bc058e53f3d0",
    "simpo_llama3_armorm:full": "15e99806d6bfdab3b0314e09582ec6fe4cec9538a2cc76d8cd36952709a312a2",
    "simpo_llama3_armorm:cpu": "7cb2b61a89b7f4f3c0043bbb47310004ea34a536a811a07aae6037e2e57ce3a6",
    "snorkel_pairrm:full": "07f158d0d7b30fe77f813e433b7d4ad9dc0c6782c735674f61a427d82ebac804",
    "snorkel_pairrm:cpu": "2e63a7e1516ef59e748af959036b4131b3ce834b1854db5b977a6a2c8adf6102",
    "sppo_llama3:full": "573fdeadc878a4b52bcecf9ba42de39eebb81981fd218f6350770f7a723b2d44",
    "sppo_llama3:cpu": "75f102a7c36a2a3eea9d96c4955e2c3cdb59b0e55d400bdd52f3d55cc54a4a20",
    "ultrafeedback_binarized:full": "105cd6dee19f0f057e4e9b87e5843460702c3bcafb404caf7b6ac0bae173d47f",
    "ultrafeedback_binarized:cpu": "33dbdea8b8527fb066d4fcd40eaa2e5df095ae6a86fd9e8dec1b7f427a5c1c6c",
    "wpo_gemma2_armorm:full": "eba744dae88399bdbb0ace6b3a6aec366741b9fb23c94745c91458c42cca7d11",
    "wpo_gemma2_armorm:cpu": "b3f5b2361c6ef6e2b6c8f865e90180867daa24b89f5087fb7bf72df03669310d",
    "wpo_hybrid_v1:full": "fca58f6fb638680e94329a68b83bd08bec390afe4e652b6c7a153c9a4917e3f6",
    "wpo_hybrid_v1:cpu": "66a2eb33a035d62404031e0a4132da23349a0675d216a8ef995bf703a7a381c8",
    "wpo_hybrid_v2:full": "2ebc865a89a259641fa0d427498c7b77235f6940c33bef5a8f8ff055b40ce699",
    "wpo_hybrid_v2:cpu": "32e35b85800983eb6abb8dac26360cd017d4a77f4e055c60b084e3f7a68be0b0",
    "everything": "ef6b9bc4c7d3ab414d431870dfd661d1944021cadbfccf32d0b02f64cb78010b",
}
"""Keys of the pairs stage of the shipped recipes and of `everything`, without pins: those that builds have had since
format 2. The key of the pairs stage follows from the keys of all other stages."""


def pairs_key(made: Recipe) -> str:
    return str(locked_parts(made, {})["pairs"]["key"])


def test_keys_are_those_that_existing_builds_have():
    found = {name: pairs_key(SHIPPED[name]) for name in PAIRS_KEYS if name in SHIPPED}
    found["everything"] = pairs_key(everything())
    assert found == PAIRS_KEYS


def test_pins_seed_and_limit_are_in_the_keys_that_they_can_change():
    def keys(made: Recipe, pins: dict[str, dict[str, str]] | None = None) -> dict[str, str]:
        return {name: part["key"] for name, part in locked_parts(made, pins or {}).items()}

    before = keys(everything())
    assert not set(before.values()) & set(keys(recipe(**{**changes(), "seed": 6})).values())
    limited = keys(recipe(**changes(), limit=3))
    assert [name for name in before if before[name] == limited[name]] == ["filters-0", "filters-1"]
    pinned = keys(everything(), {"scores-scorers.1-scorer": {"sha": "1"}})
    assert [name for name in before if before[name] != pinned[name]] == [
        *("scores-scorers.1-scorer", "scores-scorers.1", "scores", "pairs")
    ]
    filled = keys(everything(), {"candidates-published": {"sha": "1"}})
    assert [name for name in before if before[name] != filled[name]] == ["candidates-published", "pairs"]


def changes() -> dict[str, object]:
    return {"filters": FILTERS, "backfill": PUBLISHED, "scores": PANEL}
