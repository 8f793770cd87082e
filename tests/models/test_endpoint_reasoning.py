"""Reasoning that an endpoint gives beside the answer is read in each of its forms, and is never the answer."""

from __future__ import annotations

import pytest
from chat_server import KEY, completion

from prefdata.models.base import Generator
from prefdata.models.endpoint._chat_answer import read_completion
from prefdata.models.endpoint.chat_endpoint import ChatEndpoint
from prefdata.tables.reasoning import parts_of

PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "Two and two."}]}, {"type": "text", "text": "4"}]
FORMS = {
    "vLLM before 0.11, DeepSeek": completion("4", reasoning_content="Two and two."),
    "vLLM, OpenRouter": completion("4", reasoning="Two and two."),
    "both": completion("4", reasoning_content="Two and two.", reasoning="Two and two."),
    "Mistral": completion(PARTS),
    "none": completion("<think>\nTwo and two.\n</think>\n\n4"),
    "harmony": completion("<|channel|>analysis<|message|>Two and two.<|end|><|channel|>final<|message|>4"),
}


@pytest.fixture
def generator(monkeypatch) -> Generator:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return ChatEndpoint(model="m")


@pytest.mark.parametrize("form", FORMS)
def test_the_answer_is_apart_from_the_reasoning(form, generator):
    answer = generator.split(read_completion("k", FORMS[form]))
    assert (answer.text, answer.reasoning, answer.failure) == ("4", "Two and two.", None)
    refused = generator.replace(thinking="refuse").split(read_completion("k", FORMS[form]))
    assert (refused.text, refused.failure) == (None, "has_reasoning")


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_reasoning_that_no_answer_follows_is_no_failure_and_no_answer(content, generator):
    answer = generator.split(read_completion("k", completion(content, "length", reasoning_content="Two and")))
    assert answer.failure is None
    assert answer.finish_reason == "length"
    assert parts_of(answer.text) == ("Two and", None)


@pytest.mark.parametrize("reasoning", [None, "", " ", 7, ["x"]])
def test_what_is_not_reasoning_leaves_the_answer_as_it_is(reasoning, generator):
    answer = generator.split(read_completion("k", completion("4", reasoning_content=reasoning)))
    assert (answer.text, answer.reasoning) == ("4", None)
    nothing = read_completion("k", completion(None, reasoning_content=reasoning))
    assert (nothing.text, nothing.failure) == (None, "no_content")


@pytest.mark.parametrize("content", [[], [7], [{"type": "text"}], [{"type": "text", "text": 3}], {"text": "4"}, 4])
def test_content_of_another_form_is_no_content_or_no_completion(content):
    try:
        answer = read_completion("k", completion(content))
    except ValueError:
        return
    assert answer.text in (None, "")
