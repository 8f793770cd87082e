"""Rows of tables -> prompts and drops."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from table_forms import table_of

from prefdata.errors import InputError
from prefdata.prompts import AnyPrompts, FilePrompts, HubPrompts, SamplePrompts
from prefdata.records import Drop, Prompt, as_messages
from prefdata.spec import Context

USER = {"role": "user", "content": "Why is the sky blue?"}
TALK = [
    {"role": "system", "content": ""},
    USER,
    {"role": "assistant", "content": "Scattering."},
    {"role": "user", "content": "Of what?"},
]


def written(tmp_path, *rows, name="prompts.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(part, counts=None, **pins):
    def counted(what, n):
        if counts is not None:
            counts[what] += n

    return list(part.read(Context(seed=0, pins=pins, counted=counted)))


def only(tmp_path, cell, **options):
    return read(FilePrompts(path=written(tmp_path, {"prompt": cell}), **options))[0]


def test_the_id_of_a_text_is_its_sha256_and_the_text_is_kept_to_the_letter(tmp_path):
    text = "  Grüße \n"
    found = only(tmp_path, text)
    assert found == Prompt(
        hashlib.sha256(text.encode()).hexdigest(),
        ({"role": "user", "content": text},),
        "prompts.jsonl, row 1",
    )


def test_text_messages_and_json_text_of_one_conversation_have_one_id(tmp_path):
    padded = [{**USER, "name": None, "tool_calls": []}]
    cells = (USER["content"], [USER], padded, json.dumps([USER]), f" {json.dumps(padded)}\n")
    found = [only(tmp_path, cell) for cell in cells]
    assert {prompt.prompt_id for prompt in found} == {hashlib.sha256(USER["content"].encode()).hexdigest()}
    assert {prompt.messages for prompt in map(freeze, found)} == {(("user", USER["content"]),)}


def freeze(prompt):
    return Prompt(prompt.prompt_id, tuple((turn["role"], turn["content"]) for turn in prompt.messages))


def test_the_id_of_several_turns_is_that_of_their_canonical_json(tmp_path):
    canonical = (
        '[{"content":"","role":"system"},{"content":"Why is the sky blue?","role":"user"},'
        '{"content":"Scattering.","role":"assistant"},{"content":"Of what?","role":"user"}]'
    )
    swapped = [{"content": turn["content"], "role": turn["role"]} for turn in TALK]
    expected = hashlib.sha256(canonical.encode()).hexdigest()
    assert only(tmp_path, TALK).prompt_id == only(tmp_path, swapped).prompt_id == expected
    assert only(tmp_path, TALK).messages == as_messages(TALK)


@pytest.mark.parametrize(
    ("cell", "reason", "detail"),
    [
        (None, "missing", ""),
        ("", "blank", ""),
        (" \n\t", "blank", ""),
        ([], "blank", "an empty list"),
        ([{"role": "user", "content": "  "}], "blank", "the turn to be answered"),
        ("[]", None, ""),
        (7, "bad_messages", "not int"),
        ({"role": "user", "content": "a"}, None, ""),
        ({"role": "user", "content": 1}, "bad_messages", "content is int"),
        (["a"], "bad_messages", "message 1: an object is expected, found str"),
        ([{"from": "function_call", "value": "a"}], "bad_messages", "message 1: the role is 'function_call'"),
        ([{"role": "human", "content": "a"}], "bad_messages", "the role is 'human', valid: system, user"),
        ([USER, {"role": "user"}], "bad_messages", "message 2: the content is NoneType, not text"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}]}], "unsupported_message", "not plain text"),
        ([{**USER, "name": "Ann"}], "unsupported_message", "message 1: has name besides"),
        (
            [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}],
            "unsupported_message",
            "tool_calls",
        ),
        ([USER, {"role": "assistant", "content": "a"}], "ends_in_assistant", "no turn to answer"),
        ([USER, {"role": "system", "content": "a"}], "ends_in_system", "no turn to answer"),
        ([{"role": "tool", "content": "a"}], "no_user_turn", ""),
        ('[{"role": "user", "content": "\\ud800"}]', "bad_messages", "half of a surrogate pair at character 1"),
    ],
)
def test_each_row_that_is_no_prompt_is_dropped_with_its_reason_and_number(tmp_path, cell, reason, detail):
    rows = [{"prompt": "first"}, {"prompt": cell}]
    first, found = read(FilePrompts(path=written(tmp_path, *rows)))
    assert isinstance(first, Prompt)
    if reason is None:
        assert isinstance(found, Prompt)
        return
    assert isinstance(found, Drop)
    assert (found.prompt_id, found.stage, found.reason) == ("row:2", "prompts", reason)
    assert found.detail.startswith("prompts.jsonl, row 2")
    assert detail in found.detail


def test_a_text_that_only_looks_like_messages_stays_a_text(tmp_path):
    for text in (
        "[1, 2]",
        '[{"role": "user"}]',
        "[not JSON",
        '{"role": "user"}',
        f"{json.dumps(USER)}, {json.dumps(USER)}",
    ):
        assert only(tmp_path, text).messages == ({"role": "user", "content": text},)
    for exact in (json.dumps([USER]), json.dumps(USER)):
        assert only(tmp_path, exact).messages == (USER,)
        assert only(tmp_path, exact, prompt_format="text").messages == ({"role": "user", "content": exact},)
    assert only(tmp_path, "plain", prompt_format="messages").reason == "bad_messages"
    assert only(tmp_path, [USER], prompt_format="text").reason == "bad_messages"


def test_given_ids_are_kept_even_when_they_are_not_the_hash(tmp_path):
    hashed = hashlib.sha256(b"b").hexdigest()
    path = written(
        tmp_path,
        {"id": "mine", "prompt": "a"},
        {"id": hashed, "prompt": "b"},
        {"id": 17, "prompt": "c"},
        {"id": None, "prompt": "b"},
        {"id": " ", "prompt": "e"},
        {"id": True, "prompt": "f"},
        {"id": "lost", "prompt": ""},
    )
    counts = Counter()
    found = read(FilePrompts(path=path, prompt_id_column="id"), counts)
    assert [record.prompt_id for record in found] == ["mine", hashed, "17", hashed, "row:5", "row:6", "lost"]
    assert [getattr(record, "reason", None) for record in found[4:]] == ["bad_prompt_id", "bad_prompt_id", "blank"]
    assert counts == {"prompt_ids_that_are_not_the_hash": 2, "prompt_ids_computed": 1}


def test_duplicates_are_left_for_the_flow_to_merge(tmp_path):
    found = read(FilePrompts(path=written(tmp_path, {"prompt": "a"}, {"prompt": "a"})))
    assert found[0].prompt_id == found[1].prompt_id
    assert [record.origin for record in found] == ["prompts.jsonl, row 1", "prompts.jsonl, row 2"]


def test_any_format_and_column_is_read_and_a_missing_column_is_refused(tmp_path):
    path = tmp_path / "questions.csv.gz"
    path.write_bytes(gzip.compress(b"question,more\na,1\n,2\n"))
    found = read(FilePrompts(path=path, prompt_column="question"))
    assert [getattr(record, "reason", None) for record in found] == [None, "missing"]
    with pytest.raises(InputError, match=r"has no column 'prompt'\n  valid: question, more"):
        read(FilePrompts(path=path))


def test_a_file_is_pinned_by_its_bytes(tmp_path):
    path = written(tmp_path, {"prompt": "a"})
    part = FilePrompts(path=path)
    pins = part.pins()
    assert pins == {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert len(read(part, **pins)) == 1
    written(tmp_path, {"prompt": "b"})
    with pytest.raises(InputError, match="has changed since it was locked"):
        read(part, **pins)


def test_the_sample_is_all_prompts_of_one_and_several_turns():
    part = SamplePrompts()
    found = read(part, **part.pins())
    assert len(found) >= 100
    assert all(isinstance(record, Prompt) for record in found)
    assert len({record.prompt_id for record in found}) == len(found)
    assert {1, 3} <= {len(record.messages) for record in found}


@pytest.mark.parametrize(
    "part",
    [
        HubPrompts(dataset="a/b", config="c", split="test", revision="v1", prompt_id_column="prompt_id"),
        FilePrompts(path="prompts.jsonl", prompt_format="text"),
        SamplePrompts(),
    ],
)
def test_a_source_survives_the_json_round_trip(part):
    assert TypeAdapter(AnyPrompts).validate_json(json.dumps(part.dump())) == part


@pytest.mark.parametrize("dataset", ["", "a b", "a/b/c", "../b/c", "https://host/a"])
def test_a_dataset_is_named_as_the_hub_names_it(dataset):
    with pytest.raises(ValidationError):
        HubPrompts(dataset=dataset)


def test_the_scored_sample_is_twenty_prompts_of_which_none_is_in_the_other_and_says_nothing_where_it_is_not_asked_for():
    found = read(SamplePrompts(scored=True), **SamplePrompts(scored=True).pins())
    assert len({record.prompt_id for record in found if isinstance(record, Prompt)}) == len(found) == 20
    assert not {record.prompt_id for record in found} & {record.prompt_id for record in read(SamplePrompts())}
    assert SamplePrompts().dump() == {"kind": "sample"}
    assert SamplePrompts(scored=True).dump() == {"kind": "sample", "scored": True}


def test_each_scored_prompt_has_four_answers_with_points_but_for_one_that_has_none():
    from prefdata.sampling import SampleAnswers, SampleTask

    part = SampleAnswers(name="past", scored=True)
    tasks = [SampleTask(prompt, 0) for prompt in read(SamplePrompts(scored=True))]
    drawn = list(part.sample(tasks, Context(seed=0, pins=part.pins())))
    assert [len(found.candidates) for found in drawn] == [4] * 20
    assert not any(found.drops for found in drawn)
    scores = [candidate.given_score for found in drawn for candidate in found.candidates]
    assert scores.count(None) == 1
    assert all(1 <= score <= 10 for score in scores if score is not None)
    assert SampleAnswers(name="past").dump() == {"kind": "sample_answers", "name": "past"}


@pytest.mark.parametrize("form", ["parquet", "jsonl", "json", "csv", "tsv", "arrow"])
def test_a_system_turn_and_an_input_are_parts_of_the_prompt_or_are_refused(tmp_path, form):
    rows = [
        {"system": "Be brief.", "instruction": "Add.", "input": "1, 2"},
        {"system": None, "instruction": "Add.", "input": None},
    ]
    path = table_of(form, rows, tmp_path)
    columns = {"prompt_column": "instruction", "system_column": "system", "input_column": "input"}
    first, second = read(FilePrompts(path=path, **columns))
    assert first.messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add.\n\n1, 2"},
    )
    assert second.messages == as_messages("Add.")
    for name in ("system", "input"):
        with pytest.raises(InputError, match=f"row 1: the column '{name}' looks like a part of the prompt"):
            read(FilePrompts(path=path, **{**columns, f"{name}_column": None}))
    left_out = {**columns, "system_column": "", "input_column": ""}
    assert [one.messages for one in read(FilePrompts(path=path, **left_out))] == [as_messages("Add.")] * 2
    assert {"system_column", "input_column"} & FilePrompts(path=path).dump().keys() == set()


def test_a_column_of_system_turns_without_one_does_not_matter(tmp_path):
    path = written(tmp_path, {"prompt": "a", "system": None}, {"prompt": "b", "system": " "})
    assert [one.messages[0]["content"] for one in read(FilePrompts(path=path))] == ["a", "b"]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv", "arrow"])
@pytest.mark.parametrize("written_by", [str, lambda talk: str(np.array(talk, dtype=object))])
def test_a_conversation_that_python_wrote_is_one_error(tmp_path, form, written_by):
    path = table_of(form, [{"prompt": "a"}, {"prompt": written_by([USER])}], tmp_path)
    with pytest.raises(InputError, match="row 2: the column 'prompt' holds a list as Python or NumPy writes it"):
        read(FilePrompts(path=path))
    assert len(read(FilePrompts(path=path, prompt_format="text"))) == 2


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv", "arrow"])
def test_ids_that_became_floats_are_the_ids_that_they_were(tmp_path, form):
    path = table_of(form, [{"id": 101.0, "prompt": "a"}, {"id": 102.0, "prompt": "b"}], tmp_path)
    assert [one.prompt_id for one in read(FilePrompts(path=path, prompt_id_column="id"))] == ["101", "102"]


def test_the_turns_of_sharegpt_are_messages(tmp_path):
    talk = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "a"}]
    for cell in (talk, json.dumps(talk)):
        assert [turn["role"] for turn in only(tmp_path, cell).messages] == ["system", "user"]
