"""The licence of a dataset follows from what it is made of: the strictest terms win, and the unknown is said."""

from __future__ import annotations

import itertools
import random

import pytest

from prefdata.publish import Publish
from prefdata.publish.card.licence import derive_licence, licence_lines
from prefdata.publish.card.terms import KNOWN_INPUTS, LICENSE_IDS, TERMS, known_license
from prefdata.recipe import load_recipe, shipped_recipes


def recipe(prompts: str, *models: str, scorer: str | None = None, **licenses: str) -> dict:
    """Writes a recipe as JSON, with one input for each licence."""
    return {
        "prompts": {"kind": "hub", "dataset": prompts},
        "candidates": [{"kind": "samples", "name": m, "generator": {"kind": "vllm", "model": m}} for m in models],
        "scores": {"kind": "given"} if scorer is None else {"kind": "reward_model", "model": scorer},
        "pairs": {"kind": "best_vs_worst"},
        "publish": {"licenses": licenses},
    }


def of(*licenses: str):
    """The licence of a dataset whose inputs have these."""
    names = [f"in{place}" for place in range(len(licenses))]
    return derive_licence(recipe(*names, **dict(zip(names, licenses, strict=True))))


@pytest.mark.parametrize(
    ("inputs", "license"),
    [
        (["mit"], "mit"),
        (["mit", "apache-2.0"], "apache-2.0"),
        (["mit", "cc0-1.0"], "mit"),
        (["mit", "bsd-3-clause"], "bsd-3-clause"),
        (["apache-2.0", "cc-by-4.0"], "cc-by-4.0"),
        (["mit", "cc-by-4.0", "cc-by-sa-4.0"], "cc-by-sa-4.0"),
        (["mit", "llama3"], "llama3"),
        (["llama3", "llama3", "apache-2.0", "cc-by-4.0"], "llama3"),
        (["mit", "gemma"], "gemma"),
        (["mit", "cc-by-nc-4.0"], "cc-by-nc-4.0"),
        (["apache-2.0", "cc-by-nc-sa-4.0"], "cc-by-nc-sa-4.0"),
        (["mit", "gpl-3.0"], "gpl-3.0"),
        (["mit", "bigscience-openrail-m"], "bigscience-openrail-m"),
    ],
)
def test_the_strictest_terms_win(inputs, license):
    for order in itertools.permutations(inputs):
        licence = of(*order)
        assert (licence.license, licence.license_name, licence.unknown) == (license, None, ())


@pytest.mark.parametrize(
    ("inputs", "name", "link"),
    [
        (["openai-terms-of-use", "mit"], "openai-terms-of-use", "https://openai.com/"),
        (["zoom-software-license", "mit"], "zoom-software-license", "https://github.com/wzhouad/WPO"),
        (["llama3", "openai-terms-of-use"], "llama3-and-openai-terms-of-use", "https://llama.meta.com/llama3"),
        (["cc-by-nc-4.0", "llama3"], "cc-by-nc-4.0-and-llama3", "README.md"),
        (["cc-by-sa-4.0", "llama3", "mit"], "llama3-and-cc-by-sa-4.0", "https://llama.meta.com/llama3"),
        (["zoom-software-license", "gemma", "mit"], "zoom-software-license-and-gemma", "https://github.com/wzhouad"),
        (["Our own (v2)!", "mit"], "our-own-v2", "README.md"),
    ],
)
def test_terms_that_no_single_id_tells_are_other_and_named(inputs, name, link):
    for order in itertools.permutations(inputs):
        licence = of(*order)
        assert (licence.license, licence.license_name) == ("other", name)
        assert licence.license_link.startswith(link)
        assert licence.unknown == ()


def test_an_unknown_input_makes_it_other_and_is_named_even_among_the_strictest():
    licence = derive_licence(recipe("somebody/questions", "meta-llama/Meta-Llama-3-8B-Instruct", "my/model"))
    assert licence.license == "other"
    assert licence.license_name == "unknown-and-llama3"
    assert licence.unknown == ("somebody/questions", "my/model")
    text = "\n".join(licence_lines(licence))
    assert 'state it in the recipe: publish=Publish(licenses={"my/model": "..."})' in text


def test_the_recipe_states_what_is_not_known_and_corrects_what_is():
    licence = derive_licence(
        recipe("somebody/questions", "gpt-4", **{"somebody/questions": "mit", "gpt-4": "apache-2.0"})
    )
    assert licence.license == "apache-2.0"
    assert [given.stated for given in licence.inputs] == [True, True, False]


