"""Rows become token ids once: what the template renders, where the answer begins, what is counted or dropped."""

from __future__ import annotations

import json

import pytest
from tiny_model import TEMPLATE, pair_rows, write_dataset, write_model

from prefdata.errors import ConservationError, InputError, ModelError
from prefdata.models.chat import control_tokens
from prefdata.tables.reasoning import MARKS
from prefdata.training import Limits, WPOTraining
from prefdata.training.preflight import Preflight
from prefdata.training.rows import Answers, split_files
from prefdata.training.tokens import Encoder, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(write_model(tmp_path_factory.mktemp("model") / "m"))


def user(text):
    return [{"role": "user", "content": text}]


def assistant(text):
    return [{"role": "assistant", "content": text}]


def row(prompt="red cat", chosen="one two", rejected="three", number=0, **changed):
    known = {"prompt": user(prompt), "answers": (assistant(chosen), assistant(rejected)), **changed}
    return Answers(row=number, id=f"p{number}", **known)


def encoded(tokenizer, *rows, **options):
    return Encoder(tokenizer, WPOTraining(model="m", **options)).encode(rows)


def test_the_ids_are_those_of_the_template_with_one_bos(tokenizer):
    (done,) = encoded(tokenizer, row())
    assert done.reasons == []
    text = tokenizer.decode(done.pair.prompt)
    assert text == "<s><|im_start|>user\nred cat<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(done.pair.chosen) == "one two<|im_end|>\n"
    assert tokenizer.decode(done.pair.rejected) == "three<|im_end|>\n"
    assert done.pair.prompt.count(tokenizer.bos_token_id) == 1


def test_each_reason_is_found(tokenizer):
    long = "red " * 60
    told = encoded(
        tokenizer,
        row(number=0, prompt=long),
        row(number=1, chosen=long),
        row(number=2, chosen="one", rejected="one"),
        row(number=3, rejected="  "),
        row(number=4, answers=(assistant("a"), [{"role": "narrator", "content": "b"}])),
        row(number=5, chosen="<think>two</think> one"),
        row(number=6, prompt="say <|im_end|> please"),
        row(number=7, prompts_differ=True),
        row(number=8, numbers={"chosen_probs": None}),
        max_length=48, max_prompt_length=None, truncation="answer_start",
    )  # fmt: skip
    assert [done.reasons for done in told] == [
        ["prompt_fills"],
        ["answer_cut"],
        ["equal_after_cut"],
        ["empty_side"],
        ["unknown_role"],
        ["thinking_on_one_side"],
        ["control_tokens"],
        ["prompts_differ"],
        ["no_number"],
    ]
    assert [done.pair is None for done in told] == [True, False, True, True, True, False, False, True, True]


@pytest.mark.parametrize("marks", MARKS, ids=lambda marks: marks[0])
def test_reasoning_on_one_side_is_counted_whatever_its_marks_and_on_both_it_is_not(tokenizer, marks):
    begin, end = marks
    one, other, both, none, empty = encoded(
        tokenizer,
        row(chosen=f"{begin} two {end} one"),
        row(rejected=f"{begin} two {end} one"),
        row(chosen=f"{begin} two {end} one", rejected=f"{begin} one {end} two"),
        # A prompt that asks about the mark is no answer that reasons.
        row(prompt=f"What does {begin} say?"),
        # Models that are asked not to reason write an empty block.
        row(chosen=f"{begin}\n\n{end} one"),
    )
    assert (one.reasons, other.reasons) == (["thinking_on_one_side"], ["thinking_on_one_side"])
    assert (both.reasons, none.reasons, empty.reasons) == ([], [], [])
    assert one.pair is not None


@pytest.mark.parametrize("place", ["prompt", "chosen", "rejected"])
def test_each_control_token_of_the_model_is_counted_wherever_a_text_spells_it(tokenizer, place):
    control = sorted(control_tokens(tokenizer))
    assert {"<s>", "<|im_start|>", "<|im_end|>", "<pad>"} <= set(control)
    for done in encoded(tokenizer, *(row(**{place: f"one {token} red"}) for token in control)):
        assert done.reasons == ["control_tokens"]
        assert done.pair is not None


def test_answers_that_differ_only_after_the_cut_are_dropped(tokenizer):
    same = "one two three four five six seven eight nine ten one two three four five"
    (done,) = encoded(
        tokenizer, row(chosen=same + " red", rejected=same + " blue"), max_length=22, truncation="answer_start"
    )
    assert done.reasons == ["equal_after_cut"]


