"""A text falls into the reasoning that it begins with and the answer after it; no answer loses a character."""

from __future__ import annotations

import polars as pl
import pytest

from prefdata.tables.reasoning import (
    MARKS,
    answer_of,
    answers_of,
    has_reasoning,
    parts_of,
    reasoned_answers_of,
    set_apart,
)

PLAIN = [
    "",
    " \n",
    "4",
    "Close it with </think> in the same line.",
    "Write `<think>` before it and\n</think>\nafter it.",
    "analysis of the data",
    "analysisResult = run(data)",
    "analysisResult.save()",
    "analysisResult",
    "The tag <think> opens it.",
    "thinking</thinking>\n",
]


@pytest.mark.parametrize("text", PLAIN)
def test_a_text_without_reasoning_is_its_own_answer(text):
    assert parts_of(text) == (None, text)


@pytest.mark.parametrize(("begin", "end"), MARKS)
@pytest.mark.parametrize("before", ["", "\n", "  \n", "\x1c\u3000\x1f"])
@pytest.mark.parametrize("gap", ["", "\n\n", " "])
def test_the_answer_is_what_follows_the_reasoning(begin, end, before, gap):
    assert parts_of(f"{before}{begin}\nTwo and two.\n{end}{gap}4\n") == ("Two and two.", "4\n")
    assert answers_of(pl.Series([f"{before}{begin}\nTwo.\n{end}4"])).to_list() == ["4"]
    assert parts_of(f"{before}{begin}\nTwo and") == ("Two and", None)
    assert parts_of(f"{before}{begin}\n{end}{gap}") == ("", "")
    assert parts_of(f"{begin}a{end}{gap}{begin}b{end}4") == ("a\n\nb", "4")


@pytest.mark.parametrize(("begin", "end"), MARKS)
def test_an_empty_block_is_marks_of_reasoning_and_none_of_it(begin, end):
    texts = [f"{begin}\n\n{end}\n\n4", f"{begin} two {end} 4", "4", f"{begin}\n"]
    assert [parts_of(text).reasoned for text in texts] == [False, True, False, False]
    assert reasoned_answers_of(pl.Series(texts))[1].to_list() == [False, True, False, False]


@pytest.mark.parametrize("text", ["Let me see.\n</think>\n\n4", "Let me see.</think>\n\n4", "Let me see.\n </think>4"])
def test_reasoning_that_the_prompt_has_opened_ends_at_its_mark(text):
    assert parts_of(text) == ("Let me see.", "4")


HARMONY = "<|channel|>analysis<|message|>Two and two.<|end|><|start|>assistant"


def test_harmony_answers_in_its_final_channel():
    assert parts_of(f"{HARMONY}<|channel|>final<|message|>4<|return|>") == ("Two and two.", "4")
    assert parts_of(f"{HARMONY}<|channel|>final <|constrain|>json<|message|>4") == ("Two and two.", "4")
    assert parts_of(f"<|start|>assistant{HARMONY}<|channel|>commentary<|message|>No.<|call|>") == (
        "Two and two.\n\nNo.",
        None,
    )
    assert parts_of("analysisTwo and two.assistantfinal4") == ("Two and two.", "4")
    assert parts_of("analysisTwo and") == ("Two and", None)


def test_own_marks_count_beside_the_usual_ones():
    marks = ("Thought:", "Answer:")
    assert parts_of("Thought: two. Answer: 4", marks) == ("two.", "4")
    assert parts_of("two. Answer: 4", marks) == ("two.", "4")
    assert parts_of("<think>two.</think>4", marks) == ("two.", "4")
    assert parts_of("Thought: two. Answer: 4") == (None, "Thought: two. Answer: 4")


ALONE = set_apart("", "keep", beside="Two and").text


def test_an_answer_that_is_missing_is_known_again():
    assert parts_of(ALONE) == ("Two and", None)
    assert parts_of(set_apart("", "keep", beside="").text) == ("", None)


def test_a_column_is_split_as_its_texts_are():
    texts = [
        *PLAIN,
        *(f"{begin}a{end}4" for begin, end in MARKS),
        HARMONY,
        "x\n</think>\n4",
        set_apart("", "keep", beside="x").text,
        None,
    ]
    column = pl.Series(texts, dtype=pl.String)
    assert answers_of(column).to_list() == [None if text is None else answer_of(text) for text in texts]
    flags = column.to_frame("text").select(has_reasoning(pl.col("text")))["text"].to_list()
    for text, flag in zip(texts, flags, strict=True):
        assert flag or text is None or parts_of(text).reasoning is None
    reasoned = [text is not None and parts_of(text).reasoned for text in texts]
    assert reasoned_answers_of(column)[1].to_list() == reasoned
    plain = pl.Series(["4", None])
    assert reasoned_answers_of(plain)[1].to_list() == [False, False]
    assert answers_of(plain) is plain
