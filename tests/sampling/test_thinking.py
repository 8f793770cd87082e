"""`thinking`: reasoning is stored beside the answer, left out, or refused, for models and tables alike."""

from __future__ import annotations

import json

import pytest
from scripted import REPLY, Scripted, says

from prefdata.records import Prompt, as_messages, prompt_id_of
from prefdata.sampling import ExistingCompletions, PublishedPairs, Samples, SampleTask
from prefdata.spec import Context
from prefdata.tables.reasoning import parts_of

PROMPT = Prompt(prompt_id_of(as_messages("2+2?")), as_messages("2+2?"))
TEXT, ALONE, ENDLESS = "<think>\nTwo and two.\n</think>\n\n4", "<think>\nTwo.\n</think>\n", "<think>\nTwo and"


class ScriptedSamples(Samples):
    generator: Scripted


def of_model(text, tmp_path, thinking="keep", **reply):
    REPLY[:] = [says(text, **reply)]
    sampler = ScriptedSamples(name="s", generator=Scripted(thinking=thinking), n=1)
    (result,) = sampler.sample([SampleTask(PROMPT, 0)], Context(seed=0))
    return result


def of_table(text, tmp_path, thinking="keep"):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"prompt": "2+2?", "response": text}))
    (result,) = ExistingCompletions(name="s", path=path, thinking=thinking).sample(
        [SampleTask(PROMPT, 0)], Context(seed=0)
    )
    return result


def of_pairs(text, tmp_path, thinking="keep"):
    path = tmp_path / "p.jsonl"
    row = {"prompt": "2+2?", "chosen": text, "rejected": text, "score_chosen": 2, "score_rejected": 1}
    path.write_text(json.dumps(row))
    (result,) = PublishedPairs(name="s", path=path, thinking=thinking).sample([SampleTask(PROMPT, 0)], Context(seed=0))
    return result


WAYS = [of_model, of_table, of_pairs]


@pytest.mark.parametrize("way", WAYS)
def test_reasoning_is_kept_beside_the_answer(way, tmp_path):
    assert {(one.response, one.reasoning) for one in way(TEXT, tmp_path).candidates} == {("4", "Two and two.")}
    assert {(one.response, one.reasoning) for one in way("4", tmp_path).candidates} == {("4", None)}
    empty = way("<think>\n\n</think>\n\n4", tmp_path, "refuse").candidates
    assert {(one.response, one.reasoning) for one in empty} == {("4", None)}


@pytest.mark.parametrize("way", WAYS)
def test_reasoning_is_cut(way, tmp_path):
    assert {(one.response, one.reasoning) for one in way(TEXT, tmp_path, "cut").candidates} == {("4", None)}
    for text in (ALONE, ENDLESS):
        (response,) = {one.response for one in way(text, tmp_path, "cut").candidates}
        assert parts_of(response) == ("", None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", [TEXT, ALONE, ENDLESS])
def test_reasoning_is_refused(way, text, tmp_path):
    result = way(text, tmp_path, "refuse")
    assert result.candidates == ()
    assert {drop.reason for drop in result.drops} == {"has_reasoning"}
    assert all(drop.detail.startswith("Two") and drop.source == "s" for drop in result.drops)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", [ALONE, ENDLESS])
def test_nothing_but_reasoning_is_kept_as_what_it_is(way, text, tmp_path):
    for one in way(text, tmp_path).candidates:
        assert one.reasoning is None
        assert parts_of(one.response) == (parts_of(text).reasoning, None)


def test_reasoning_that_came_beside_the_answer_is_the_same_as_that_within(tmp_path):
    for thinking in ("keep", "cut", "refuse"):
        within, beside = of_model(TEXT, tmp_path, thinking), of_model("4", tmp_path, thinking, reasoning="Two and two.")
        assert within == beside


def test_marks_of_ones_own(tmp_path):
    REPLY[:] = [says("Thought: Two. Answer: 4")]
    generator = Scripted(thinking_marks=("Thought:", "Answer:"))
    (result,) = ScriptedSamples(name="s", generator=generator, n=1).sample([SampleTask(PROMPT, 0)], Context(seed=0))
    assert (result.candidates[0].response, result.candidates[0].reasoning) == ("4", "Two.")
    with pytest.raises(ValueError, match="not blank"):
        Scripted(thinking_marks=("Thought:", " "))


def test_a_default_changes_no_identity():
    plain = Scripted()
    assert {"thinking", "thinking_marks"}.isdisjoint(plain.dump())
    assert plain.fingerprint() != Scripted(thinking="cut").fingerprint()
