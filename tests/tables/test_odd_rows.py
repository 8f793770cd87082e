"""One row never changes how the others are read, wherever it stands; what would be lost of a row is an error."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from table_forms import table_of

import prefdata
from prefdata.errors import InputError
from prefdata.tables.whole_table import read_scored_table

FORMS = ("jsonl", "csv", "parquet", "pandas")
ORDERS = {"as they are": 1, "turned round": -1}


def says(text, **more):
    return {"role": "assistant", "content": text, **more}


def asks(text):
    return {"role": "user", "content": text}


def long(answers, **more):
    return [{"prompt": f"q{at // 2}", "response": answer, "score": at % 2, **more} for at, answer in enumerate(answers)]


@pytest.fixture(params=ORDERS)
def write(request, tmp_path):
    """Writes rows as a table, in both orders."""
    return lambda form, rows: table_of(form, rows[:: ORDERS[request.param]], tmp_path)


def answers_in(table, columns=None):
    return {row["response"]: row["finish_reason"] for row in read_scored_table(table, columns).candidates.to_dicts()}


LISTS = [{"prompt": f"q{at}", "responses": json.dumps([f"a{at}", "b"]), "scores": "[1, 2]"} for at in range(3)]
TALKS = long([json.dumps([asks(f"q{at // 2}"), says(f"a{at}")]) for at in range(4)])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("rows", "others"),
    [
        ([*LISTS, {"prompt": "q", "responses": "timeout", "scores": ""}], "lists of answers"),
        ([*LISTS, {"prompt": "q", "responses": "timeout", "scores": "1"}], "lists of answers"),
        ([*TALKS, *long(["timeout"])], "conversations"),
    ],
    ids=["a failure among lists", "an answer among lists", "a failure among conversations"],
)
def test_a_text_among_lists_or_conversations_is_named(write, form, rows, others):
    with pytest.raises(InputError, match=f"holds {others} elsewhere, and here 'timeout'"):
        read_scored_table(write(form, rows))


@pytest.mark.parametrize("form", FORMS)
def test_a_list_with_a_list_of_scores_among_single_answers_is_named(write, form):
    rows = [{"prompt": f"q{at}", "responses": f"a{at}", "scores": str(at)} for at in range(3)]
    with pytest.raises(InputError, match="holds single answers elsewhere, and here"):
        read_scored_table(write(form, [*rows, LISTS[0]]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "odd", [json.dumps([asks("hi"), says("hello")]), '["only one"]', '[{"from": "Rome", "value": 1}]']
)
def test_an_answer_that_looks_like_a_list_or_a_conversation_is_a_text_among_texts(write, form, odd):
    assert set(answers_in(write(form, long([odd, "b", "c", "d"])))) == {odd, "b", "c", "d"}


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_answer_decides_nothing(write, form):
    rows = [*LISTS, {"prompt": "q", "responses": "", "scores": ""}]
    assert set(answers_in(write(form, rows))) == {"a0", "a1", "a2", "b"}


@pytest.mark.parametrize("form", FORMS)
def test_a_finish_reason_is_read_however_late_it_comes(write, form):
    late = [
        {**row, "truncated": True if at == 0 else None} for at, row in enumerate(long([f"a{at}" for at in range(140)]))
    ]
    found = answers_in(write(form, late))
    assert {answer for answer, reason in found.items() if reason is not None} == {"a0"}


@pytest.mark.parametrize("form", FORMS)
def test_a_column_without_a_finish_reason_gives_way_to_one_with_truths(write, form):
    rows = [{**row, "finish_reason": None, "truncated": at == 0} for at, row in enumerate(long(["a", "b", "c"]))]
    assert answers_in(write(form, rows)) == {"a": "length", "b": "stop", "c": "stop"}


@pytest.mark.parametrize("key", ["finish_reason", "model"])
def test_a_key_of_objects_is_read_however_late_it_comes(write, key):
    rows = [
        {
            "prompt": f"q{at}",
            "completions": [{"response": f"a{at}", "score": 1.0, **({key: "stop"} if at == 99 else {})}],
        }
        for at in range(100)
    ]
    for form in ("jsonl", "parquet", "csv"):
        candidates = read_scored_table(write(form, rows)).candidates
        assert candidates.filter(response="a99")[key].to_list() == ["stop"]


@pytest.mark.parametrize("form", FORMS)
def test_rows_without_answers_hide_no_shape(write, form):
    rows = [{"prompt": f"q{at}", "completions": []} for at in range(70)]
    rows += [{"prompt": "q", "completions": [{"response": "a", "score": 1.0}, {"response": "b", "score": 2.0}]}]
    assert set(answers_in(write(form, rows))) == {"a", "b"}


PARTS = {"image": ["cat.png", "dog.png"], "tools": [["f"], ["g"]], "context": ["once", None]}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("part", PARTS)
def test_prompts_that_differ_in_what_is_not_read_are_not_one(write, tmp_path, capsys, form, part):
    values = PARTS[part]
    rows = [{**row, "prompt": "What is this?", part: values[at]} for at, row in enumerate(long(["a", "b"]))]
    table = write(form, rows)
    for verb, more in ((prefdata.pair, (tmp_path / "out",)), (prefdata.what_if, ())):
        with pytest.raises(InputError, match=f"the prompt is that of row 1, but '{part}' is another"):
            verb(table, "best_vs_worst", *more)
    # With ids of their own they are two.
    for at, row in enumerate(rows):
        row["prompt_id"] = f"p{at}"
    ledger = prefdata.pair(write(form, rows), "best_vs_worst", tmp_path / "out")
    assert ledger["prompts"] == 2
    assert f"not read: {part}" in capsys.readouterr().err


@pytest.mark.parametrize("form", FORMS)
def test_rows_without_a_prompt_are_dropped_whatever_their_parts_are(write, tmp_path, form):
    rows = [
        *long(["a", "b"], tools="f"),
        *({**row, "prompt": None, "tools": row["response"]} for row in long(["c", "d"])),
    ]
    ledger = prefdata.pair(write(form, rows), "best_vs_worst", tmp_path / "out")
    assert (ledger["pairs"], ledger["drops"]) == (1, {"missing_prompt": 1})


@pytest.mark.parametrize("form", FORMS)
def test_a_part_that_is_the_same_for_all_rows_of_a_prompt_is_said_and_no_more(write, tmp_path, capsys, form):
    ledger = prefdata.pair(write(form, long(["a", "b"], tools=["f"])), "best_vs_worst", tmp_path / "out")
    assert ledger["pairs"] == 1
    assert "not read: tools" in capsys.readouterr().err


TURNS = {
    "of another prompt": ([asks("other"), says("a")], "are not the prompt in 'prompt'"),
    "of more turns": ([asks("q0"), says("hi"), asks("more"), says("a")], "are not the prompt in 'prompt'"),
    "with a tool before it": ([says("I look"), {"role": "tool", "content": "22"}, says("a")], "are not the prompt in"),
    "that calls a tool": ([says("I look", tool_calls=[{"name": "f"}])], "it has tool_calls"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", TURNS)
def test_no_turn_of_an_answer_is_lost(write, form, kind):
    turns, why = TURNS[kind]
    with pytest.raises(InputError, match=why):
        read_scored_table(write(form, long([turns, [says("b")]])))


@pytest.mark.parametrize("form", FORMS)
def test_turns_before_an_answer_may_be_the_prompt(write, form):
    assert set(answers_in(write(form, long([[asks("q0 "), says("a")], [says("b")]])))) == {"a", "b"}


def test_names_in_the_index_of_a_frame_are_columns(tmp_path):
    frame = pd.DataFrame(
        {"prompt_id": [*"xxyy"], "model": [*"mnmn"], "prompt": "p", "response": [*"abcd"], "score": range(4)}
    )
    found = read_scored_table(frame.set_index(["prompt_id", "model"])).candidates
    assert found.sort("response").equals(read_scored_table(frame).candidates.sort("response"))
    assert read_scored_table(frame.set_index("prompt_id", drop=False)).candidates["prompt_id"].n_unique() == 2


def test_the_judge_of_distilabel_is_not_the_author(tmp_path):
    rows = [{"instruction": "q", "generations": ["a", "b"], "ratings": [1, 5], "model_name": "a judge"}]
    assert read_scored_table(table_of("jsonl", rows, tmp_path)).candidates["source"].to_list() == [None, None]


def test_ranks_are_no_scores(tmp_path):
    rows = [{"prompt": "q", "answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 7}]}]
    with pytest.raises(InputError, match=r"'answers\.rank' are ranks, of which the least is the best"):
        read_scored_table(table_of("jsonl", rows, tmp_path), {"response": "answers.answer", "score": "answers.rank"})