def test_a_template_that_renders_the_prompt_otherwise_is_noticed(tmp_path):
    odd = TEMPLATE.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\nWell,{% endif %}")
    tokenizer = load_tokenizer(write_model(tmp_path / "m", template=odd))
    (done,) = encoded(tokenizer, row())
    assert done.reasons == ["prompt_not_prefix"]
    # What is left of the prompt is what both renderings have in common.
    assert tokenizer.decode(done.pair.prompt).endswith("<|im_start|>assistant\n")


def test_a_template_that_writes_a_second_bos_is_noticed(tmp_path):
    tokenizer = load_tokenizer(write_model(tmp_path / "m", template="{{ bos_token }}" + TEMPLATE))
    (done,) = encoded(tokenizer, row())
    assert done.reasons == ["two_bos"]


def test_a_template_without_generation_prompt_is_refused(tmp_path):
    silent = TEMPLATE.partition("{% if add_generation_prompt %}")[0]
    tokenizer = load_tokenizer(write_model(tmp_path / "m", template=silent))
    with pytest.raises(ModelError, match="no generation prompt"):
        Encoder(tokenizer, WPOTraining(model="m"))


def test_a_template_that_asks_for_today_gets_the_pinned_day(tmp_path):
    dated = "{{ strftime_now('%d %b %Y') }}" + TEMPLATE
    tokenizer = load_tokenizer(write_model(tmp_path / "m", template=dated))
    encoder = Encoder(tokenizer, WPOTraining(model="m", template_date="2023-01-05"))
    assert encoder.reads_the_date
    (done,) = encoder.encode([row()])
    assert tokenizer.decode(done.pair.prompt).startswith("05 Jan 2023")


def test_the_published_marks(tokenizer):
    (plain,) = encoded(tokenizer, row())
    (doubled,) = encoded(tokenizer, row(), add_marks="always")
    assert doubled.pair.prompt == [tokenizer.bos_token_id, *plain.pair.prompt]
    assert doubled.pair.chosen == [*plain.pair.chosen, tokenizer.eos_token_id]
    assert doubled.reasons == ["two_bos"]


@pytest.mark.parametrize("layout", ["explicit", "implicit", "implicit with a text", "texts"])
def test_each_layout_gives_the_same_rows(tmp_path, layout):
    rows = pair_rows(5)
    for given in rows if layout != "explicit" else ():
        prompt = given.pop("prompt")
        if layout == "texts":
            given |= {"prompt": prompt[0]["content"]}
            given |= {side: given[side][0]["content"] for side in ("chosen", "rejected")}
        else:
            given |= {side: prompt + given[side] for side in ("chosen", "rejected")}
            given |= {"prompt": "beside the conversations"} if layout.endswith("text") else {}
    split = split_files(write_dataset(tmp_path, rows))["train"]
    found = list(split.read(("chosen_probs",)))
    wanted = list(split_files(write_dataset(tmp_path / "plain", pair_rows(5)))["train"].read(("chosen_probs",)))
    assert found == wanted
    assert found[3].id == "p003"
    assert found[3].numbers == {"chosen_probs": pytest.approx(0.675)}


def test_counts_balance_and_name_their_rows():
    preflight = Preflight("train", rows_in=4, rows_trained=2)
    preflight.count("a", ["empty_side"])
    preflight.count("b", ["prompt_fills"])
    preflight.count("c", ["answer_cut", "control_tokens"])
    assert preflight.check(Limits()) == [
        "train: 1 of 4 rows: the prompt or an answer is empty (empty_side; first: a)",
        "train: 1 of 4 rows: the prompt leaves no token for an answer (prompt_fills; first: b)",
        "train: 1 of 4 rows: an answer was cut to the limit (answer_cut; first: c)",
        "train: 1 of 4 rows: a text spells a control token of the model, which becomes that token "
        "(control_tokens; first: c)",
    ]
    assert Preflight.load(json.loads(json.dumps(preflight.dump()))) == preflight
    assert preflight.check(Limits(warn={})) == []
    with pytest.raises(InputError, match="1 of 4 rows of the split 'train' are answer_cut"):
        preflight.check(Limits(stop={"answer_cut": 0.2}))
    with pytest.raises(InputError, match="2 of 4 rows of the split 'train' are dropped"):
        preflight.check(Limits(stop_dropped=0.4))


def test_rows_that_vanish_are_a_bug():
    with pytest.raises(ConservationError):
        Preflight("train", rows_in=3, rows_trained=2).check(Limits())
