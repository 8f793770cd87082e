"""Several policies in one build with real vLLM: one engine after another, nothing left behind; adapters; choices."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from prefdata.errors import ModelError
from prefdata.flow.build import Build, build
from prefdata.models import VLLM, Decoding
from prefdata.recipe import Recipe
from prefdata.records import Request, as_messages
from prefdata.spec import Context

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

WORKER = "prefdata.models.hosted._vllm_worker"
PROMPTS = [f"{verb} {thing}" for verb in ("Paint", "Eat", "Sell") for thing in ("a house", "a pear", "12 birds", "it")]
LIMIT = 6
STOPS = ("zomb", " peri", "rade", "eleph", "Members")
"""What the random model says in some of its answers, in some as the last thing that the limit lets it say."""


def recipe(folder: Path, tiny) -> Recipe:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    base = {"kind": "vllm", "model": str(tiny.base), "dtype": "float32", "env": {"VLLM_CPU_KVCACHE_SPACE": "1"}}
    drawing = {"kind": "samples", "n": 1, "temperature": 0, "max_tokens": LIMIT, "stop": STOPS}
    return Recipe.model_validate(
        {
            "name": "policies",
            "seed": 1,
            "prompts": {"kind": "file", "path": str(prompts)},
            "candidates": [
                {**drawing, "name": "base", "generator": base},
                {**drawing, "name": "adapted", "generator": {**base, "lora": str(tiny.adapter)}},
            ],
            "scores": {"kind": "baseline"},
            "pairs": {"kind": "best_vs_worst"},
        }
    )


def processes() -> dict[int, tuple[int, str]]:
    """Every process that runs: id → its parent, and its command."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                command = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(stat.parent.name)] = (int(parent), command)
    return found


def engines() -> list[set[int]]:
    """Of each engine that this process has started and that runs: all its processes."""
    there = processes()
    trees = []
    for leader, (parent, command) in there.items():
        if parent == os.getpid() and WORKER in command:
            tree, before = {leader}, 0
            while len(tree) > before:
                before = len(tree)
                tree |= {child for child, (of, _) in there.items() if of in tree}
            trees.append(tree)
    return trees


@contextlib.contextmanager
def watched(act: Callable[[int], None] = lambda _: None) -> Iterator[list[list[set[int]]]]:
    """What `engines` says fifty times a second; `act` is given each new leader."""
    seen: list[list[set[int]]] = []
    known: set[int] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            now = engines()
            seen.append(now)
            for tree in now:
                if not tree & known:
                    act(min(tree))
                known.update(tree)
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="module")
def built(tiny, tmp_path_factory) -> tuple[Build, list[list[set[int]]], str]:
    """The build, after a run whose first engine was killed; what ran meanwhile, and how the first run ended."""
    folder = tmp_path_factory.mktemp("policies")
    with watched(lambda leader: os.kill(leader, signal.SIGKILL)) as seen:
        with pytest.raises(ModelError) as caught:
            build(recipe(folder, tiny), folder / "build", shard_size=5)
        assert engines() == []
    assert len({min(tree) for now in seen for tree in now}) == 1
    with watched() as seen:
        done = build(recipe(folder, tiny), folder / "build", shard_size=5)
        assert engines() == []
    return done, seen, caught.value.problem


def candidates(done: Build) -> dict[tuple[str, str], dict[str, object]]:
    """The answers by source and prompt, from the stage's tables."""
    found = pl.read_parquet(done.folder / "stages" / "candidates-*" / "shard-*.parquet")
    prompts = pl.read_parquet(done.folder / "stages" / "prompts-*" / "shard-*.parquet")
    texts = {row["prompt_id"]: row["messages"][0]["content"] for row in prompts.iter_rows(named=True)}
    return {(row["source"], texts[row["prompt_id"]]): row for row in found.iter_rows(named=True)}


def test_a_killed_engine_is_an_error_and_the_next_policy_does_not_start(built):
    assert "'tiny-base' was ended by SIGKILL" in built[2]


