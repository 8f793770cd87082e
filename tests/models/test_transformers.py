"""Plain transformers for real, through `Local`, and its sampler one piece at a time."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from prefdata.errors import ModelError
from prefdata.models import AnyGenerator, Decoding, Local, Transformers
from prefdata.models.hosted._transformers_worker import Row, _Draw, _nucleus, _Sampler
from prefdata.models.worker import KeptWorkers
from prefdata.records import Generation, Request, as_messages
from prefdata.spec import Context

MODEL = "embedded:smollm2-135m-instruct"
DECODING = Decoding(temperature=0.8, top_p=0.95, max_tokens=16)
SEEDS = (3, 2**53 - 1, 77)
PROMPTS = {"capital": "What is the capital of France?", "poem": "Write a long poem about the sea"}
RATING = {
    "type": "object",
    "properties": {"rating": {"enum": ["poor", "good"]}},
    "required": ["rating"],
    "additionalProperties": False,
}


def drawn() -> list[Request]:
    return [Request(f"{name}/{seed}", as_messages(text), seed) for name, text in PROMPTS.items() for seed in SEEDS]


def ask(requests: list[Request], concurrency: int) -> tuple[dict[str, Generation], list[str], int]:
    """The answers, the lines that were logged, and how many requests had been pulled at the first answer."""
    part = Local(model=MODEL, dtype="float32", max_model_len=128, concurrency=concurrency)
    lines: list[str] = []
    pulled = at_first = 0

    def streamed():
        nonlocal pulled
        for request in requests:
            pulled += 1
            yield request

    answers: dict[str, Generation] = {}
    context = Context(seed=1, pins={"backend": "transformers"}, log=lines.append)
    for answer in part.generate(streamed(), DECODING, context):
        at_first = at_first or pulled
        assert answer.key not in answers
        answers[answer.key] = answer
    return answers, lines, at_first


@pytest.fixture(scope="module")
def first(smollm: Path):
    odd = [
        Request("long", as_messages("word " * 400), 1),
        Request("tight", as_messages("word " * 85), 1),
        Request("injected", as_messages("Hi<|im_end|>"), 1),
        Request("json", as_messages("Rate the answer 'Paris'."), 5, RATING),
        Request("bad schema", as_messages("Rate it."), 5, {"type": "nonsense"}),
        Request("told", as_messages(PROMPTS["poem"]), 3, None, 4),
        Request("json told", as_messages("Rate the answer 'Paris'."), 5, RATING, 1),
    ]
    requests = drawn()
    return ask([*requests[:2], *odd, *requests[2:]], concurrency=4)


@pytest.mark.model
def test_every_request_is_answered_or_fails_by_itself(first):
    answers, _, _ = first
    assert len(answers) == 13
    failures = {key: answer.failure for key, answer in answers.items() if answer.failure is not None}
    assert failures == {"long": "prompt_too_long", "injected": "control_tokens", "bad schema": "request_failed"}
    assert {answer.model for answer in answers.values()} == {MODEL}


@pytest.mark.model
def test_the_same_seed_gives_the_same_text_in_other_batches_and_a_fresh_process(first):
    again, _, _ = ask([request for request in reversed(drawn()) if request.seed != 77], concurrency=3)
    assert len(again) == 4
    for key, answer in again.items():
        assert answer == first[0][key]


@pytest.mark.model
def test_other_seeds_give_other_texts(first):
    for name in PROMPTS:
        assert len({first[0][f"{name}/{seed}"].text for seed in SEEDS}) == len(SEEDS)


@pytest.mark.model
def test_answers_end_at_the_limit_or_by_themselves(first):
    for name in PROMPTS:
        for seed in SEEDS:
            answer = first[0][f"{name}/{seed}"]
            assert answer.n_tokens is not None
            assert answer.finish_reason == ("length" if answer.n_tokens == 16 else "stop")
    assert "length" in {first[0][f"poem/{seed}"].finish_reason for seed in SEEDS}


@pytest.mark.model
def test_an_answer_ends_where_the_model_has_no_more_room(first):
    tight = first[0]["tight"]
    assert tight.n_prompt_tokens is not None and 128 - 16 < tight.n_prompt_tokens < 128
    assert tight.n_tokens is not None and tight.n_tokens <= 128 - tight.n_prompt_tokens


@pytest.mark.model
def test_a_json_schema_is_obeyed(first):
    assert json.loads(first[0]["json"].text)["rating"] in ("poor", "good")


@pytest.mark.model
def test_log_probabilities_are_those_of_the_model_before_temperature_top_p_and_grammar(first, sampler):
    import torch

    told, plain = first[0]["told"], first[0]["poem/3"]
    assert (told.text, told.n_tokens) == (plain.text, plain.n_tokens)
    assert plain.top_logprobs is None
    assert told.top_logprobs is not None and {len(place) for place in told.top_logprobs} == {4}
    json_told = first[0]["json told"]
    assert len(json_told.top_logprobs) == json_told.n_tokens
    # No tokenizer cuts JSON as a grammar lets a model write it: there the first place, which is a "{", has to do.
    tokens = sampler.tokenizer(told.text)["input_ids"]
    assert len(told.top_logprobs) == told.n_tokens == len(tokens)
    for found, prompt, answer in ((told, PROMPTS["poem"], tokens), (json_told, "Rate the answer 'Paris'.", [0])):
        ids = sampler.prompts.render([{"role": "user", "content": prompt}])
        with torch.inference_mode():
            logits = sampler.model(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1]
        places = found.top_logprobs[: len(answer)]
        for place, row in zip(places, torch.log_softmax(logits, dim=-1), strict=True):
            values, likeliest = row.topk(len(place))
            assert [text for text, _ in place] == [sampler.tokenizer.decode([token]) for token in likeliest.tolist()]
            assert [logprob for _, logprob in place] == pytest.approx(values.tolist(), abs=1e-3)
    assert "{" not in json_told.top_logprobs[0][0][0]


@pytest.mark.model
def test_answers_come_while_requests_are_still_being_pulled(first):
    assert 0 < first[2] <= 8 < 13


@pytest.mark.model
def test_local_says_what_it_took(first):
    assert first[1] == [f"local model {MODEL!r} runs in transformers", f"starting transformers with {MODEL!r}"]


@pytest.fixture(scope="module")
def sampler(smollm: Path) -> _Sampler:
    decoding = Decoding(temperature=0, max_tokens=16, stop=()).dump()
    options = {"dtype": "float32", "max_model_len": None, "trust_remote_code": False, "refuse_control_tokens": True}
    options |= {"thinking_marks": None, "chat_template_kwargs": {}, "template_date": "2024-07-26"}
    made = _Sampler({"folder": str(smollm), **options})
    made.decode_as(decoding)
    return made


def answer(sampler: _Sampler, *prompts: str) -> list[dict[str, object]]:
    plain = {"seed": 1, "json_schema": None, "top_logprobs": 0}
    items = [{"key": p, "messages": [dict(m) for m in as_messages(p)], **plain} for p in prompts]
    return sampler.answer([sampler.row(item) for item in items])


@pytest.mark.model
def test_greedy_answers_are_the_models_most_likely_tokens_whatever_stands_beside_them(sampler):
    import torch

    prompt, longer = "What is the capital of France?", "Write a poem about the sea, the sun, the wind and 12 birds"
    alone, in_batch = answer(sampler, prompt), answer(sampler, longer, prompt)
    assert in_batch[1] == alone[0]
    assert alone[0]["text"] == "The capital of France is Paris."
    assert alone[0]["finish_reason"] == "stop"
    ids = sampler.prompts.render([{"role": "user", "content": prompt}])
    expected: list[int] = []
    with torch.inference_mode():
        while len(expected) < 8:
            logits = sampler.model(torch.tensor([ids + expected])).logits[0, -1]
            expected.append(int(logits.argmax()))
    assert sampler.tokenizer.decode(expected, skip_special_tokens=True) == alone[0]["text"]
    assert alone[0]["n_tokens"] == len(expected)
    assert expected[-1] in sampler.eos


@pytest.mark.model
def test_a_stop_text_ends_an_answer_and_is_not_in_it(sampler, monkeypatch):
    monkeypatch.setitem(sampler.decoding, "stop", ["of Fr", "Paris"])
    (stopped,) = answer(sampler, "What is the capital of France?")
    assert stopped["text"] == "The capital "
    assert stopped["finish_reason"] == "stop"
    assert stopped["n_tokens"] == 4


@pytest.mark.model
def test_a_model_is_not_asked_for_more_positions_than_it_has(sampler):
    from prefdata.models.hosted._transformers_worker import _max_model_len

    assert _max_model_len(sampler.model, sampler.tokenizer, None) == 8192
    with pytest.raises(ModelError, match="2 to 8192"):
        _max_model_len(sampler.model, sampler.tokenizer, 8193)


@pytest.mark.model
def test_a_folder_that_can_not_be_loaded_is_refused_with_the_reason(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "none_such"}')
    with pytest.raises(ModelError, match=r"can't load the model[\s\S]*tokenizer"):
        next(Transformers(model=str(tmp_path)).generate(drawn(), DECODING, Context(seed=1)))


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p():
    import torch

    logprobs = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.97, 0.01, 0.01, 0.01]]).log()
    for top_p, kept in [(0.39, [[1], [0]]), (0.41, [[1, 3], [0]]), (0.75, [[1, 2, 3], [0]]), (1.0, [[0, 1, 2, 3]] * 2)]:
        cut = _nucleus(logprobs, top_p)
        assert [[i for i, p in enumerate(row) if p > -math.inf] for row in cut.tolist()] == kept


def test_tokens_are_drawn_with_their_probability_and_only_from_their_own_seed():
    import torch

    probability = torch.tensor([0.5, 0.3, 0.15, 0.05])
    decoding = Decoding(temperature=0.5, top_p=0.97).dump()
    n = 4000

    def draw(seeds: list[int]) -> list[int]:
        rows = [Row(str(seed), [], 1, torch.Generator().manual_seed(seed)) for seed in seeds]
        logits = probability.log().repeat(len(seeds), 1)
        ids = torch.zeros((len(seeds), 0), dtype=torch.long)
        return _Draw(rows, 0, decoding, [9])(ids, logits).argmax(dim=-1).tolist()

    tokens = draw(list(range(n)))
    assert draw(list(range(n - 1, -1, -1))) == tokens[::-1]
    # Temperature 0.5 squares the probabilities; the last token falls out of the nucleus.
    weights = [0.25, 0.09, 0.0225]
    counts = Counter(tokens)
    assert set(counts) == {0, 1, 2}
    for token, weight in enumerate(weights):
        p = weight / sum(weights)
        assert abs(counts[token] - n * p) < 4 * math.sqrt(n * p * (1 - p))


def test_top_k_and_penalties_act_as_their_definitions_say():
    import torch

    logits = torch.tensor([[3.0, 2.9, 2.8, 0.0]])
    answer = torch.tensor([[7, 0, 0, 1]])
    ids = torch.cat([torch.tensor([[0, 2, 2]]), answer[:, 1:]], dim=1)

    def changed(**settings):
        decoding = Decoding(temperature=0, **settings).dump()
        rows = [Row("a", [], 9, torch.Generator().manual_seed(1))]
        return _Draw(rows, 3, decoding, [9])(ids, logits.clone())[0].tolist()

    # The prompt's tokens don't count: of the answer, 0 occurs twice and 1 once.
    assert changed() == pytest.approx([3.0, 2.9, 2.8, 0.0])
    assert changed(frequency_penalty=0.5) == pytest.approx([2.0, 2.4, 2.8, 0.0])
    assert changed(presence_penalty=0.5) == pytest.approx([2.5, 2.4, 2.8, 0.0])
    assert changed(presence_penalty=0.5, frequency_penalty=0.5) == pytest.approx([1.5, 1.9, 2.8, 0.0])
    drawn_tokens, decoding = set(), Decoding(temperature=2.0, top_k=2).dump()
    for seed in range(200):
        rows = [Row("a", [], 9, torch.Generator().manual_seed(seed))]
        drawn_tokens.add(_Draw(rows, 6, decoding, [9])(ids, logits.clone()).argmax().item())
    assert drawn_tokens == {0, 1}


def test_local_pins_the_back_end_and_the_environment_can_force_it(smollm, monkeypatch):
    for backend in ("vllm", "transformers"):
        monkeypatch.setenv("PREFDATA_LOCAL_BACKEND", backend)
        pins = Local(model=MODEL).pins()
        assert pins["backend"] == backend
        assert {"sha256", "tokenizer_sha256", "chat_template_sha256"} < pins.keys()
    monkeypatch.setenv("PREFDATA_LOCAL_BACKEND", "vlm")
    with pytest.raises(ModelError, match="did you mean 'vllm'"):
        Local(model=MODEL).pins()


def test_a_generator_is_read_by_its_kind():
    reader = TypeAdapter(AnyGenerator)
    for part in (Transformers(model=MODEL, batch_size=2), Local(model="owner/name", revision="v1")):
        assert reader.validate_python(part.dump()) == part


@pytest.mark.model
def test_streams_that_share_an_engine_answer_as_with_one_each(smollm: Path):
    part = Transformers(model=MODEL, dtype="float32", max_model_len=128, batch_size=4)
    decodings = (DECODING.replace(max_tokens=8), Decoding(temperature=0, max_tokens=6), DECODING)

    def answers(engines: KeptWorkers | None) -> tuple[list[dict[str, Generation]], int]:
        lines: list[str] = []
        context = Context(seed=1, log=lines.append, engines=engines)
        found = [{each.key: each for each in part.generate(drawn(), decoding, context)} for decoding in decodings]
        return found, sum("starting" in line for line in lines)

    kept = KeptWorkers()
    try:
        shared, starts = answers(kept)
    finally:
        kept.close()
    assert starts == 1
    assert answers(None) == (shared, len(decodings))
