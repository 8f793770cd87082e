"""`PairRM` against a plain one-by-one computation, on a tiny DeBERTa ranker made here with the published names."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny_pair_rm import FIRST, HIDDEN, SECOND, SOURCE, WORDS, Reference, config, save_ranker

from prefdata.errors import ModelError, UserError
from prefdata.records import Answers, Candidate, Message, Prompt, Scored
from prefdata.scoring.rewards._pair_rm_worker import _Ranker
from prefdata.scoring.rewards.pair_rm import PairRM, conversation_texts
from prefdata.spec import Context

# DeBERTa's module is scripted
pytestmark = [pytest.mark.usefixtures("own_cache"), pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]

Table = list[list[float | None]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ranker(tmp_path_factory.mktemp("pair_rm") / "model")


def tasks(n: int, *, seed: int = 0, longest: int = 30) -> list[Answers]:
    draw = random.Random(seed)
    made = []
    for i in range(n):
        prompt = Prompt(
            f"p{i}", (Message(role="user", content=f"question {i}\n" + " ".join(draw.choices(WORDS, k=i))),)
        )
        texts = ["", *(" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(draw.randint(0, 3)))]
        made.append(Answers(prompt, tuple(Candidate(f"p{i}", "policy", j, text) for j, text in enumerate(texts))))
    return made


def without_a_process(_worker: str, config: dict[str, Any], items: Iterator[Any], **_: Any) -> Iterator[Any]:
    """What `prefdata.models.worker.stream` does, all of it here."""
    model = _Ranker(config)
    for group in json.loads(json.dumps(list(items))):
        yield json.loads(json.dumps({"key": group["key"], "results": list(model.rank(group["texts"]))}))


def test_the_tensors_have_the_published_names(folder: Path) -> None:
    """Those of DeBERTa-v3 as PairRM-hf was saved in early 2024; a body that names them otherwise could not load it."""
    from safetensors import safe_open

    layer = ["attention.output.LayerNorm", "attention.output.dense", "intermediate.dense", "output.LayerNorm"]
    layer += ["output.dense", *(f"attention.self.{name}_proj" for name in ("query", "key", "value"))]
    both = [
        "embeddings.LayerNorm",
        "encoder.LayerNorm",
        *(f"encoder.layer.{n}.{name}" for n in (0, 1) for name in layer),
    ]
    body = {f"{name}.{kind}" for name in both for kind in ("weight", "bias")}
    body |= {"embeddings.word_embeddings.weight", "encoder.rel_embeddings.weight"}
    head = {f"head_layer.{n}.{kind}" for n in (1, 4) for kind in ("weight", "bias")}
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        assert set(tensors.keys()) == {f"pretrained_model.{name}" for name in body} | head


def ranked(
    part: PairRM, made: Sequence[Answers], counts: Counter[str] | None = None, *, process: bool = False
) -> dict[str, Scored]:
    """What the ranker says of each prompt; the worker in a process of its own takes seconds to start."""
    counts = Counter() if counts is None else counts
    context = Context(seed=1, counted=lambda what, n: counts.update({what: n}))
    with pytest.MonkeyPatch.context() as patch:
        if not process:
            patch.setattr("prefdata.scoring.rewards._worker_model.stream", without_a_process)
        found = list(part.score(iter(made), context))
    assert len(found) == len(made)
    return {scored.prompt_id: scored for scored in found}


def texts_of(answers: Answers) -> list[str]:
    return [candidate.response for candidate in answers.candidates]


def table_of(scored: Scored) -> dict[tuple[int, int], float | None]:
    found = {(one.index_a, one.index_b): one.log_odds for one in scored.comparisons}
    assert len(found) == len(scored.comparisons)
    return found


def item(source: str, *answers: str, key: int = 0) -> dict[str, Any]:
    return {"key": key, "source": source, "answers": list(answers)}


def test_both_orders_of_every_pair_equal_a_one_by_one_computation(folder: Path) -> None:
    made = tasks(9)
    reference = Reference(folder)
    found = ranked(PairRM(model=str(folder), batch_tokens=300), [*made, Answers(Prompt("empty", ()), ())], process=True)
    assert found.pop("empty") == Scored("empty", ())
    sizes = Counter(len(answers.candidates) for answers in made)
    assert min(sizes) == 1 and max(sizes) == 4
    spread = []
    for answers in made:
        prompt_id, texts = answers.prompt.prompt_id, texts_of(answers)
        table = reference.table(answers.prompt.messages[0]["content"], texts)
        k = len(texts)
        expected = {(i, j): table[i][j] for i in range(k) for j in range(k) if i != j}
        assert table_of(found[prompt_id]) == pytest.approx(expected, abs=2e-5)
        means = [sum(table[i][j] - table[j][i] for j in range(k)) / k for i in range(k)]
        assert [score.score for score in found[prompt_id].scores] == pytest.approx(means, abs=4e-5)
        spread += means
        for one in found[prompt_id].comparisons:
            assert one.log_odds is not None
            assert one.probability == pytest.approx(1 / (1 + math.exp(-one.log_odds)))
            assert (one.source_a, one.source_b, one.undecided) == ("policy", "policy", None)
        # The order of the two matters to the model, so one order would not do.
        assert k < 2 or any(abs(table[i][j] + table[j][i]) > 1e-2 for i in range(k) for j in range(i))
    assert max(spread) - min(spread) > 1


def test_neither_batches_nor_the_order_of_prompts_and_answers_matter(folder: Path) -> None:
    made = tasks(6, seed=2)
    straight = ranked(PairRM(model=str(folder), batch_tokens=1), made)
    mixed = [Answers(answers.prompt, answers.candidates[::-1]) for answers in made][::-1]
    other = ranked(PairRM(model=str(folder), batch_tokens=100_000), mixed)
    for prompt_id, scored in straight.items():
        assert table_of(other[prompt_id]) == pytest.approx(table_of(scored), abs=2e-5)
        scores = {score.index: score.score for score in other[prompt_id].scores}
        assert scores == pytest.approx({score.index: score.score for score in scored.scores}, abs=4e-5)
        assert [score.index for score in scored.scores] == list(range(len(scores)))


def test_tokens_are_those_of_the_card_with_every_limit_met_exactly(folder: Path) -> None:
    ranker = _Ranker(config(folder, source_max_length=20, candidate_max_length=10))
    reference = Reference(folder, 20, 10)
    cases = {"q": 17, "abcd efgh ijkl mnop qrst": 10, "abcd efgh": 13}
    for source, limit in cases.items():
        prompt = ranker._text.read(item(source, "z" * 50, "y" * (limit - 4), "y" * (limit - 3)))
        assert [len(ids or ()) for ids in prompt.answers] == [limit, limit, limit]
        told = [answer.get("truncated_from") for answer in prompt.result["answers"]]
        assert told == [54, None, limit + 1]
        assert prompt.source == reference.encode(SOURCE + source, 20)
        for place, text in enumerate(["z" * 50, "y" * (limit - 4), "y" * (limit - 3)]):
            assert prompt.answers[place] == reference.encode(FIRST + text, limit)
    long = ranker._text.read(item("abcd efgh ijkl mnop qrst", "a", "b"))
    assert (len(long.source), long.source[-1]) == (20, 2)
    assert long.result["prompt_truncated_from"] == 28


def test_the_limits_are_the_published_ones_and_the_total_is_2048(folder: Path) -> None:
    part = PairRM()
    assert (part.model, part.source_max_length, part.candidate_max_length) == ("llm-blender/PairRM-hf", 1224, 412)
    ranker = _Ranker(config(folder))
    long = ranker._text.read(item("x" * 5000, "y" * 5000, "z"))
    assert (len(long.source), len(long.answers[0] or ())) == (1224, 412)
    short = ranker._text.read(item("x", "y" * 5000, "z"))
    assert len(short.source) + 2 * len(short.answers[0] or ()) in (2047, 2048)


def test_what_is_cut_is_counted_and_told(folder: Path) -> None:
    made = tasks(7, longest=60)
    counts: Counter[str] = Counter()
    part = PairRM(model=str(folder), source_max_length=30, candidate_max_length=20)
    found = ranked(part, made, counts)
    reference = Reference(folder, 30, 20)
    cut = [score for scored in found.values() for score in scored.scores if score.detail]
    assert counts["truncated"] == len(cut) > 2
    assert all(score.detail.startswith("scored the first ") and score.score is not None for score in cut)
    lengths = [len(reference.encode(SOURCE + answers.prompt.messages[0]["content"], 9999)) for answers in made]
    assert counts["truncated_prompts"] == sum(length > 30 for length in lengths) > 0
    for answers in made:
        table = reference.table(answers.prompt.messages[0]["content"], texts_of(answers))
        expected = {(i, j): cell for i, row in enumerate(table) for j, cell in enumerate(row) if i != j}
        assert table_of(found[answers.prompt.prompt_id]) == pytest.approx(expected, abs=2e-5)


def one_prompt(*texts: str, messages: Sequence[Message] = (Message(role="user", content="q"),)) -> Answers:
    return Answers(Prompt("p", tuple(messages)), tuple(Candidate("p", "s", at, text) for at, text in enumerate(texts)))


def test_answers_that_cannot_be_read_are_unscored_and_leave_the_others_alone(folder: Path) -> None:
    part = PairRM(model=str(folder), candidate_max_length=60, source_max_length=20, too_long="unscored")
    answers = one_prompt("the answer", "x" * 200, f"fine {SECOND} worse", "is four")
    scored = ranked(part, [answers])["p"]
    assert [score.unscored for score in scored.scores] == [None, "too_long", "control_tokens", None]
    assert "200" not in scored.scores[0].detail and SECOND in scored.scores[2].detail
    logits = Reference(folder, 20, 60).table("q", ["the answer", "is four"])
    half = (logits[0][1] - logits[1][0]) / 2
    assert [score.score for score in scored.scores] == [
        pytest.approx(half, abs=4e-5),
        None,
        None,
        pytest.approx(-half, abs=4e-5),
    ]
    assert len(scored.comparisons) == 12
    undecided = {(one.index_a, one.index_b): one.undecided for one in scored.comparisons}
    assert {pair for pair, why in undecided.items() if why is None} == {(0, 3), (3, 0)}
    assert (undecided[1, 0], undecided[0, 2], undecided[1, 2]) == ("too_long", "control_tokens", "too_long")
    for one in scored.comparisons:
        assert (one.probability is None) == (one.log_odds is None) == (one.undecided is not None)


def test_a_prompt_that_cannot_be_read_is_unscored_as_a_whole(folder: Path) -> None:
    part = PairRM(model=str(folder), source_max_length=20, too_long="unscored")
    hostile = one_prompt("a", "b", messages=[Message(role="user", content=f"{FIRST} is best")])
    long = one_prompt("a", "b", messages=[Message(role="user", content="x" * 50)])
    odd = one_prompt("a", "b", messages=[Message(role="user", content="x"), Message(role="user", content="y")])
    found = [ranked(part, [answers])["p"] for answers in (hostile, long, odd)]
    reasons = [[score.unscored for score in scored.scores] for scored in found]
    assert reasons == [["control_tokens"] * 2, ["too_long"] * 2, ["conversation_shape"] * 2]
    assert [one.undecided for one in found[2].comparisons] == ["conversation_shape"] * 2
    assert "user, user" in found[2].scores[0].detail


def test_control_tokens_may_be_let_in_and_never_move_what_is_read(folder: Path) -> None:
    ranker = _Ranker(config(folder, refuse_control_tokens=False))
    plain, hostile = item("q", "a b", "four"), item("q", "a[SEP]b", f"four {FIRST} {SOURCE}")
    [result] = ranker.rank([plain])
    [spelt] = ranker.rank([item("q", "a[SEP]b", "four")])
    assert spelt["logits"] == result["logits"]
    prompt = ranker._text.read(hostile)
    first, second = prompt.answers
    assert first is not None and second is not None
    assert second.count(ranker._text.first) == 2
    assert math.isfinite(ranker.logits([(prompt.source, first, second)])[0])


def test_an_output_that_is_not_finite_decides_nothing(tmp_path: Path) -> None:
    scored = ranked(PairRM(model=str(save_ranker(tmp_path / "m", scale=math.inf))), [one_prompt("a", "b")])["p"]
    assert [(score.score, score.unscored) for score in scored.scores] == [(None, "not_finite")] * 2
    assert [(one.log_odds, one.undecided) for one in scored.comparisons] == [(None, "not_finite")] * 2


def test_one_answer_alone_has_the_score_of_the_diagonal(folder: Path) -> None:
    scored = ranked(PairRM(model=str(folder)), [one_prompt("alone")])["p"]
    assert (scored.scores[0].score, scored.comparisons) == (0.0, ())


TURNS = [
    Message(role="user", content="one"),
    Message(role="assistant", content="two"),
    Message(role="user", content="three"),
]


def test_a_conversation_is_written_as_llm_blender_writes_it() -> None:
    texts = conversation_texts(TURNS, ["four", "five"])
    assert texts is not None
    source, answers = texts
    start = "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
    assert source == start + "USER: one\nAssistant: <Response 1>\nUSER: three\nAssistant: <Response 2>"
    assert answers == [f"<Response 1>: two\n<Response 2>: {text}" for text in ("four", "five")]
    system = Message(role="system", content="be brief")
    with_system = conversation_texts([system, *TURNS], ["four"])
    assert with_system is not None and with_system[0] == "be brief\n" + source
    assert conversation_texts([system, TURNS[0]], ["x"], "<s>[INST] {prompt} [/INST]") == (
        "<s>[INST] be brief\none [/INST]",
        ["x"],
    )
    assert conversation_texts([Message(role="user", content="{prompt}{0}")], ["x"]) == ("{prompt}{0}", ["x"])


@pytest.mark.parametrize("turns", [[], TURNS[:2], TURNS[1:], [*TURNS, TURNS[0]], [Message(role="system", content="s")]])
def test_a_prompt_that_does_not_alternate_has_no_such_form(turns: list[Message]) -> None:
    assert conversation_texts(turns, ["x"]) is None


@pytest.mark.parametrize("form", ["", "prompt", "{prompt} {prompt}"])
def test_a_form_without_its_one_place_is_refused(form: str) -> None:
    with pytest.raises(ValidationError, match="once"):
        PairRM(prompt_form=form)


def changed_tensors(folder: Path, change: Any) -> str:
    from safetensors.torch import load_file, save_file

    tensors = load_file(save_ranker(folder) / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return str(folder)


def test_a_tensor_that_is_missing_or_too_many_or_of_another_shape_is_one_clear_error(tmp_path: Path) -> None:
    import torch

    def change(tensors: dict[str, Any]) -> None:
        del tensors["head_layer.4.weight"]
        tensors["cls.bias"] = torch.zeros(2)
        tensors["head_layer.1.bias"] = torch.zeros(HIDDEN + 1)

    with pytest.raises(ModelError) as caught:
        _Ranker(config(Path(changed_tensors(tmp_path / "m", change))))
    told = str(caught.value)
    assert "lack head_layer.4.weight, have cls.bias, which is not used" in told
    assert "have head_layer.1.bias of shape [33] for [32]" in told


def test_the_position_buffer_of_old_checkpoints_is_let_in(tmp_path: Path) -> None:
    import torch

    def change(tensors: dict[str, Any]) -> None:
        tensors["pretrained_model.embeddings.position_ids"] = torch.arange(512)[None]

    _Ranker(config(Path(changed_tensors(tmp_path / "m", change))))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"source_prefix_id": 5}, "source_prefix_id = 5"),
        ({"cand2_prefix_id": None}, "cand2_prefix_id = None"),
        ({"model_type": "bert"}, "of type 'bert', and not a pair ranker"),
        ({"position_biased_input": True}, "2048 tokens of a prompt and two answers are more than the 512 positions"),
    ],
)
def test_a_folder_that_is_no_pair_ranker_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        _Ranker(config(save_ranker(tmp_path / "m", **changes)))


def test_a_folder_without_tokenizer_or_weights_is_refused(tmp_path: Path) -> None:
    folder = save_ranker(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "model.bin")
    with pytest.raises(ModelError, match="lack head_layer"):
        _Ranker(config(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        _Ranker(config(folder))


def test_the_worker_tells_what_is_wrong_with_the_model(tmp_path: Path) -> None:
    part = PairRM(model=str(save_ranker(tmp_path / "m", source_prefix_id=5)))
    with pytest.raises(UserError, match="source_prefix_id = 5"):
        ranked(part, tasks(1), process=True)


def test_what_changes_no_result_leaves_the_identity() -> None:
    part = PairRM()
    assert part.compares == "log_odds"
    assert part.fingerprint() == part.replace(batch_tokens=1).fingerprint()
    for name, value in {"source_max_length": 9, "candidate_max_length": 9, "prompt_form": "{prompt}."}.items():
        assert part.fingerprint() != part.replace(**{name: value}).fingerprint()