def test_the_second_engine_starts_when_nothing_of_the_first_is_left(built):
    order: list[int] = []
    for now in built[1]:
        assert len(now) <= 1
        order += [leader for leader in (min(tree) for tree in now) if leader not in order]
    assert len(order) == 2
    first, second = order
    last_of_first = max(i for i, now in enumerate(built[1]) if any(first in tree for tree in now))
    first_of_second = min(i for i, now in enumerate(built[1]) if any(second in tree for tree in now))
    assert last_of_first < first_of_second


def test_an_adapter_answers_as_the_model_with_its_weights_added(built, tiny):
    from prefdata.models.hosted._transformers_worker import _Sampler

    found = candidates(built[0])
    assert len(found) == 2 * len(PROMPTS)
    decoding = Decoding(temperature=0, max_tokens=LIMIT, stop=STOPS).dump()
    plain = {"dtype": "float32", "max_model_len": None, "trust_remote_code": False, "refuse_control_tokens": True}
    plain |= {"thinking_marks": None, "chat_template_kwargs": {}, "template_date": "2024-07-26"}
    for source, folder in (("base", tiny.base), ("adapted", tiny.merged)):
        sampler = _Sampler({"folder": str(folder), **plain})
        sampler.decode_as(decoding)
        asked = [dict(message) for message in as_messages("")]
        items = [
            {"key": p, "messages": [{**asked[0], "content": p}], "seed": 1, "json_schema": None, "top_logprobs": 0}
            for p in PROMPTS
        ]
        for expected in sampler.answer([sampler.row(item) for item in items]):
            answer = found[source, expected["key"]]
            assert (answer["response"], answer["n_tokens"]) == (expected["text"], expected["n_tokens"])
            assert answer["finish_reason"] == expected["finish_reason"]
    assert all(found["base", p]["response"] != found["adapted", p]["response"] for p in PROMPTS)
    assert {row["model"] for row in found.values()} == {"tiny-base", "tiny-base+tiny-adapter"}


def test_the_adapter_is_pinned_by_its_files(built, tiny):
    text = (built[0].folder / "prefdata.lock.json").read_text()
    part = VLLM(model=str(tiny.base), lora=str(tiny.adapter))
    pinned = part.pins()["lora"]
    assert pinned.keys() == {"sha256"} and f'"{pinned["sha256"]}"' in text
    with pytest.raises(ModelError, match="have changed since the build was planned"):
        next(part.generate(asked(), Decoding(), Context(seed=1, pins={"lora": {"sha256": "0" * 64}})))
    with pytest.raises(ModelError, match=r"does not hold an adapter: it has no adapter_config.json"):
        VLLM(model=str(tiny.base), lora=str(tiny.base)).pins()


@pytest.mark.parametrize("half", ["lora_A", "lora_B"])
def test_an_adapter_of_another_model_is_refused(tiny, tmp_path, half):
    from safetensors.torch import load_file, save_file

    from prefdata.models.hosted._vllm_worker import _check_adapter

    _check_adapter(str(tiny.adapter), str(tiny.base))
    weights = load_file(tiny.adapter / "adapter_model.safetensors")
    other = {
        name: weight[:, :64].contiguous() if "lora_A" in name else weight[:64].contiguous()
        for name, weight in weights.items()
        if half in name
    }
    save_file(other, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=f"is for another model: .*{half}.*64.*128"):
        _check_adapter(str(tmp_path), str(tiny.base))


def test_an_adapter_that_vllm_can_not_load_is_refused_with_its_words(tiny, tmp_path):
    shutil.copy(tiny.adapter / "adapter_config.json", tmp_path)
    part = VLLM(model=str(tiny.base), dtype="float32", lora=str(tmp_path))
    with pytest.raises(ModelError, match="vLLM can't load the adapter") as caught:
        next(part.generate(asked(), Decoding(), Context(seed=1)))
    assert "this very model" in str(caught.value.hint)


