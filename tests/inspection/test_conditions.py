"""Conditions on pairs: each means what Python would mean by it, nothing else is read, and mistakes are one message."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.errors import InputError
from prefdata.inspection.conditions import filter_of, names_in

ROWS = [
    {"score_margin": margin, "length": length, "text": text, "odd name": length, "flag": length > 1, "turns": [text]}
    for margin in (0.5, 1.0, 2.5, None)
    for length in (0, 1, 2)
    for text in ("poem", 'a "quoted" one', None)
]
FRAME = pl.DataFrame(ROWS)
OPERATORS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def kept(condition):
    return FRAME.with_row_index("at").filter(filter_of(condition, FRAME.schema))["at"].to_list()


@st.composite
def conditions(draw, depth=3):
    """A condition, and what it says of a row: True, False or None."""
    if depth and draw(st.booleans()):
        kind = draw(st.sampled_from(["and", "or", "not"]))
        left, says = draw(conditions(depth - 1))
        if kind == "not":
            return f"not ({left})", lambda row: None if says(row) is None else not says(row)
        right, also = draw(conditions(depth - 1))

        def both(row):
            values = (says(row), also(row))
            decisive = kind == "or"
            return decisive if decisive in values else None if None in values else not decisive

        return f"({left}) {kind} ({right})", both
    sign = draw(st.sampled_from(list(OPERATORS)))
    if draw(st.booleans()):
        number = draw(st.sampled_from([0, 1, 2, 0.5, -1, 2.5]))
        name = draw(st.sampled_from(["margin", "length", "`odd name`"]))
        column = {"margin": "score_margin", "`odd name`": "odd name"}.get(name, name)
        return (
            f"{name} {sign} {number}",
            lambda row: None if row[column] is None else OPERATORS[sign](row[column], number),
        )
    return "text contains 'o'", lambda row: None if row["text"] is None else "o" in row["text"]


@given(conditions())
def test_a_condition_keeps_what_it_says(case):
    condition, says = case
    assert kept(condition) == [at for at, row in enumerate(ROWS) if says(row)]


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("margin is missing", lambda row: row["score_margin"] is None),
        ("text is not missing", lambda row: row["text"] is not None),
        ("text == 'poem'", lambda row: row["text"] == "poem"),
        (r'text = "a \"quoted\" one"', lambda row: row["text"] == 'a "quoted" one'),
        ("length in (0, 2)", lambda row: row["length"] in (0, 2)),
        ("length not in (0, 2)", lambda row: row["length"] == 1),
        ("flag == true and not flag = false", lambda row: row["flag"]),
        ("length > margin", lambda row: row["score_margin"] is not None and row["length"] > row["score_margin"]),
        ("turns is not missing AND length<1", lambda row: row["length"] < 1),
        ("length == 1 or length == 2 and text == 'poem'",
         lambda row: row["length"] == 1 or (row["length"] == 2 and row["text"] == "poem")),
    ],
)  # fmt: skip
def test_every_form_means_what_it_says(condition, says):
    assert kept(condition) == [at for at, row in enumerate(ROWS) if says(row)]


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("", "ends too early"),
        ("margin", "ends too early"),
        ("margin <", "ends too early"),
        ("margin < 1 and", "ends too early"),
        ("(margin < 1", "ends too early"),
        ("margin < 1)", "does not end there: ')'"),
        ("margin 1", "has no operator there: '1'"),
        ("margin + 1 < 2", "can't be read at '+ 1 < 2'"),
        ("1 < margin", "has no column there"),
        ("margin < 'x'", "compares the column 'score_margin' with 'x'"),
        ("text == 1", "compares the column 'text' with 1"),
        ("text == length", "compares the column 'text' with the column 'length'"),
        ("flag == 1", "compares the column 'flag' with 1"),
        ("turns == 'x'", "holds lists or objects"),
        ("length contains 'x'", "needs a column of texts"),
        ("lenght < 1", "there is no column 'lenght'"),
        ("__import__('os')", "there is no column '__import__'"),
        ("text == 'x", "can't be read at \"'x\""),
        ("margin < 1; drop", "can't be read at '; drop'"),
        ("(" * 100 + "margin < 1" + ")" * 100, "too many parts within parts"),
        ("margin < 1 or " * 300, "too long"),
        ("margin < 1e", "can't be read"),
    ],
)
def test_a_mistake_is_one_message(condition, says):
    with pytest.raises(InputError) as caught:
        filter_of(condition, FRAME.schema)
    assert says in str(caught.value)
    assert caught.value.valid


def test_an_unknown_column_lists_the_columns():
    with pytest.raises(InputError) as caught:
        filter_of("lenght < 1", FRAME.schema)
    assert "score_margin, length, text" in caught.value.valid
    assert "did you mean 'length'?" in caught.value.valid
    assert "turns" not in caught.value.valid


@given(st.text(st.sampled_from("ab<>=!()'\"`, .12e-ni\\t\n"), max_size=25))
def test_any_text_is_a_condition_or_one_message(text):
    try:
        FRAME.filter(filter_of(text, FRAME.schema))
    except InputError as error:
        assert error.valid


def test_the_columns_of_a_condition_are_known_before_it_is_read():
    assert names_in("margin < 1 and (prompt contains 'and not') or `odd name` == 2") == {
        "score_margin",
        "prompt",
        "odd name",
    }
