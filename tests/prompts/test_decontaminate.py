"""Decontamination: prompts that share runs of words with evaluation sets are dropped."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from filtering import TALK, filtered, reasons
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefdata.prompts import (
    Decontaminate,
    EvalSet,
)

FOX = "the quick brown fox jumps over the lazy dog while seven wizards quietly brew some tea for the queen"
LONG = FOX.split()


def evals(tmp_path, *cells, name="mine", file="evals.jsonl", column="q"):
    path = tmp_path / file
    path.write_text("".join(json.dumps({column: cell}) + "\n" for cell in cells))
    return EvalSet(name=name, path=path, column=column)


def test_a_run_of_thirteen_words_is_found_inside_a_longer_prompt_and_named(tmp_path):
    part = Decontaminate(sets=(evals(tmp_path, "nothing like it at all, really nothing", " ".join(LONG)),))
    hidden = "Explain this: " + " ".join(LONG[3:16]).upper().replace(" ", ", ") + " - why?"
    twelve = "Explain this: " + " ".join(LONG[3:15]) + " why"
    found = filtered(part, hidden, twelve, "Something else")
    assert found[0][0] == "contaminated"
    assert found[0][1] == f"mine, row 2: {13 / 19:.0%} of its words, such as {' '.join(LONG[3:16])!r}"
    assert found[1:] == [None, None]


def test_with_a_share_one_run_is_not_enough(tmp_path):
    wanted = evals(tmp_path, " ".join(LONG))
    half = Decontaminate(sets=(wanted,), n=8, share=0.5)
    ten, nine = " ".join(LONG[:10]), " ".join(LONG[:9])
    assert reasons(half, ten, nine, f"{nine} and {' '.join(LONG[9:17])}") == ["contaminated", None, "contaminated"]
    assert reasons(Decontaminate(sets=(wanted,), n=8), nine, " ".join(LONG[:7])) == ["contaminated", None]
    assert reasons(Decontaminate(sets=(wanted,), n=8, share=1), " ".join(LONG[1:]), " ".join(LONG)) == [
        None,
        "contaminated",
    ]


def test_short_texts_are_found_whole_and_very_short_ones_only_as_a_whole_message(tmp_path):
    part = Decontaminate(sets=(evals(tmp_path, "Can pigs really fly at night?", "Why not?"),))
    cells = ("Tell me: can pigs really fly at night, or not?", "Can pigs really fly at day?", "why not", "Why not go?")
    assert reasons(part, *cells) == ["contaminated", None, "contaminated", None]
    assert reasons(Decontaminate(sets=part.sets, short=1), cells[3]) == ["contaminated"]


def test_every_message_is_looked_at_and_no_run_crosses_from_one_into_the_next(tmp_path):
    part = Decontaminate(sets=(evals(tmp_path, " ".join(LONG)),))
    torn = [
        {"role": "user", "content": " ".join(LONG[:10])},
        {"role": "assistant", "content": " ".join(LONG[10:])},
        {"role": "user", "content": "And?"},
    ]
    whole = [{"role": "user", "content": "a"}, {"role": "assistant", "content": " ".join(LONG)}, torn[2]]
    assert reasons(part, torn, whole) == [None, "contaminated"]


def test_of_several_texts_the_one_shared_most_is_named_and_of_equals_the_first(tmp_path):
    once = evals(tmp_path, f"{FOX} and then some more words that nobody shares", FOX)
    again = evals(tmp_path, " ".join(LONG), name="again", file="again.jsonl")
    found = filtered(Decontaminate(sets=(once, again)), " ".join(LONG))
    assert found[0][1].startswith("mine, row 2: 100%")


def test_cells_may_hold_lists_of_texts_or_messages_and_json_lists_are_read(tmp_path):
    path = tmp_path / "array.json"
    path.write_text(json.dumps([{"q": ["Is the moon made of cheese?", "Is it really made of that?"]}, {"q": TALK}]))
    part = Decontaminate(sets=(EvalSet(name="array", path=path, column="q"),))
    cells = ("Is it really made of that?", "Bye, now!", "Be brief")
    assert reasons(part, *cells) == ["contaminated", "contaminated", None]
    assert filtered(part, cells[1])[0][1] == "array, row 2: 100% of its words, such as 'bye now'"


def test_texts_without_a_word_are_counted_and_cells_without_a_text_refused(tmp_path):
    from prefdata.errors import InputError

    counts = Counter()
    assert reasons(Decontaminate(sets=(evals(tmp_path, "???", "what"),)), "???", counts=counts) == [None]
    assert counts == {"eval_texts_without_words": 1}
    for cell in (None, 7, [], [{"role": "assistant", "content": "a"}], [None]):
        with pytest.raises(InputError, match="'mine', row 2: 'q' is not a text"):
            filtered(Decontaminate(sets=(evals(tmp_path, "fine", cell),)), "a")
    with pytest.raises(InputError, match="has no column 'question'"):
        filtered(Decontaminate(sets=(EvalSet(name="x", path=evals(tmp_path, "a").path, column="question"),)), "a")
    with pytest.raises(InputError, match="does not exist"):
        filtered(Decontaminate(sets=(EvalSet(name="x", path=tmp_path / "none.json", column="q"),)), "a")


def test_evaluation_files_are_pinned_by_their_bytes(tmp_path):
    from prefdata.errors import InputError

    part = Decontaminate(sets=(evals(tmp_path, "a b c d e f"),))
    pins = part.pins()
    assert list(pins) == ["sets.0"]
    assert reasons(part, "a b c d e f", **pins) == ["contaminated"]
    evals(tmp_path, "something else")
    with pytest.raises(InputError, match="has changed since it was locked"):
        filtered(part, "a b c d e f", **pins)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"path": "a.jsonl", "dataset": "a/b", "split": "test"},
        {"dataset": "a/b"},
        {"dataset": "a/b", "split": "test", "file": "x.json"},
        {"dataset": "a/b", "file": "../x.json"},
        {"dataset": "a/b", "file": "/x.json"},
        {"path": "a.jsonl", "split": "test"},
    ],
)
def test_an_evaluation_set_lies_in_one_place(options):
    with pytest.raises(ValidationError):
        EvalSet(name="x", column="q", **options)


def test_impossible_decontamination_is_refused(tmp_path):
    one = evals(tmp_path, "a")
    for options in ({"sets": (one, one)}, {"sets": ()}, {"n": 1}, {"share": 1.5}):
        with pytest.raises(ValidationError):
            Decontaminate(**options)


def test_runs_may_be_shorter_than_what_counts_as_short(tmp_path):
    part = Decontaminate(sets=(evals(tmp_path, "a b c d"),), n=3, short=5)
    assert reasons(part, "x b c d x", "b c") == ["contaminated", None]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), st.lists(st.sampled_from("abc"), max_size=16))
def test_overlap_is_what_searching_every_place_gives(tmp_path_factory, text, message):
    from prefdata.prompts.filters._overlap import Overlap

    n, short = 5, 3
    overlap = Overlap(n, 0, short)
    overlap.add("x", " ".join(text))
    size = min(n, len(text))
    runs = {tuple(text[at : at + size]) for at in range(len(text) - size + 1)}
    places = range(len(message) - size + 1)
    expected = any(tuple(message[at : at + size]) in runs for at in places) if len(text) >= short else text == message
    assert (overlap.of([" ".join(message)]) is not None) == expected