def test_answers_that_were_cut_off_stay_out_of_the_pairs_with_their_own_reason(built):
    done, _, _ = built
    cut = {key for key, row in candidates(done).items() if row["finish_reason"] == "length"}
    ended = {key for key, row in candidates(done).items() if row["finish_reason"] == "stop"}
    # Some of both, some at the very limit.
    assert len(cut) > 2 and len(ended) > 4 and len(cut) + len(ended) == 2 * len(PROMPTS)
    assert any(candidates(done)[key]["n_tokens"] == LIMIT for key in ended)
    assert all(candidates(done)[key]["n_tokens"] == LIMIT for key in cut)
    drops = pl.read_parquet(done.dataset / "drops_candidates.parquet")
    by_id = {row["prompt_id"]: text for (_, text), row in candidates(done).items()}
    told = {(row["source"], by_id[row["prompt_id"]]) for row in drops.filter(reason="cut_off").iter_rows(named=True)}
    assert told == cut
    whole = {p for p in PROMPTS if {("base", p), ("adapted", p)} <= ended}
    paired = {row["prompt"][0]["content"] for row in done.pairs.iter_rows(named=True)}
    assert paired and paired <= whole
    short = done.drops.filter(reason="too_few_candidates")["prompt_id"]
    assert {by_id[prompt_id] for prompt_id in short} == set(PROMPTS) - whole


def asked() -> list[Request]:
    return [Request(prompt, as_messages(prompt), seed) for seed, prompt in enumerate(PROMPTS)]


def test_a_way_of_guiding_that_vllm_does_not_have_is_refused_with_the_near_one():
    from prefdata.models.hosted._vllm_worker import _checked_structure

    for given in (None, {"choice": ["a", "b"]}, {"regex": "a+", "disable_any_whitespace": True}):
        assert _checked_structure(given) == given
    with pytest.raises(ModelError, match="no structured output 'regexp'") as caught:
        _checked_structure({"regexp": "a+"})
    assert "'regex'" in str(caught.value.valid)
    for given in ({"regex": "a", "choice": ["b"]}, {}):
        with pytest.raises(ModelError, match="vLLM does not take the structured_outputs"):
            _checked_structure(given)


def test_every_answer_is_one_of_the_choices_and_a_schema_beside_them_is_refused(tiny):
    choices = {"oui", "non", "peut-être"}
    part = VLLM(model=str(tiny.base), dtype="float32", max_num_seqs=2, structured_outputs={"choice": sorted(choices)})
    asked_too = Request("json", as_messages("Say it in JSON"), 1, {"type": "object"})
    answers = []
    with pytest.raises(ModelError, match="a request has a JSON schema"):
        answers.extend(part.generate([*asked(), asked_too], Decoding(max_tokens=16), Context(seed=1)))
    # Those that were under way when the last was asked are lost with it.
    assert len(answers) >= len(PROMPTS) - 3
    assert {answer.finish_reason for answer in answers} == {"stop"}
    texts = {answer.text for answer in answers}
    assert len(texts) > 1 and texts <= choices


def test_samplers_of_one_model_share_one_engine_start_and_answer_as_alone(built, tiny, tmp_path):
    one = recipe(tmp_path, tiny)
    base, adapted = one.candidates
    warm = base.replace(name="warm", temperature=1.0, n=2, max_tokens=4)
    with watched() as seen:
        shared = build(one.replace(candidates=(base, adapted, warm)), tmp_path / "shared", reuse=False, shard_size=5)
        assert engines() == []
    assert len({min(tree) for now in seen for tree in now}) == 2
    alone = build(one.replace(candidates=(warm,)), tmp_path / "alone", reuse=False)

    def tables(done: Build, name: str) -> list[dict[str, object]]:
        frame = pl.read_parquet(done.folder / "stages" / f"candidates-{name}-*" / "shard-*.parquet")
        return frame.sort("prompt_id", "index").to_dicts()

    assert tables(shared, "warm") == tables(alone, "warm")
    for name in ("base", "adapted"):
        assert tables(shared, name) == tables(built[0], name)