def test_every_part_counts_and_the_rule_never():
    whole = recipe(
        "HuggingFaceH4/ultrafeedback_binarized", "mistralai/Mistral-7B-Instruct-v0.2", scorer="llm-blender/PairRM"
    )
    assert derive_licence(whole).license == "apache-2.0"
    for part, value in {
        "prompts": {"kind": "hub", "dataset": "wzhouad/zephyr-ultrafeedback-hybrid"},
        "backfill": {"kind": "published_pairs", "dataset": "wzhouad/llama3-ultrafeedback-hybrid-v2"},
        "scores": {"kind": "mean", "scorers": [{"kind": "judge", "generator": {"kind": "chat", "model": "gpt-4o"}}]},
        "candidates": [{"kind": "samples", "generator": {"kind": "chat", "model": "claude-3-opus"}}],
    }.items():
        assert derive_licence({**whole, part: value}).license == "other", part
    assert derive_licence({**whole, "pairs": {"kind": "python", "path": "a:b"}}).license == "apache-2.0"
    assert derive_licence({**whole, "filters": [{"kind": "decontaminate", "dataset": "x/y"}]}).license == "apache-2.0"


def test_a_table_and_files_are_not_known_and_tell_no_folder_of_this_machine():
    table = derive_licence({"table": "answers.parquet", "columns": {}, "pairs": {"kind": "sppo"}})
    assert (table.license, table.license_name, table.unknown) == ("other", "unknown", ("answers.parquet",))
    local = recipe("mit/x", "/home/me/models/policy")
    local["prompts"] = {"kind": "file", "path": "/home/me/prompts.jsonl"}
    assert derive_licence(local).unknown == ("prompts.jsonl", "policy")


@pytest.mark.parametrize(
    "data", [{}, {"prompts": None}, {"publish": {"licenses": [1]}}, {"candidates": "x"}, {"pairs": 3}]
)
def test_what_is_no_recipe_is_unknown(data):
    assert derive_licence(data).license == "other"


KNOWN = {
    "HuggingFaceH4/ultrafeedback_binarized": "mit",
    "snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset": "apache-2.0",
    "wzhouad/gemma-2-ultrafeedback-hybrid": "zoom-software-license",
    "meta-llama/Meta-Llama-3-8B-Instruct": "llama3",
    "meta-llama/Llama-3.1-8B-Instruct": "llama3.1",
    "mistralai/Mistral-7B-Instruct-v0.2": "apache-2.0",
    "google/gemma-2-9b-it": "gemma",
    "RLHFlow/ArmoRM-Llama3-8B-v0.1": "llama3",
    "llm-blender/PairRM": "mit",
    "general-preference/GPM-Gemma-2B": "gemma",
    "Skywork/Skywork-Reward-V2-Qwen3-8B": "apache-2.0",
    "Skywork/Skywork-Reward-V2-Llama-3.1-8B": "llama3.1",
    "gpt-4-turbo": "openai-terms-of-use",
    "o3-mini": "openai-terms-of-use",
    "embedded:smollm2-135m-instruct": "apache-2.0",
}


@pytest.mark.parametrize(("name", "license"), KNOWN.items())
def test_known_inputs(name, license):
    assert known_license(name) == license


@pytest.mark.parametrize(
    "name",
    [
        "",
        "me/gpt-4-turbo-distilled",
        "me/Meta-Llama-3-8B-Instruct",
        "open-orca/x",
        "o1",
        "mistralai/Mistral-Large-2",
        "gpt2",
    ],
)
def test_a_name_that_only_looks_like_a_known_one_is_not_known(name):
    expected = "openai-terms-of-use" if name == "o1" else None
    assert known_license(name) == expected


def test_every_entry_of_the_table_leads_to_terms():
    assert {license for _, license in KNOWN_INPUTS} <= TERMS.keys()
    assert {terms.license for terms in TERMS.values()} <= LICENSE_IDS
    assert all(terms.link for terms in TERMS.values() if terms.license == "other")


def test_the_order_of_inputs_changes_nothing_but_the_list():
    names = [*sorted(LICENSE_IDS - {"other", "unknown"}), *TERMS]
    draw = random.Random(5)
    for _ in range(200):
        chosen = draw.sample(names, 4)
        one, two = of(*chosen), of(*reversed(chosen))
        assert one.header() == two.header()
        assert one.strictness == two.strictness == max(given.terms.strictness for given in one.inputs)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_derived_and_its_small_profile_is_free(name):
    recipe = load_recipe(name)
    licence = derive_licence(recipe.dump())
    assert licence.license in LICENSE_IDS
    assert len(licence.inputs) >= 3
    if "cpu" in recipe.profiles:
        assert derive_licence(recipe.with_profile("cpu").dump()).license == "apache-2.0"


def test_what_a_recipe_says_of_licences_and_places_changes_no_identity():
    plain = Publish()
    assert plain.dump() == {"title": None, "license": None, "language": [], "tags": [], "limitations": ""}
    placed = Publish(repo="me/x", public=True, tag="v1")
    assert placed.fingerprint() == plain.fingerprint()
    assert Publish.model_validate(placed.dump()) == placed
    assert Publish(licenses={"a": "mit"}).fingerprint() != plain.fingerprint()
