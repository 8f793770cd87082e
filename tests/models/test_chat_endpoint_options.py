"""Options of `ChatEndpoint` that are refused or that make its identity, and answers that are not completions."""

from __future__ import annotations

from typing import Any

import pytest
from chat_server import KEY, Watch, asks
from pydantic import ValidationError

from prefdata.errors import ModelError, RecipeError
from prefdata.models.base import Decoding
from prefdata.models.endpoint._chat_answer import read_answer
from prefdata.models.endpoint.chat_endpoint import ChatEndpoint, can_be_strict


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CHAT_KEY", KEY)


def test_a_missing_or_impossible_key_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    part = ChatEndpoint(model="m", base_url="https://models.invalid/v1", api_key_env="TEST_CHAT_KEY")
    monkeypatch.delenv("TEST_CHAT_KEY")
    with pytest.raises(ModelError, match="TEST_CHAT_KEY"):
        list(part.generate(asks(1), Decoding(), Watch().context))
    monkeypatch.setenv("TEST_CHAT_KEY", "geheim\nniß")
    with pytest.raises(ModelError, match="TEST_CHAT_KEY") as caught:
        list(part.generate(asks(1), Decoding(), Watch().context))
    assert "geheim" not in str(caught.value)


def test_the_identity_is_the_provider_and_the_model_and_not_how_it_is_asked() -> None:
    part = ChatEndpoint(model="m", base_url="https://a.invalid/v1")
    assert part.fingerprint() == part.replace(concurrency=3, api_key_env="X").fingerprint()
    assert part.fingerprint() != part.replace(base_url="https://b.invalid/v1").fingerprint()
    assert part.pins() == {"model": "m"}
    assert ChatEndpoint.model_validate(part.dump()) == part


@pytest.mark.parametrize(
    "wrong",
    [
        {"extra_body": {"n": 4}},
        {"extra_body": {"stream": True}},
        {"base_url": "models.example/v1"},
        {"api_key_env": "sk-12"},
        {"concurrency": 0},
    ],
)
def test_options_that_would_break_the_contract_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatEndpoint.model_validate({"model": "m"} | wrong)


def test_penalties_and_top_k_are_sent_only_where_they_are_set() -> None:
    part, request = ChatEndpoint(model="m", base_url="https://a.invalid/v1"), asks(1)[0]
    names = {"presence_penalty", "frequency_penalty", "extra_body"}
    assert not names & part.body(request, Decoding()).keys()
    body = part.body(request, Decoding(top_k=50, presence_penalty=0.1, frequency_penalty=-0.2))
    assert [body[name] for name in sorted(names)] == [{"top_k": 50}, -0.2, 0.1]
    assert Decoding().dump() == {"temperature": 1.0, "top_p": 1.0, "max_tokens": 2048, "stop": []}


def test_a_password_in_the_address_is_refused_without_being_repeated() -> None:
    with pytest.raises(RecipeError, match="user name or password") as caught:
        ChatEndpoint(model="m", base_url="http://name:geheim@host/v1")
    assert "geheim" not in str(caught.value)


def test_strict_mode_is_asked_for_only_where_a_schema_allows_it() -> None:
    closed = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert can_be_strict(closed)
    assert not can_be_strict(closed | {"required": []})
    assert not can_be_strict(closed | {"properties": {"a": {"type": "object"}}})


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"choices": []}', '{"choices": [{}]}', '{"choices": [{"message": 3}]}']
)
def test_what_is_no_completion_is_never_read_as_an_answer(text: str) -> None:
    with pytest.raises(ValueError, match="not a chat completion"):
        read_answer("k", text)
