"""Messages of tables: who may say the last turn, and that no other conversation is taken for an answer."""

from __future__ import annotations

import pytest
from table_forms import table_of

from prefdata.errors import InputError
from prefdata.tables.scored_table import ScoredTableFile
from prefdata.tables.whole_table import read_scored_table

FORMS = ("jsonl", "csv", "parquet", "pandas", "polars")
ASKED = {"role": "user", "content": "Why?"}
ODD = {
    "model": ({"role": "model", "content": "x"}, "its role is 'model'"),
    "user": ({"role": "user", "content": "thanks"}, "its role is 'user'"),
    "sharegpt": ({"from": "narrator", "value": "x"}, "its role is 'narrator'"),
    "parts": ({"role": "assistant", "content": [{"type": "text", "text": "x"}]}, "its content is not a text"),
    "tools": ({"role": "assistant", "content": None, "tool_calls": "f()"}, "it has tool_calls"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ODD)
def test_a_last_turn_that_is_not_an_answer_is_named_in_every_shape(tmp_path, form, kind):
    turn, why = ODD[kind]
    shapes = {
        "response": {"prompt": "q", "response": [turn], "score": 1.0},
        "messages": {"messages": [turn, turn], "score": 1.0},
        "responses": {"prompt": "q", "responses": [[turn], [turn]], "scores": [1.0, 2.0]},
    }
    for column, row in shapes.items():
        with pytest.raises(InputError) as caught:
            read_scored_table(table_of(form, [row], tmp_path))
        message = str(caught.value)
        assert f"row 1: the column {column!r} holds a conversation whose last turn is not an answer: {why}" in message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at", range(3))
def test_one_such_conversation_among_answers_is_named_wherever_it_is(tmp_path, form, at):
    answers = [[ASKED] if number == at else [{"role": "assistant", "content": "So."}] for number in range(3)]
    table = table_of(form, [{"prompt": "q", "responses": answers, "scores": [1.0, 2.0, 3.0]}], tmp_path)
    with pytest.raises(InputError, match="whose last turn is not an answer: its role is 'user'"):
        read_scored_table(table)


@pytest.mark.parametrize("form", FORMS)
def test_one_message_is_a_prompt(tmp_path, form):
    rows = [{"prompt": ASKED, "response": text, "score": score} for text, score in (("a", 1.0), ("b", 2.0))]
    assert read_scored_table(table_of(form, rows, tmp_path)).prompts["messages"].to_list() == [[ASKED]]


def test_one_message_that_python_wrote_is_refused(tmp_path):
    for column in ("prompt", "response"):
        rows = [{"prompt": "q", "response": "x", "score": 1.0, column: str(ASKED)}]
        with pytest.raises(InputError, match=f"the column '{column}' holds a list as Python or NumPy writes it"):
            read_scored_table(table_of("csv", rows, tmp_path))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at", [0, 1, 55, 99])
def test_such_a_message_is_named_by_its_row_in_whatever_piece_it_is(tmp_path, form, at):
    rows = [{"prompt": f"dict(see row {n})", "response": "x" * 100, "score": 1.0} for n in range(100)]
    rows[at]["prompt"] = str([ASKED])
    table = ScoredTableFile(table_of(form, rows, tmp_path))
    for read in (lambda: table.frames(1_000), lambda: table.prompts_with(["score"])):
        with pytest.raises(InputError, match=f"row {at + 1}: the column 'prompt' holds a list as Python"):
            list(read())


@pytest.mark.parametrize("text", ['{"role": "user"}', '{"a": 1}', "{", "{}", "{'a': 1}", '{"role": 1}, {"content": 2}'])
def test_other_objects_are_what_the_user_says(tmp_path, text):
    for form in ("csv", "parquet"):
        table = table_of(form, [{"prompt": text, "response": "x", "score": 1.0}], tmp_path)
        assert read_scored_table(table).prompts["messages"].to_list() == [[{"role": "user", "content": text}]]


@pytest.mark.parametrize("who", ["gpt", "chatgpt", "bing", "bard"])
def test_the_assistants_of_sharegpt_answer(tmp_path, who):
    turns = [{"from": "human", "value": "Why?"}, {"from": who, "value": "So."}]
    scored = read_scored_table(table_of("jsonl", [{"conversations": turns, "score": 1.0}], tmp_path))
    assert scored.candidates["response"].to_list() == ["So."]
    assert scored.prompts["messages"].to_list() == [[ASKED]]


def test_a_folder_of_folders_says_which_pattern_reads_them(tmp_path):
    (tmp_path / "deep" / "a").mkdir(parents=True)
    table_of("parquet", [{"prompt": "q", "response": "x", "score": 1.0}], tmp_path / "deep" / "a")
    with pytest.raises(InputError, match=r"a pattern in quotes: '.*/deep/\*\*/\*\.parquet'"):
        read_scored_table(tmp_path / "deep")
    assert read_scored_table(f"{tmp_path}/deep/**/*.parquet").rows == 1


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    table_of("jsonl", [{"prompt": "q", "response": "x", "score": 1.0}], tmp_path)
    assert read_scored_table("~/table.jsonl").rows == 1
    assert read_scored_table("~/*.jsonl").rows == 1
