"""`GPM` against a plain one-by-one computation, on tiny preference models made here with the published names."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_gpm import (
    BOS,
    DIM,
    EOS,
    HIDDEN,
    POSITIONS,
    TEMPLATE,
    TURN,
    WORDS,
    Reference,
    config,
    save_model,
    save_tokenizer,
)

from prefdata.errors import ModelError
from prefdata.records import Answers, Candidate, Message, Prompt, Scored
from prefdata.scoring.rewards._gpm_worker import _Embedder, _load
from prefdata.scoring.rewards.gpm import GPM, preference_score
from prefdata.spec import Context

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("gpm") / "model")


def tasks(n: int, *, seed: int = 0) -> list[Answers]:
    draw = random.Random(seed)
    made = []
    for i in range(n):
        messages = (Message(role="user", content=f"question {i} " + " ".join(draw.choices(WORDS, k=i))),)
        texts = ["", *(" ".join(draw.choices(WORDS, k=draw.randint(1, 30))) for _ in range(draw.randint(0, 4)))]
        candidates = tuple(Candidate(f"p{i}", "policy", j, text) for j, text in enumerate(texts))
        made.append(Answers(Prompt(f"p{i}", messages), candidates))
    return made


def without_a_process(_worker: str, config: dict[str, Any], items: Iterator[Any], **_: Any) -> Iterator[Any]:
    """What `prefdata.models.worker.stream` does, all of it here."""
    model = _Embedder(config)
    for group in json.loads(json.dumps(list(items))):
        yield json.loads(json.dumps({"key": group["key"], "results": list(model.embed(group["texts"]))}))


def test_the_tensors_have_the_published_names(folder: Path) -> None:
    """Those of a Llama language model, and the two heads of gpm_example_usage.py."""
    from safetensors import safe_open

    layer = [*(f"self_attn.{name}_proj" for name in "qkvo"), *(f"mlp.{name}_proj" for name in ("gate", "up", "down"))]
    layer += ["input_layernorm", "post_attention_layernorm"]
    names = {f"model.layers.{n}.{name}.weight" for n in (0, 1) for name in layer}
    names |= {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        assert set(tensors.keys()) == names | {"value_head.weight", "prompt_head.weight"}


def scored(
    part: GPM, made: Sequence[Answers], counts: Counter[str] | None = None, *, process: bool = False
) -> dict[str, Scored]:
    """What the model says of each prompt; the worker in a process of its own takes seconds to start."""
    counts = Counter() if counts is None else counts
    context = Context(seed=1, counted=lambda what, n: counts.update({what: n}))
    with pytest.MonkeyPatch.context() as patch:
        if not process:
            patch.setattr("prefdata.scoring.rewards._worker_model.stream", without_a_process)
        found = list(part.score(iter(made), context))
    assert len(found) == len(made)
    return {one.prompt_id: one for one in found}


def part(folder: Path, **options: Any) -> GPM:
    return GPM(model=str(folder), **{"max_length": POSITIONS, "batch_tokens": 600} | options)


def item(prompt: str, answer: str) -> dict[str, Any]:
    return {"key": [0, 0], "prompt": [{"role": "user", "content": prompt}], "answer": answer}


def assert_equals(found: Scored, table: list[list[float]]) -> None:
    k = len(table)
    log_odds = {(one.index_a, one.index_b): one.log_odds for one in found.comparisons}
    assert len(log_odds) == len(found.comparisons)
    assert log_odds == pytest.approx({(i, j): table[i][j] for i in range(k) for j in range(i + 1, k)}, abs=5e-5)
    assert [score.score for score in found.scores] == pytest.approx([sum(row) / k for row in table], abs=5e-5)
    for one in found.comparisons:
        assert one.log_odds is not None and abs(one.log_odds) <= 10
        assert one.probability == pytest.approx(1 / (1 + math.exp(-one.log_odds)))


def test_every_pair_equals_a_one_by_one_computation(folder: Path) -> None:
    made = tasks(8)
    assert {len(answers.candidates) for answers in made} >= {1, 5}
    found = scored(part(folder), [*made, Answers(Prompt("empty", ()), ())], process=True)
    assert found.pop("empty") == Scored("empty", ())
    reference, largest = Reference(folder), 0.0
    for answers in made:
        table = reference.scores(answers)
        assert_equals(found[answers.prompt.prompt_id], table)
        largest = max(largest, *(abs(cell) for row in table for cell in row))
    assert largest > 2


@pytest.mark.parametrize(
    "options",
    [{"prompt_head": False}, {"dim": 2}, {"dim": 8, "body": "gemma"}, {"shards": True}],
    ids=["no prompt head", "two coordinates", "Gemma", "shards"],
)
def test_every_kind_of_checkpoint_equals_a_one_by_one_computation(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = save_model(tmp_path / "m", **options)
    made = tasks(4, seed=1)
    found = scored(part(folder, tau=0.5), made)
    reference = Reference(folder)
    for answers in made:
        assert_equals(found[answers.prompt.prompt_id], reference.scores(answers, tau=0.5))


def test_neither_batches_nor_the_order_of_prompts_and_answers_matter(folder: Path) -> None:
    made = tasks(6, seed=2)
    straight = scored(part(folder, batch_tokens=1), made)
    mixed = [Answers(answers.prompt, answers.candidates[::-1]) for answers in made][::-1]
    other = scored(part(folder, batch_tokens=100_000), mixed)
    for prompt_id, one in straight.items():
        ours = {(row.index_a, row.index_b): row.log_odds for row in one.comparisons}
        swapped = {(row.index_b, row.index_a): -(row.log_odds or 0.0) for row in other[prompt_id].comparisons}
        assert swapped == pytest.approx(ours, abs=5e-5)
        assert [score.index for score in one.scores] == list(range(len(one.scores)))
        scores = {score.index: score.score for score in other[prompt_id].scores}
        assert scores == pytest.approx({score.index: score.score for score in one.scores}, abs=5e-5)


def test_the_score_is_skew_symmetric_to_the_last_bit_and_zero_against_itself() -> None:
    draw = random.Random(3)
    for _ in range(200):
        one, other = (
            {"embedding": [draw.gauss(0, 1) for _ in range(6)], "gate": [draw.random() for _ in range(3)]}
            for _ in range(2)
        )
        assert preference_score(one, other) == -preference_score(other, one) != 0
        assert preference_score(one, one) == 0
    right = {"embedding": [1.0, 0.0], "gate": [1.0]}
    up = {"embedding": [0.0, 1.0], "gate": [1.0]}
    assert preference_score(right, up) == 1


def test_a_batch_is_padded_at_the_left_and_positions_count_from_the_text(folder: Path) -> None:
    embedder = _Embedder(config(folder))
    seen: list[dict[str, Any]] = []
    embedder._model.register_forward_pre_hook(lambda _model, _args, kwargs: seen.append(kwargs), with_kwargs=True)
    rows = [embedder.row(item("q", "a")), embedder.row(item("q", "a longer answer"))]
    embedder.embeddings(rows)
    [inputs] = seen
    pad = len(rows[1].ids) - len(rows[0].ids)
    assert pad == len("a longer answer") - 1
    assert inputs["attention_mask"].tolist() == [[0] * pad + [1] * len(rows[0].ids), [1] * len(rows[1].ids)]
    assert inputs["input_ids"][0, pad:].tolist() == rows[0].ids
    assert inputs["position_ids"][0, pad:].tolist() == list(range(len(rows[0].ids)))
    assert {int(ids[-1]) for ids in inputs["input_ids"]} == {embedder._tokenizer.eos_token_id}


def test_a_text_that_is_too_long_loses_its_end_and_keeps_its_last_token(folder: Path) -> None:
    made = tasks(7, seed=4)
    counts: Counter[str] = Counter()
    found = scored(part(folder, max_length=60), made, counts)
    reference = Reference(folder, limit=60)
    told = [score for one in found.values() for score in one.scores if score.detail]
    assert counts == {"truncated": len(told)}
    assert len(told) > 4
    assert all(score.detail.startswith("scored the first 60 of ") for score in told)
    for answers in made:
        assert_equals(found[answers.prompt.prompt_id], reference.scores(answers))
    row = _Embedder(config(folder, max_length=60)).row(item("x" * 30, "four " * 20))
    assert len(row.ids) == 60
    assert row.ids[-1] == reference.tokenizer.eos_token_id


def test_where_no_token_of_an_answer_is_left_there_is_no_score(folder: Path) -> None:
    embedder = _Embedder(config(folder, last_token="template"))
    begins = len(embedder._ids([{"role": "user", "content": "x" * 100}]))
    for last_token, spare in (("end_of_text", 1), ("template", 0)):
        fits = {"last_token": last_token, "max_length": begins + spare + 1}
        assert _Embedder(config(folder, **fits)).row(item("x" * 100, "four")).truncated_from
        (filled,) = _Embedder(config(folder, **fits | {"max_length": begins + spare})).embed([item("x" * 100, "four")])
        assert filled["failure"] == "prompt_fills_the_limit"


def test_answers_of_the_same_tokens_have_the_same_embedding_whatever_the_batches(folder: Path) -> None:
    texts = ["the answer is four", "and two " * 9 + "a", "the answer is four", "and two " * 9 + "b", "so"]
    items = [item("q", text) | {"key": number} for number, text in enumerate(texts)]
    found = {one["key"]: one for one in _Embedder(config(folder, batch_tokens=1, max_length=40)).embed(items)}
    assert sorted(found) == list(range(5))
    assert found[0]["embedding"] == found[2]["embedding"]
    assert found[1]["embedding"] == found[3]["embedding"], "they differ beyond the limit"
    assert preference_score(found[1], found[3]) == 0.0
    assert preference_score(found[0], found[4]) != 0.0


def test_the_published_ranking_can_be_repeated(folder: Path) -> None:
    """rank_gp.py: the policy's template within the model's own, no BOS, the last token as the template writes it."""
    import torch

    form = f"<s>{TURN}user says{TURN}\n{{prompt}}{TURN}policy\n"
    options = {"bos": "none", "last_token": "template", "prompt_form": form}
    embedder = _Embedder(config(folder, **options))
    found = {
        one["key"]: one for one in embedder.embed([item("q r", "four") | {"key": 0}, item("q r", "so") | {"key": 1}])
    }
    reference = Reference(folder)
    nested = {"role": "user", "content": form.replace("{prompt}", "q r")}

    def ids(*messages: Any) -> list[int]:
        text = reference.tokenizer.apply_chat_template(list(messages), tokenize=False).replace(BOS, "")
        made: list[int] = reference.tokenizer(text, add_special_tokens=False)["input_ids"]
        return made

    for key, text in enumerate(("four", "so")):
        whole = ids(nested, {"role": "assistant", "content": text})
        with torch.no_grad():
            states = reference.body(torch.tensor([whole])).last_hidden_state[0]
        value = reference.weights["value_head.weight"] @ states[-1]
        gate = (reference.weights["prompt_head.weight"] @ states[len(ids(nested)) - 1]).softmax(0)
        assert found[key]["embedding"] == pytest.approx((value / value.norm()).tolist(), abs=1e-5)
        assert found[key]["gate"] == pytest.approx(gate.tolist(), abs=1e-5)
    (refused,) = embedder.embed([item(f"q {EOS}", "four")])
    assert refused["failure"] == "control_tokens", "the form may hold control tokens, the prompt may not"


def test_how_an_answer_is_read_changes_no_identity_at_its_default() -> None:
    plain = GPM(model="a/b")
    assert {"last_token", "prompt_form"}.isdisjoint(plain.dump())
    with pytest.raises(ValueError, match="exactly once"):
        GPM(model="a/b", prompt_form="x")


def test_the_limit_is_the_published_one_and_bounded_by_the_model(folder: Path) -> None:
    assert (GPM(model="a/b").max_length, GPM(model="a/b").tau) == (4096, 0.1)
    with pytest.raises(ModelError, match="max_length 4096 is more than the 512 positions"):
        _Embedder(config(folder, max_length=4096))


def test_a_text_begins_as_it_did_in_training_or_once_or_not_at_all(folder: Path) -> None:
    begins = {}
    for bos in ("as_trained", "once", "none"):
        embedder = _Embedder(config(folder, bos=bos))
        row = embedder.row(item("q", "a"))
        begins[bos] = embedder._tokenizer.decode(row.ids)
        assert embedder._tokenizer.decode(row.ids[: row.gate_at + 1]).removeprefix(BOS).removeprefix(BOS) == (
            f"{TURN}user\nq{TURN}\n"
        )
    text = f"{TURN}user\nq{TURN}\n{TURN}assistant\na{TURN}{EOS}"
    assert begins == {"as_trained": BOS + BOS + text, "once": BOS + text, "none": text}


def test_the_prompt_ends_with_its_first_message_or_with_its_last(folder: Path) -> None:
    turns = [Message(role="user", content="one"), Message(role="assistant", content="two")]
    conversation = {"key": [0, 0], "prompt": [*turns, Message(role="user", content="three")], "answer": "four"}
    ends = {}
    for gate_at in ("first_message", "prompt"):
        embedder = _Embedder(config(folder, gate_at=gate_at))
        row = embedder.row(conversation)
        ends[gate_at] = embedder._tokenizer.decode(row.ids[: row.gate_at + 1])
        assert embedder.row(item("q", "a")).gate_at == 2 + 1 + len("user\nq") + 2 - 1
    assert ends["first_message"].endswith(f"one{TURN}\n")
    assert ends["prompt"].endswith(f"three{TURN}\n")


def one_prompt(*texts: str) -> Answers:
    prompt = Prompt("p", (Message(role="user", content="q"),))
    return Answers(prompt, tuple(Candidate("p", "s", place, text) for place, text in enumerate(texts)))


def test_answers_that_cannot_be_read_are_unscored_and_leave_the_others_alone(folder: Path) -> None:
    answers = one_prompt("four", f"four{EOS}", "x" * 200, "five")
    found = scored(part(folder, max_length=100, too_long="unscored"), [answers])["p"]
    assert [score.unscored for score in found.scores] == [None, "control_tokens", "too_long", None]
    assert EOS in found.scores[1].detail and "the limit is 100" in found.scores[2].detail
    both = one_prompt("four", "five")
    s = Reference(folder).scores(both)[0][1]
    assert [found.scores[place].score for place in (0, 3)] == pytest.approx([s / 2, -s / 2], abs=5e-5)
    assert {(one.index_a, one.index_b): one.undecided for one in found.comparisons} == {
        (0, 1): "control_tokens",
        (0, 2): "too_long",
        (0, 3): None,
        (1, 2): "control_tokens",
        (1, 3): "control_tokens",
        (2, 3): "too_long",
    }
    for one in found.comparisons:
        assert (one.probability is None) == (one.log_odds is None) == (one.undecided is not None)
    allowed = scored(part(folder, control_tokens="allow"), [answers])["p"]
    assert [score.unscored for score in allowed.scores] == [None] * 4


def test_a_template_that_refuses_a_conversation_fails_its_prompt_only(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    save_tokenizer(folder, "{% if messages[0].content == 'no' %}{{ raise_exception('never') }}{% endif %}" + TEMPLATE)
    no = Answers(Prompt("no", (Message(role="user", content="no"),)), (Candidate("no", "s", 0, "x"),))
    found = scored(part(folder), [no, one_prompt("x", "y")])
    assert [score.unscored for score in found["no"].scores] == ["template_failed"]
    assert [score.unscored for score in found["p"].scores] == [None, None]


def test_one_answer_alone_has_the_score_of_the_diagonal(folder: Path) -> None:
    found = scored(part(folder), [one_prompt("alone")])["p"]
    assert (found.scores[0].score, found.comparisons) == (0.0, ())


def changed(folder: Path, change: Any) -> Path:
    from safetensors.torch import load_file, save_file

    tensors = load_file(save_model(folder) / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_an_output_that_is_not_finite_decides_nothing(tmp_path: Path) -> None:
    folder = changed(tmp_path / "m", lambda tensors: tensors["value_head.weight"].fill_(math.nan))
    found = scored(part(folder), [one_prompt("a", "b")])["p"]
    assert [(score.score, score.unscored) for score in found.scores] == [(None, "not_finite")] * 2
    assert [(one.log_odds, one.undecided) for one in found.comparisons] == [(None, "not_finite")]


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("value_head.weight", None, "lack value_head.weight"),
        ("model.layers.1.mlp.up_proj.weight", None, "lack layers.1.mlp.up_proj.weight"),
        ("score.weight", [1, HIDDEN], "have score.weight, which is not used"),
        ("value_head.weight", [1, HIDDEN], r"have value_head.weight of shape \[1, 32\]"),
        ("value_head.weight", [DIM, HIDDEN + 1], r"have value_head.weight of shape \[6, 33\]"),
        ("prompt_head.weight", [DIM, HIDDEN], r"have prompt_head.weight of shape \[6, 32\]"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # transformers warns of what is missing, too
def test_a_tensor_that_is_missing_or_too_many_or_of_another_shape_is_one_clear_error(
    tmp_path: Path, name: str, shape: list[int] | None, told: str
) -> None:
    import torch

    def change(tensors: dict[str, Any]) -> None:
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = torch.zeros(shape)

    with pytest.raises(ModelError, match=told) as caught:
        _load(str(changed(tmp_path / "m", change)), "float32")
    assert caught.value.valid and caught.value.hint


def test_a_body_of_another_shape_is_one_clear_error(tmp_path: Path) -> None:
    import torch

    folder = changed(tmp_path / "m", lambda tensors: tensors.update({"model.norm.weight": torch.zeros(HIDDEN + 1)}))
    with pytest.raises(ModelError, match=r"norm\.weight"):
        _load(str(folder), "float32")


def test_a_tokenizer_without_template_or_end_of_text_is_refused(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    save_tokenizer(folder, template=None)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ModelError, match="no chat template"):
        _Embedder(config(folder))
    save_tokenizer(folder)
    file = folder / "tokenizer_config.json"
    told = json.loads(file.read_text())
    del told["eos_token"]
    file.write_text(json.dumps(told))
    with pytest.raises(ModelError, match="no end-of-text token"):
        _Embedder(config(folder))


def test_what_changes_no_result_leaves_the_identity() -> None:
    gpm = GPM(model="owner/name")
    assert gpm.compares == "log_odds"
    assert gpm.fingerprint() == gpm.replace(batch_tokens=1).fingerprint()
    for name, value in {"tau": 0.2, "max_length": 9, "bos": "once", "gate_at": "prompt"}.items():
        assert gpm.fingerprint() != gpm.replace(**{name: value}).fingerprint()
