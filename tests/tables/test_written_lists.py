"""Sequences that programs other than JSON's wrote into a cell are one clear error wherever a list is read."""

from __future__ import annotations

import csv
import json
from collections import deque

import numpy as np
import pandas as pd
import pytest
import torch
from table_forms import table_of

import prefdata
from prefdata.errors import InputError
from prefdata.tables.whole_table import read_scored_table
from prefdata.tables.written import is_written

MAKE = {
    "tuple": tuple,
    "tuple of one": lambda values: (values[0],),
    "list": lambda values: [values[0], None],
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
    "array": lambda values: repr(np.array(values)),
    "shown array": np.array,
    "objects": lambda values: repr(np.array(values, dtype=object)),
    "qualified": lambda values: "np." + repr(np.array(values)),
    "scalars": lambda values: list(np.array(values)),
    "tuple of scalars": lambda values: tuple(np.array(values)),
    "tuple of arrays": lambda values: (np.array(values),),
    "series": pd.Series,
    "shown extension": lambda values: pd.array(values),
    "call": lambda values: f"list({values})",
}
TEXTS, NUMBERS = ["a 'one'", "b, two"], [1.5, 2.0]
PLAIN = {"prompt": "q", "responses": json.dumps(TEXTS), "scores": json.dumps(NUMBERS), "models": '["m", "n"]'}
ERROR = "holds a list as Python or NumPy writes it, not as JSON: "


def shown(kind, values):
    return str(MAKE[kind](values))


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "pandas"])
def test_no_sequence_is_a_text_or_a_score_in_silence(tmp_path, kind, form):
    texts, numbers = shown(kind, TEXTS), shown(kind, NUMBERS)
    cases = {"responses": texts, "scores": numbers, "models": texts}
    for column, text in cases.items():
        for more in ({}, {"scores": numbers}) if column == "responses" else ({},):
            rows = [{**PLAIN, column: text, **more, "prompt": f"q{at}"} for at in range(2)]
            with pytest.raises(InputError) as caught:
                read_scored_table(table_of(form, rows, tmp_path))
            assert f"row 1: the column {column!r} {ERROR}" in str(caught.value)


@pytest.mark.parametrize("kind", MAKE)
def test_lists_in_columns_beside_a_text_of_another_program_are_refused_too(tmp_path, kind):
    row = {"prompt": "q", "responses": TEXTS, "scores": shown(kind, NUMBERS)}
    for form in ("parquet", "jsonl", "polars"):
        with pytest.raises(InputError, match=ERROR):
            read_scored_table(table_of(form, [row], tmp_path))


def test_a_tensor_is_one_too(tmp_path):
    rows = [{**PLAIN, "scores": str(torch.tensor(NUMBERS))}]
    with pytest.raises(InputError, match=ERROR):
        read_scored_table(table_of("csv", rows, tmp_path))


TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


@pytest.mark.parametrize("kind", ["tuple", "list", "deque", "objects", "qualified", "call"])
@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected", "response"])
def test_a_conversation_of_another_program_is_no_text_in_any_room(tmp_path, kind, column):
    pair = {"prompt": "Why?", "chosen": "a", "rejected": "b", "response": "r", "score": 1.0, column: shown(kind, TURNS)}
    path = table_of("csv", [pair, pair], tmp_path)
    if column in ("prompt", "response"):
        with pytest.raises(InputError, match=ERROR):
            read_scored_table(path)
    if column != "response":
        with pytest.raises(InputError, match=ERROR):
            prefdata.audit(path)


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("column", ["all_generated_responses", "all_rm_scores"])
def test_replay_and_audit_refuse_them(tmp_path, kind, column):
    values = TEXTS if column == "all_generated_responses" else NUMBERS
    row = {"prompt": "q", "chosen": TEXTS[1], "rejected": TEXTS[0]}
    row |= {"all_generated_responses": json.dumps(TEXTS), "all_rm_scores": json.dumps(NUMBERS)}
    path = table_of("csv", [row], tmp_path)
    assert prefdata.replay(path, "best_vs_worst").reproduced == 1
    assert prefdata.audit(path).scored == 1
    path = table_of("csv", [{**row, column: shown(kind, values)}], tmp_path)
    for read in (lambda: prefdata.replay(path, "best_vs_worst"), lambda: prefdata.audit(path)):
        with pytest.raises(InputError, match=ERROR):
            read()


def test_frames_that_pandas_writes_as_csv_are_refused(tmp_path):
    frame = pd.DataFrame({"prompt": ["q"], "responses": [tuple(TEXTS)], "scores": [tuple(NUMBERS)]})
    frame.to_csv(tmp_path / "t.csv", index=False, quoting=csv.QUOTE_ALL)
    with pytest.raises(InputError, match=ERROR):
        read_scored_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "text",
    [
        *("(see above)", "(1) First, do this (2)", "1 answer (x)", "{x: 1}", '{"a": 1}', "f(x)", "print(f(x), y)", ""),
        *("('a')", "<b>bold</b>", "(x, y)", "2 apples, 3 pears", "array of things", "(Laughs), well (ha)", "{}"),
        *("1. one\n2. two", "dtype: object", "array(", "(1, 2", "the list(['a'])"),
    ],
)
def test_other_texts_show_no_list(text):
    assert not is_written(text)


@pytest.mark.parametrize("text", ["('a', 'b')", "array([1, 2])", "[1, 2]", "{1, 2}", "(1, 2)"])
def test_an_answer_beside_one_score_is_an_answer_whatever_it_looks_like(tmp_path, text):
    rows = [{"prompt": "q", "response": text, "score": float(at)} for at in range(2)]
    assert read_scored_table(table_of("csv", rows, tmp_path)).candidates["response"].to_list() == [text, text]
