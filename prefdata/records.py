"""Defines the words of prefdata as plain records: Prompt, Candidate, Score, Comparison, Pair, Drop.

Parts hand records to each other one at a time. Tables of the same columns are in `prefdata.tables.schemas`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypedDict

__all__ = [
    "Answers",
    "Candidate",
    "Comparison",
    "Drop",
    "FinishReason",
    "Generation",
    "LengthUnit",
    "MOST_SCORE",
    "Message",
    "Pair",
    "Prompt",
    "Request",
    "SIDES",
    "Score",
    "Scored",
    "TokenLogprobs",
    "as_messages",
    "is_score",
    "prompt_id_of",
    "text_length",
]

SIDES = ("chosen", "rejected")
"""The two answers of a pair, in the order of columns and reports."""

MOST_SCORE = 1e300
"""The greatest size of a score: differences, sums and means of scores then are finite numbers too."""

FinishReason: TypeAlias = str
"""Why an answer ended: `stop`, by itself; `length`, at a limit of length; `unknown`, its source does not say; any other
word as its source has it. `prefdata.tables.finish_reasons` reads the words of providers and engines."""


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One conversation up to the turn to be answered."""

    prompt_id: str
    messages: tuple[Message, ...]
    origin: str = ""
    """Where it was read: file and row, or dataset, split and row."""
    split: str | None = None
    """The split that its source assigns, `train` or `test`; None leaves that to the layout."""
    kept: Mapping[str, Any] | None = field(default=None, hash=False)
    """Columns that travel along to the dataset, by name: see `prefdata.tables.kept`."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer to one prompt, identified by (`prompt_id`, `source`, `index`)."""

    prompt_id: str
    source: str
    index: int
    response: str
    model: str | None = None
    finish_reason: FinishReason = "unknown"
    n_tokens: int | None = None
    """Tokens of the answer as its engine counted them; None if the engine did not say."""
    seed: int | None = None
    """The seed that it was sampled with; None for an answer from a table."""
    given_score: float | None = None
    """The score in the table that the answer was read from; only the scorer `given` uses it."""
    reasoning: str | None = None
    """What its model wrote before the answer, which is no part of `response`; None if it wrote nothing."""


@dataclass(frozen=True, slots=True)
class Score:
    """A candidate's score: a finite number, or the state unscored with its reason. Never NaN, never 0 for "failed"."""

    prompt_id: str
    source: str
    index: int
    score: float | None
    unscored: str | None = None
    """Reason slug when `score` is None: `unparsed`, `cut_off`, `missing`, ..."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """P(candidate a beats candidate b) for one prompt, from a pairwise scorer; or undecided, with its reason.

    A scorer that asks in both orders yields two rows if each order has a value of its own (a ranker's logits), one row
    if the two are merged (a judge's verdicts).
    """

    prompt_id: str
    source_a: str
    index_a: int
    source_b: str
    index_b: int
    probability: float | None
    """P(a beats b); 0.5 where the scorer called a tie."""
    log_odds: float | None = None
    """The logit of `probability`, from scorers that compute one; finite."""
    undecided: str | None = None
    """Reason slug when `probability` is None: `disagreement`, `unparsed`, `cut_off`, ..."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """A scorer's result for one prompt: one score for each candidate, and the comparisons that the scores rest on."""

    prompt_id: str
    scores: tuple[Score, ...]
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """Chosen and rejected candidate of one prompt."""

    prompt_id: str
    chosen: Candidate
    rejected: Candidate
    score_chosen: float
    score_rejected: float


@dataclass(frozen=True, slots=True)
class Drop:
    """A prompt, or a candidate if `source` and `index` are set, that leaves the flow. Nothing leaves otherwise."""

    prompt_id: str
    stage: str
    reason: str
    """A stable slug: `duplicate`, `no_contrast`, `prompt_too_long`, ..."""
    detail: str = ""
    source: str | None = None
    index: int | None = None
    kept: Mapping[str, Any] | None = field(default=None, hash=False)
    """Columns that travel along, of a row that is not a prompt: see `Prompt.kept`."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a generator: messages, never a templated text."""

    key: str
    """Unique within one call; the answer has the same key."""
    messages: tuple[Message, ...]
    seed: int
    json_schema: dict[str, Any] | None = None
    """The answer must be a JSON text of this schema, as far as the engine can enforce it; None allows any text."""
    top_logprobs: int = 0
    """How many of the likeliest tokens to return at each token of the answer, with their log-probabilities."""


TokenLogprobs: TypeAlias = tuple[tuple[str, float], ...]
"""The likeliest tokens at one position of an answer, the likeliest first: text and natural log-probability, before
temperature, top-p and grammars."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A generator's answer to one `Request`: a text, or a failure with its reason."""

    key: str
    text: str | None
    """After `Generator.split` the answer alone."""
    finish_reason: FinishReason = "unknown"
    n_prompt_tokens: int | None = None
    n_tokens: int | None = None
    model: str | None = None
    """The model name as the engine or provider reports it."""
    failure: str | None = None
    """Reason slug when `text` is None: `prompt_too_long`, `control_tokens`, `refused`, `request_failed`, ..."""
    detail: str = ""
    top_logprobs: tuple[TokenLogprobs, ...] | None = None
    """One entry for each token of the answer, if the request asks for them and the engine gives them."""
    reasoning: str | None = None
    """What came before the answer; None where nothing did, empty where it is not kept."""


@dataclass(frozen=True, slots=True)
class Answers:
    """One prompt with all its candidates, in total order (source, index, response): the input of a scorer."""

    prompt: Prompt
    candidates: tuple[Candidate, ...]


def as_messages(prompt: str | Sequence[Message]) -> tuple[Message, ...]:
    """Converts a prompt to messages; a plain text becomes one user turn."""
    if isinstance(prompt, str):
        return (Message(role="user", content=prompt),)
    return tuple(Message(role=message["role"], content=message["content"]) for message in prompt)


LengthUnit: TypeAlias = Literal["characters", "words", "bytes"]
"""Units of a text's length: Unicode code points, runs of non-white-space, or bytes of UTF-8."""


def text_length(text: str, unit: LengthUnit) -> int:
    """Measures a text in one of the units."""
    if unit == "characters":
        return len(text)
    return len(text.split()) if unit == "words" else len(text.encode())


_CANONICAL = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def prompt_id_of(messages: Sequence[Message]) -> str:
    """Computes the id of a prompt, 64 hex digits.

    SHA-256 of the text when the prompt is one user turn, as `HuggingFaceH4/ultrafeedback_binarized` has it
    (alignment-handbook, create_dataset.py); otherwise of the canonical JSON of its messages.
    """
    if len(messages) == 1 and messages[0]["role"] == "user":
        text = messages[0]["content"]
    else:
        plain = [{"content": message["content"], "role": message["role"]} for message in messages]
        text = _CANONICAL.encode(plain)
    return hashlib.sha256(text.encode()).hexdigest()


def is_score(number: float) -> bool:
    """Checks whether a number can be a score: neither NaN nor infinite, nor so large that differences would be."""
    return abs(number) <= MOST_SCORE
