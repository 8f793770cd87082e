"""`PublishedPairs`: each pair with the conversation that it answers, and never two pairs mixed."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest

from prefdata.records import Prompt, as_messages, prompt_id_of
from prefdata.sampling import PublishedPairs, SampleTask
from prefdata.spec import Context


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Answer as a pirate."}
GERMAN = [user("Say hello in German."), assistant("Hallo."), user("And in French?")]


def pair(prompt, before, good="Good.", bad="Bad.", scores=(5, 1), **more):
    sides = {"chosen": [*before, assistant(good)], "rejected": [*before, assistant(bad)]}
    return {"prompt": prompt, **sides, "score_chosen": scores[0], "score_rejected": scores[1], **more}


def asked(prompt):
    messages = as_messages(prompt)
    return Prompt(prompt_id_of(messages), messages)


def drawn(tmp_path, rows, *prompts, counts=None, **options):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    context = Context(seed=0, counted=lambda what, n: counts.update({what: n}) if counts is not None else None)
    part = PublishedPairs(name="uf", path=path, **options)
    return list(part.sample([SampleTask(prompt, 0) for prompt in prompts], context))


def texts(result):
    return [(candidate.index, candidate.response, candidate.given_score) for candidate in result.candidates]


def reasons(result):
    return [(drop.reason, drop.index) for drop in result.drops]


GOOD_OVER_BAD = [(0, "Good.", 5.0), (1, "Bad.", 1.0)]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("prompt", "row"),
    [
        ("What is 2+2?", pair("What is 2+2?", [user("What is 2+2?")])),
        ("What is 2+2?", pair("What is 2+2?", [])),
        ("What is 2+2?", pair("What is 2+2?", []) | {"chosen": "Good.", "rejected": "Bad."}),
        (GERMAN, pair(GERMAN, GERMAN)),
        (GERMAN, pair(GERMAN, [])),
        # The prompt column has less than what the sides answer, or nothing that can be read.
        (GERMAN, pair("Say hello in German.", GERMAN)),
        (GERMAN, pair("And in French?", GERMAN)),
        (GERMAN, pair(None, GERMAN)),
        ([SYSTEM, user("Say hi")], pair("Say hi", [SYSTEM, user("Say hi")])),
    ],
)
def test_a_pair_belongs_to_the_conversation_that_its_sides_answer(tmp_path, prompt, row, as_json):
    if as_json:
        row |= {side: json.dumps(row[side]) for side in ("chosen", "rejected") if isinstance(row[side], list)}
    [found] = drawn(tmp_path, [row], asked(prompt))
    assert texts(found) == GOOD_OVER_BAD
    assert not found.drops


@pytest.mark.parametrize(
    ("prompt", "row", "reason"),
    [
        ("Say hello in German.", pair("Say hello in German.", GERMAN), "other_conversation"),
        ("And in French?", pair("And in French?", GERMAN), "other_conversation"),
        ("Say hi", pair("Say hi", [SYSTEM, user("Say hi")]), "other_conversation"),
        ("Peru?", pair("Peru?", [user("Peru?")]) | {"chosen": [user("Chile?"), assistant("x")]}, "other_conversation"),
        ("Peru?", pair("Peru?", []) | {"chosen": [user("Chile?"), assistant("x")]}, "other_conversation"),
        ("Joke", pair("Joke", []) | {"chosen": [user("Joke"), assistant("x"), user("y")]}, "ends_in_user"),
        ("Joke", pair("Joke", []) | {"rejected": [user("Joke"), SYSTEM]}, "ends_in_system"),
        ("Joke", pair("Joke", []) | {"rejected": [user("Joke"), {"role": "bot", "content": "x"}]}, "bad_messages"),
        ("Joke", pair("Joke", []) | {"rejected": [user("Joke"), {"content": "x"}]}, "bad_messages"),
        ("Joke", pair("Joke", []) | {"rejected": 7}, "bad_messages"),
        ("Joke", pair("Joke", []) | {"rejected": None}, "missing_response"),
        ("Joke", pair("Joke", []) | {"rejected": []}, "missing_response"),
        ("Joke", pair("Joke", []) | {"chosen": [{**assistant("x"), "tool_calls": [1]}]}, "unsupported_message"),
    ],
)
@pytest.mark.parametrize("by_id", [False, True])
def test_what_answers_something_else_is_dropped_with_its_reason(tmp_path, prompt, row, reason, by_id):
    one = asked(prompt)
    row = row | {"qid": one.prompt_id}
    [found] = drawn(tmp_path, [row], one, **({"prompt_id_column": "qid"} if by_id else {}))
    assert texts(found) == []
    assert reasons(found) == [(reason, 0), (reason, 1)]


def test_two_pairs_of_one_prompt_are_never_mixed_whatever_the_order_of_the_rows(tmp_path):
    rows = [
        pair("Q", [], "A5", "B4", (5, 4)),
        pair("Q", [], "C3", "D1", (3, 1)),
        pair("Q", [], "E5", "F1", (5, 1)),
        pair("Q", [], "G", "H", (None, "7/10")),
        pair("Q", [user("another")], "I9", "J1", (9, 1)),
    ]
    for order in itertools.permutations(rows):
        [found] = drawn(tmp_path, order, asked("Q"))
        assert texts(found) == [(0, "E5", 5.0), (1, "F1", 1.0)]
        assert Counter(reason for reason, _ in reasons(found)) == {"another_pair": 6, "other_conversation": 2}
        assert [index for _, index in reasons(found)] == list(range(2, 10))


def test_rows_that_nobody_asked_for_are_counted(tmp_path):
    counts = Counter()
    rows = [pair("Q", []), pair("elsewhere", [], scores=("N/A", 1)), pair(" ", [])]
    drawn(tmp_path, rows, asked("Q"), asked("R"), counts=counts)
    assert counts == {"rows_of_other_prompts": 1, "scores_that_are_no_number": 1, "rows_with_unusable_prompt": 1}


def test_a_row_that_is_used_under_one_of_its_two_ids_is_not_one_of_another_prompt(tmp_path):
    counts = Counter()
    rows = [pair("Q", [user("Q")], qid="q1"), pair("R", [user("R")], qid="r1")]
    [found] = drawn(tmp_path, rows, asked("Q"), counts=counts, prompt_id_column="qid")
    assert texts(found) == GOOD_OVER_BAD
    assert counts == {"rows_of_other_prompts": 1}


@pytest.mark.parametrize("given", [1, 1.0, "1"])
def test_an_id_that_became_a_float_is_the_number_that_it_was(tmp_path, given):
    [found] = drawn(tmp_path, [pair("Q", [], qid=given)], Prompt("1", as_messages("Q")), prompt_id_column="qid")
    assert texts(found) == GOOD_OVER_BAD
