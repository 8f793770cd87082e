"""The verdict of every judge is what stands after its reasoning, and two verdicts are none."""

from __future__ import annotations

import json

import pytest
from scripted import Scripted, places, says, scored_by, task

from prefdata.scoring import AdditiveJudge, PairwiseJudge, PointwiseJudge


class Pointwise(PointwiseJudge):
    generator: Scripted = Scripted()


class Additive(AdditiveJudge):
    generator: Scripted = Scripted()


class Pairwise(PairwiseJudge):
    generator: Scripted = Scripted()


JUDGES = {"pointwise": Pointwise(), "additive": Additive(shuffle=False), "pairwise": Pairwise()}
DRAFTS = {"pointwise": {"score": 2}, "additive": {"A": 6, "B": 0}, "pairwise": {"winner": "A"}}
VERDICTS = {"pointwise": {"score": 8}, "additive": {"A": 1, "B": 2}, "pairwise": {"winner": "tie"}}
SCORES = {"pointwise": [8, 8], "additive": [1, 2], "pairwise": [0.5, 0.5]}


def results(name, text, **options):
    scored = scored_by(JUDGES[name], [task(0, 1, 5)], says(text, **options))["prompt-0"]
    reasons = [one.undecided for one in scored.comparisons] or [one.unscored for one in scored.scores]
    return [one.score for one in scored.scores], set(reasons)


def fenced(value):
    return f"```json\n{json.dumps(value)}\n```"


@pytest.fixture(params=JUDGES)
def judge(request):
    return request.param


REASONED = [
    "<think>\nAt first\n{draft}\n</think>\n{verdict}",
    "<think>\nAt first\n{draft}\n</think>\n\n{fence}\n",
    "At first\n{draft}\n</think>\n{verdict}",
    "<|channel|>analysis<|message|>{draft}<|end|><|start|>assistant<|channel|>final<|message|>{verdict}<|return|>",
    "analysisAt first {draft}assistantfinal{verdict}",
    "[THINK]{draft}[/THINK]{verdict}",
    "{verdict}",
    "It is\n{fence}\nas I said.",
]


@pytest.mark.parametrize("form", REASONED)
def test_the_verdict_stands_after_the_reasoning(judge, form):
    verdict = VERDICTS[judge]
    text = form.format(draft=fenced(DRAFTS[judge]), verdict=json.dumps(verdict), fence=fenced(verdict))
    assert results(judge, text) == (SCORES[judge], {None})


def test_reasoning_beside_the_answer_is_not_read(judge):
    verdict = json.dumps(VERDICTS[judge])
    assert results(judge, verdict, reasoning=fenced(DRAFTS[judge])) == (SCORES[judge], {None})


@pytest.mark.parametrize(
    "text", ["<think>\nAt first\n{draft}\nbut", "<think>\n{draft}\n</think>\n", "analysisA {draft}"]
)
def test_reasoning_without_a_verdict_is_none(judge, text):
    scores, reasons = results(judge, text.format(draft=fenced(DRAFTS[judge])))
    assert scores == [None, None]
    assert reasons == {"only_reasoning"}


TWICE = [
    "The form is\n{draft}\nMy verdict: {verdict}",
    "My verdict: {verdict}. The form was\n{draft}",
    "{draft}\n{fence}",
    "{verdict}\n{plain}",
    "{draft}\nMy verdict: {{'score': 8}}",
    "I thought {draft} </think> {verdict}",
]


@pytest.mark.parametrize("form", TWICE)
def test_two_verdicts_are_unparsed(judge, form):
    verdict, draft = VERDICTS[judge], DRAFTS[judge]
    text = form.format(draft=fenced(draft), verdict=json.dumps(verdict), fence=fenced(verdict), plain=json.dumps(draft))
    scores, reasons = results(judge, text)
    assert scores == [None, None]
    assert reasons == {"unparsed"}


EXPECTED = {"pointwise": Pointwise(expected=True), "pairwise": Pairwise(expected=True)}


@pytest.mark.parametrize(("name", "label", "other"), [("pointwise", "8", "3"), ("pairwise", "B", "A")])
def test_an_expected_verdict_is_read_after_the_reasoning(name, label, other):
    def results(text, logprobs, **options):
        reply = says(text, top_logprobs=logprobs, **options)
        scored = scored_by(EXPECTED[name], [task(0, 1, 5)], reply)["prompt-0"]
        return scored.comparisons or scored.scores

    thought = [{"<think>": 1.0}, {"\n\n": 1.0}, {"</think>": 1.0}, {"\n\n": 1.0}]
    read = results(f"<think>\n\n</think>\n\n{label}", places(*thought, {label: 1.0}))
    assert {one.undecided if name == "pairwise" else one.unscored for one in read} == {None}
    if name == "pointwise":
        assert [one.score for one in read] == [8.0, 8.0]
    lost = results(f"<think>\n\n</think>\n\n{label}", places({other: 1.0}, {"</th": 1.0}, {"ink": 1.0}, {label: 1.0}))
    assert {one.undecided if name == "pairwise" else one.unscored for one in lost} == {"unparsed"}
    twice = results(f"{other}\n{label}", places({other: 1.0}, {"\n": 1.0}, {label: 1.0}))
    assert {one.undecided if name == "pairwise" else one.unscored for one in twice} == {"unparsed"}


@pytest.mark.parametrize("end", [["</mine>"], ["</", "mi", "ne>\n"], ["</mine>\n\n"]])
def test_the_judge_s_own_marks_and_marks_of_several_tokens_end_its_reasoning(end):
    thought = [{"<mine>": 1.0}, {"3": 1.0}, *({token: 1.0} for token in end)]
    reply = says(f"<mine>3{''.join(end)}8", top_logprobs=places(*thought, {"8": 1.0}))
    judge = Pointwise(expected=True, generator=Scripted(thinking_marks=("<mine>", "</mine>")))
    scored = scored_by(judge, [task(0, 1, 5)], reply)["prompt-0"].scores
    assert [(one.score, one.unscored) for one in scored] == [(8.0, None), (8.0, None)]
