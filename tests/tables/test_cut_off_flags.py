"""Columns of truth values that say which answers were cut off: finish reasons that are said, and can be left out."""

from __future__ import annotations

import pytest
from table_forms import FORMS, table_of

import prefdata
from prefdata.errors import InputError
from prefdata.tables.finish_reasons import ending_of, is_flag, word_of
from prefdata.tables.scored_table import ScoredTableFile
from prefdata.tables.whole_table import read_scored_table

CUT_OFF_IF_TRUE = (
    *("truncated", "is_truncated", "was_truncated", "isTruncated", "response_truncated", "Truncated", "cut_off"),
    *("incomplete", "is_unfinished", "hit_max_tokens", "completion_is_truncated", "stopped_limit"),
)
WHOLE_IF_TRUE = ("finished", "is_finished", "is_complete", "completed", "isCompleted", "answer_complete", "has_ended")
FLAGS = [*((name, True) for name in CUT_OFF_IF_TRUE), *((name, False) for name in WHOLE_IF_TRUE)]
OTHERS = ("done", "is_correct", "response", "answer", "truth", "completion", "complete_text", "label", "")
ANSWERS = (("cut of", 9.0, True), ("bad", 1.0, False), ("good", 5.0, False))


def long(name, cut_off, spelt):
    return [{"prompt": "q", "response": r, "score": s, name: spelt(flag == cut_off)} for r, s, flag in ANSWERS]


def wide(name, cut_off, spelt):
    texts, scores, flags = zip(*ANSWERS, strict=True)
    flags = [spelt(flag == cut_off) for flag in flags]
    return [{"prompt": "q", "responses": [*texts], "scores": [*scores], name: flags}]


def objects(name, cut_off, spelt):
    answers = [{"response": r, "overall_score": s, name: spelt(flag == cut_off)} for r, s, flag in ANSWERS]
    return [{"instruction": "q", "completions": answers}]


def endings(table, columns=None):
    return {row["response"]: row["finish_reason"] for row in read_scored_table(table, columns).candidates.to_dicts()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [long, wide, objects], ids=lambda shape: shape.__name__)
@pytest.mark.parametrize(("name", "cut_off"), [("is_truncated", True), ("finished", False)])
def test_a_flag_is_read_in_every_shape_and_format_said_and_recorded(tmp_path, form, shape, name, cut_off):
    table = table_of(form, shape(name, cut_off, bool), tmp_path)
    expected = {"cut of": "length", "bad": "stop", "good": "stop"}
    assert endings(table) == expected
    reading = ScoredTableFile(table).reading
    path = f"completions.{name}" if shape is objects else name
    assert f"finish_reason={path}" in reading.said
    assert f"{path} says which answers were cut off" in reading.said
    assert endings(table, reading.columns) == expected, "the recipe of a dataset reads it alike"
    left_out = {**reading.columns, "finish_reason": "-"}
    assert {*endings(table, left_out).values()} == {None}
    assert "cut off" not in (ScoredTableFile(table, left_out).reading.said or "")


@pytest.mark.parametrize(("name", "cut_off"), FLAGS)
@pytest.mark.parametrize("spelt", [bool, int, float, str, lambda flag: str(flag).lower(), lambda flag: "yn"[not flag]])
def test_every_name_and_spelling_of_a_flag_says_the_same(tmp_path, name, cut_off, spelt):
    found = {row[0]: word_of(spelt(row[2] == cut_off), name) for row in ANSWERS}
    assert is_flag(name)
    assert {text: ending_of(word) for text, word in found.items()} == dict.fromkeys(found, "whole") | {
        "cut of": "cut_off"
    }
    assert word_of(None, name) is None
    assert word_of("max_tokens", name) == "max_tokens"


@pytest.mark.parametrize("name", OTHERS)
def test_other_columns_of_truth_values_say_nothing_of_it(tmp_path, name):
    assert not is_flag(name)
    assert word_of(True, name) is True


def test_a_column_of_another_kind_is_no_flag(tmp_path):
    rows = [{**row, "complete": "the whole text"} for row in long("other", True, bool)]
    assert {*endings(table_of("jsonl", rows, tmp_path)).values()} == {None}
    rows = [{**row, "finish_reason": "stop"} for row in long("truncated", True, bool)]
    assert {*endings(table_of("jsonl", rows, tmp_path)).values()} == {"stop"}, "the reason itself comes first"


def test_truth_values_that_say_nothing_are_one_error(tmp_path):
    for name, columns in (("is_cut", {"finish_reason": "is_cut"}), ("finish_reason", {})):
        for form in ("jsonl", "csv", "pandas"):
            with pytest.raises(InputError, match=f"'{name}' holds truth values, which are not finish reasons"):
                read_scored_table(table_of(form, long(name, True, bool), tmp_path), columns)
    table = table_of("jsonl", long("finish_reason", True, bool), tmp_path)
    assert {*endings(table, {"finish_reason": "-"}).values()} == {None}


def test_a_list_of_flags_that_python_wrote_is_refused(tmp_path):
    (row,) = wide("truncated", True, bool)
    with pytest.raises(InputError, match="the column 'truncated' holds a list as Python or NumPy writes it"):
        read_scored_table(table_of("csv", [{**row, "truncated": str(row["truncated"])}], tmp_path))


def test_an_answer_that_was_cut_off_is_in_no_pair(tmp_path):
    table = table_of("csv", long("truncated", True, bool), tmp_path)
    ledger = prefdata.pair(table, "best_vs_worst", tmp_path / "out")
    assert ledger["ineligible"] == {"cut_off": 1}
    assert prefdata.load(tmp_path / "out").pairs["chosen"].to_list()[0][0]["content"] == "good"
    assert "truncated says which answers were cut off" in (tmp_path / "out" / "README.md").read_text()
    assert prefdata.verify(tmp_path / "out", table=table).holds
