"""The Snorkel layout: exactly the published columns and splits."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from prefdata.dataset import AnyLayout, SnorkelLayout, TRLPairs, prompt_text
from prefdata.errors import ConservationError
from prefdata.tables.schemas import ANSWERS, MESSAGES, PAIRS, PROMPTS

COLUMNS = ["prompt_id", "prompt", "chosen", "rejected", "all_generated_responses", "all_rm_scores"]
TALK = [
    {"role": "system", "content": "Be brief"},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]


def prompts(**cells):
    rows = [
        {"prompt_id": key, "messages": [{"role": "user", "content": cell}] if isinstance(cell, str) else cell}
        for key, cell in cells.items()
    ]
    return pa.Table.from_pylist(rows, PROMPTS)


def pairs(*rows):
    names = ("prompt_id", "response_chosen", "response_rejected")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], PAIRS)


def answers(*rows):
    names = ("prompt_id", "source", "index", "response", "score")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], ANSWERS)


def test_a_row_has_exactly_the_published_columns_and_types():
    table = SnorkelLayout().rows(
        pairs(("b", "good", "bad")),
        prompts(a="ask a", b="ask b"),
        answers(("a", "policy", 0, "other", 9.0), ("b", "policy", 0, "bad", -1.5), ("b", "policy", 1, "good", 2.0)),
    )
    assert table.column_names == COLUMNS
    assert [table.schema.field(name).type for name in COLUMNS] == [
        pa.string(), pa.string(), MESSAGES, MESSAGES, pa.list_(pa.string()), pa.list_(pa.float64())
    ]  # fmt: skip
    assert table.to_pylist() == [
        {
            "prompt_id": "b",
            "prompt": "ask b",
            "chosen": [{"role": "user", "content": "ask b"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "ask b"}, {"role": "assistant", "content": "bad"}],
            "all_generated_responses": ["bad", "good"],
            "all_rm_scores": [-1.5, 2.0],
        }
    ]


def test_every_answer_is_there_in_order_and_one_without_a_score_has_null():
    rows = [("a", "policy", 0, "x", 1.0), ("a", "policy", 1, "", None), ("a", "teacher", 0, "x", 0.5)]
    table = SnorkelLayout().rows(pairs(("a", "x", "y"), ("a", "x", "z")), prompts(a="ask"), answers(*rows))
    for row in table.to_pylist():
        assert row["all_generated_responses"] == ["x", "", "x"]
        assert row["all_rm_scores"] == [1.0, None, 0.5]


def test_a_conversation_is_one_text_with_its_roles_and_both_sides_start_with_it():
    text = "SYSTEM: Be brief\n\nUSER: Hi\n\nASSISTANT: Hello\n\nUSER: Bye"
    (row,) = (
        SnorkelLayout().rows(pairs(("a", "x", "y")), prompts(a=TALK), answers(("a", "policy", 0, "x", 1.0))).to_pylist()
    )
    assert row["prompt"] == text
    assert row["chosen"][0] == row["rejected"][0] == {"role": "user", "content": text}
    assert prompt_text(TALK[1:2]) == "Hi"
    assert prompt_text(TALK[:2]) == "SYSTEM: Be brief\n\nUSER: Hi"


def test_the_schema_is_the_same_without_rows_and_without_answers_nothing_is_written():
    full = SnorkelLayout().rows(pairs(("a", "x", "y")), prompts(a="ask"), answers(("a", "policy", 0, "x", 1.0)))
    none = SnorkelLayout().rows(PAIRS.empty_table(), PROMPTS.empty_table(), ANSWERS.empty_table())
    assert none.schema == full.schema
    with pytest.raises(ConservationError, match="needs the answers"):
        SnorkelLayout().rows(pairs(("a", "x", "y")), prompts(a="ask"))


def test_tables_of_several_chunks_are_joined_alike():
    chunked = pa.concat_tables([answers(("a", "p", 0, "x", 1.0)), answers(("a", "p", 1, "y", 0.0))])
    one = SnorkelLayout().rows(pairs(("a", "x", "y")), prompts(a="ask"), chunked)
    assert one.equals(SnorkelLayout().rows(pairs(("a", "x", "y")), prompts(a="ask"), chunked.combine_chunks()))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_splits_have_the_iteration_in_their_names(number):
    layout = SnorkelLayout(iteration=number)
    assert (layout.train_split, layout.test_split) == (f"train_iteration_{number}", f"test_iteration_{number}")
    assert layout.needs_answers
    assert (TRLPairs().train_split, TRLPairs().test_split, TRLPairs().needs_answers) == ("train", "test", False)
    assert TypeAdapter(AnyLayout).validate_python(layout.dump()) == layout


def test_there_is_no_fourth_iteration():
    with pytest.raises(ValidationError):
        SnorkelLayout(iteration=4)
