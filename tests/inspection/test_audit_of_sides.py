"""`audit`: what a side of a pair is: one answer, never several, and never a dialogue; NaN says nothing."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published import written

from prefdata import audit
from prefdata.errors import InputError


def turn(role, text):
    return {"role": role, "content": text}


def said(text):
    return [turn("assistant", text)]


SEVERAL = {
    "texts": ["bad1", "bad2", "bad3"],
    "two texts and a gap": ["bad1", None, "bad2"],
    "conversations": [said("bad1"), said("bad2")],
    "a text and a message": ["bad1", turn("assistant", "bad2")],
}
ONE = {"a text": ["one"], "a text and a gap": ["one", None], "a conversation": [said("one")], "a message": said("one")}


def rows_of(side, cell):
    row = {"prompt": "q", "chosen": "good", "rejected": "bad"} | {side: cell}
    return [row, row] if side != "completion" else [{"prompt": "q", "completion": cell, "label": True}]


@pytest.mark.parametrize("side", ["chosen", "rejected", "completion"])
@pytest.mark.parametrize("cell", SEVERAL.values(), ids=SEVERAL)
def test_several_answers_are_no_side(tmp_path, prefdata, side, cell):
    path = written(tmp_path / "t.jsonl", rows_of(side, cell))
    said = prefdata("audit", path)
    assert (said.code, said.out) == (2, "")
    assert f"row 1: the column {side!r} holds several answers: " in said.err
    assert f"explode({side!r})" in said.err


@pytest.mark.parametrize("side", ["chosen", "rejected"])
@pytest.mark.parametrize("cell", ONE.values(), ids=ONE)
def test_a_list_of_one_answer_is_that_answer(tmp_path, side, cell):
    report = audit(written(tmp_path / "t.jsonl", rows_of(side, cell)))
    assert report.first[0][side] == "one"
    assert report.findings["missing_text"] == 0


def test_a_list_of_one_text_is_read_as_a_text(tmp_path):
    rows = [{"prompt": "q", "chosen": ["good"], "rejected": ["bad"]}]
    assert audit(written(tmp_path / "t.jsonl", rows)).read_as == "TRL, standard (texts)"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("command", ["audit", "inspect", "inspect --sort margin"])
def test_several_answers_are_refused_in_every_format_and_by_every_verb(tmp_path, prefdata, suffix, command):
    rows = [{"prompt": f"q{n}", "chosen": ["good"], "rejected": ["bad1", "bad2", "bad3"]} for n in range(2)]
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(
                [{name: cell if name == "prompt" else json.dumps(cell) for name, cell in row.items()} for row in rows]
            )
    else:
        written(path, rows)
    verb, *options = command.split()
    done = prefdata(verb, path, *options)
    assert (done.code, done.out, "the column 'rejected' holds several answers" in done.err) == (2, "", True)


def test_one_answer_that_is_a_list_is_an_answer(tmp_path):
    rows = [
        {"prompt": "q", "chosen": '["a", "b"]', "rejected": "No."},
        {"prompt": "q2", "chosen": "Yes.", "rejected": "No."},
    ]
    for n, table in enumerate((rows, rows[::-1])):
        shown = {row["prompt"]: row["chosen"] for row in audit(written(tmp_path / f"{n}.jsonl", table)).first}
        assert shown == {"q": '["a", "b"]', "q2": "Yes."}


def texts(*turns):
    return "".join(f"\n\n{'Human' if each['role'] == 'user' else 'Assistant'}: {each['content']}" for each in turns)


U, A = (lambda text: turn("user", text)), (lambda text: turn("assistant", text))
DIALOGUES = {
    "the same prompt": ([U("q"), A("x"), U("A"), A("a")], [U("q"), A("x"), U("A"), A("b")]),
    "another question": ([U("q"), A("x"), U("A"), A("a")], [U("q"), A("x"), U("B"), A("b")]),
    "another answer before": ([U("q"), A("x"), U("A"), A("a")], [U("q"), A("y"), U("A"), A("b")]),
    "another first question": ([U("p"), A("a")], [U("q"), A("a")]),
    "a longer one": ([U("q"), A("x"), U("A"), A("a")], [U("q"), A("b")]),
    "one without an answer": ([U("q"), A("x"), U("A"), A("a")], [U("q"), A("x"), U("A")]),
    "a blank answer": ([U("q"), A("a")], [U("q"), A("")]),
}


@pytest.mark.parametrize("pair", DIALOGUES.values(), ids=DIALOGUES)
def test_dialogues_as_text_are_read_as_messages_are(tmp_path, pair):
    chosen, rejected = pair
    more = ([U("hi"), A("yes")], [U("hi"), A("no")])
    tables = [
        [{"chosen": make(chosen), "rejected": make(rejected)}, {"chosen": make(more[0]), "rejected": make(more[1])}]
        for make in (list, lambda turns: texts(*turns))
    ]
    first, second = (audit(written(tmp_path / f"{n}.jsonl", rows)) for n, rows in enumerate(tables))
    assert second.read_as == "texts that hold their prompt"
    assert (second.findings, second.lengths, second.prompts) == (first.findings, first.lengths, first.prompts)
    assert second.first == first.first


@pytest.mark.parametrize("make", [list, lambda turns: texts(*turns)])
def test_a_single_answer_that_holds_its_prompt_is_parted_too(tmp_path, make):
    rows = [
        {"completion": make([U("q"), A("x"), U("A"), A(text)]), "label": label} for text, label in (("a", 1), ("b", 0))
    ]
    report = audit(written(tmp_path / "t.jsonl", rows))
    assert (report.prompts, report.first[0]["chosen"], report.first[1]["rejected"]) == (1, "a", "b")


# Parquet has no empty object.
@pytest.mark.parametrize(
    ("suffix", "first"),
    [
        ("jsonl", {}),
        *((suffix, cell) for suffix in ("jsonl", "parquet") for cell in (None, {"score_chosen": None}, {"other": 1})),
    ],
)
@pytest.mark.parametrize("shards", [False, True])
def test_scores_within_an_object_are_found_in_whichever_row_has_them(tmp_path, prefdata, first, suffix, shards):
    cells = [first, {"score_chosen": 1, "score_rejected": 3}]
    rows = [{"prompt": f"q{n}", "chosen": "a", "rejected": "b", "metadata": cell} for n, cell in enumerate(cells)]
    for name, table in (("forth", rows), ("back", rows[::-1])):
        path = tmp_path / name
        if shards:
            for n, row in enumerate(table):
                written(path / f"train-{n:05d}-of-00002.{suffix}", [row])
        else:
            path = written(path / f"t.{suffix}", table)
        report = audit(path)
        assert (report.scored, report.findings["reversed_scores"]) == (1, 1)
        assert prefdata("inspect", path, "--where", "margin == -2").out.startswith("1 of 2 pairs ")


@pytest.mark.parametrize("cell", [None, float("nan"), "", " \n", []])
@pytest.mark.parametrize("name", ["system", "system_prompt", "input"])
def test_what_says_nothing_is_no_part_of_the_prompt(tmp_path, name, cell):
    asked = "instruction" if name == "input" else "prompt"
    rows = [
        {name: cell, asked: "q", "chosen": "a", "rejected": "b"},
        {name: None, asked: "q", "chosen": "b", "rejected": "a"},
    ]
    report = audit(written(tmp_path / "t.jsonl", rows))
    assert (report.prompts, report.first[0]["prompt"], report.findings["contradictions"]) == (1, "q", 1)


@pytest.mark.parametrize("name", ["role", "reasoning_content", "thinking"])
def test_nan_within_a_message_says_nothing(tmp_path, name):
    rows = [{"prompt": "q", "chosen": [A("a") | {name: float("nan")}], "rejected": [A("b")]}]
    report = audit(written(tmp_path / "t.jsonl", rows))
    assert (report.first[0]["chosen"], report.findings["thinking_on_one_side"]) == ("a", 0)


def test_columns_of_lists_in_arrow_are_read_alike(tmp_path):
    pq.write_table(pa.table({"prompt": ["q"], "chosen": [["a"]], "rejected": [["b", "c"]]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="the column 'rejected' holds several answers: "):
        audit(tmp_path / "t.parquet")
