"""How long answers still to come are expected to be, and stand-ins of that length."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from prefdata.models.tokens import BYTES_PER_TOKEN, TokenCounter
from prefdata.records import Candidate, Prompt, Request
from prefdata.sampling import Sampler
from prefdata.spec import JSON

__all__ = ["Length", "reply_tokens", "stand_ins"]

_LABEL_TOKENS = 4
"""Completion tokens of a reply when only its first token's log-probabilities are used."""
_REMARK = "It answers the question and explains the main point, but it leaves out an example. " * 2
_WORDS = "the answer to this question depends on what is meant by it and on how much detail is wanted here "


@dataclass(frozen=True)
class Length:
    """How long answers are expected to be, and why."""

    tokens: float
    basis: str


def reply_tokens(request: Request, most: int, length: Length, counter: TokenCounter) -> float:
    """Estimates the tokens of the reply to a request.

    Args:
        request: says what form the reply has, if any.
        most: the token limit.
        length: expected of a free text.
        counter: counts an example of a reply that has a form.
    """
    if request.top_logprobs:
        return min(most, _LABEL_TOKENS)
    if request.json_schema is not None:
        return min(most, counter.total([json.dumps(_example(request.json_schema), allow_nan=False)]))
    return min(most, length.tokens)


def _example(schema: JSON) -> JSON:
    """Makes a value of a JSON schema, of the length that a reply has."""
    if not isinstance(schema, dict):
        return _REMARK
    if "enum" in schema or "const" in schema:
        return schema.get("const", next(iter(schema.get("enum", [])), ""))
    kind = str(schema.get("type"))
    if kind == "object":
        return {name: _example(inner) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [_example(schema.get("items", {}))] * max(1, schema.get("minItems", 1))
    return {"integer": 5, "number": 0.5, "boolean": True, "null": None}.get(kind, _REMARK)


def stand_ins(prompt: Prompt, sampler: Sampler, tokens: float) -> Iterator[Candidate]:
    """Makes answers of the expected length, no two of them alike."""
    size = max(1, round(tokens * BYTES_PER_TOKEN))
    for index in range(sampler.tasks_per_prompt):
        text = f"{sampler.name} {index} {_WORDS * (1 + size // len(_WORDS))}"[:size]
        yield Candidate(prompt.prompt_id, sampler.name, index, text, finish_reason="stop")
