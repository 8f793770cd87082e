"""The words of prefdata as plain records: Prompt, Candidate, Score, Comparison, Pair, Drop.

Records are what parts hand to each other one at a time; tables of the same columns are in `prefdata.tables.schemas`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

__all__ = [
    "Answers",
    "Candidate",
    "Comparison",
    "Drop",
    "FinishReason",
    "Generation",
    "Message",
    "Pair",
    "Prompt",
    "Request",
    "SIDES",
    "Score",
    "Scored",
    "TokenLogprobs",
    "as_messages",
    "prompt_id_of",
]

SIDES = ("chosen", "rejected")
"""The two answers of a pair, in the order of columns and reports."""

FinishReason = Literal["stop", "length", "unknown"]
"""Why an answer ended: by itself, at the token limit, or not told by its source."""


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
    """The split that its source puts it into: `train` or `test`; None leaves that to the layout."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer to one prompt: (`prompt_id`, `source`, `index`) names it."""

    prompt_id: str
    source: str
    index: int
    response: str
    model: str | None = None
    finish_reason: FinishReason = "unknown"
    n_tokens: int | None = None
    """Tokens of the answer as its engine counted them."""
    seed: int | None = None
    given_score: float | None = None
    """The score that an existing table brought along; never used unless the recipe scores by `given`."""


@dataclass(frozen=True, slots=True)
class Score:
    """A finite number, or the state unscored with its reason. Never NaN, never 0 for "failed"."""

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

    Whoever asked in both orders gives two rows where each order says something of its own (a ranker's logits), and one
    where they have to agree (a judge's verdicts).
    """

    prompt_id: str
    source_a: str
    index_a: int
    source_b: str
    index_b: int
    probability: float | None
    """P(a beats b); a draw that was called is 0.5."""
    log_odds: float | None = None
    """The logit of `probability`, from scorers that compute one; finite."""
    undecided: str | None = None
    """Reason slug when `probability` is None: `disagreement`, `unparsed`, `cut_off`, ..."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a scorer says of one prompt: one score for each candidate, and the comparisons that they are made of."""

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
    """A prompt, or with `source` and `index` a candidate, that leaves the flow. Nothing leaves otherwise."""

    prompt_id: str
    stage: str
    reason: str
    """A stable slug: `duplicate`, `no_contrast`, `prompt_too_long`, ..."""
    detail: str = ""
    source: str | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a generator is asked: messages in, never a templated string."""

    key: str
    """Unique within one call; comes back with the answer."""
    messages: tuple[Message, ...]
    seed: int
    json_schema: dict[str, Any] | None = None
    """When given, the answer must be a JSON text of this schema, where the engine can enforce it."""
    top_logprobs: int = 0
    """How many of the likeliest tokens are wanted with each token of the answer, with their log-probabilities."""


TokenLogprobs: TypeAlias = tuple[tuple[str, float], ...]
"""The likeliest tokens at one place of an answer, the likeliest first: text and natural log-probability, before
temperature, top-p and grammars."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What a generator answers to one `Request`: a text, or a failure with its reason."""

    key: str
    text: str | None
    finish_reason: FinishReason = "unknown"
    n_prompt_tokens: int | None = None
    n_tokens: int | None = None
    model: str | None = None
    """The model name as the engine or provider reports it."""
    failure: str | None = None
    """Reason slug when `text` is None: `prompt_too_long`, `control_tokens`, `refused`, `request_failed`, ..."""
    detail: str = ""
    top_logprobs: tuple[TokenLogprobs, ...] | None = None
    """One entry for each token of the answer, when the request wanted them and the engine gives them."""


@dataclass(frozen=True, slots=True)
class Answers:
    """One prompt with all its candidates, in total order (source, index, response): what a scorer sees."""

    prompt: Prompt
    candidates: tuple[Candidate, ...]


def as_messages(prompt: str | Sequence[Message]) -> tuple[Message, ...]:
    """A prompt as messages; a plain text is one user turn."""
    if isinstance(prompt, str):
        return (Message(role="user", content=prompt),)
    return tuple(Message(role=message["role"], content=message["content"]) for message in prompt)


def prompt_id_of(messages: Sequence[Message]) -> str:
    """The id of a prompt: 64 hex digits.

    SHA-256 of the text when the prompt is one user turn, as `HuggingFaceH4/ultrafeedback_binarized` has it
    (alignment-handbook, create_dataset.py); otherwise of the canonical JSON of its messages.
    """
    if len(messages) == 1 and messages[0]["role"] == "user":
        text = messages[0]["content"]
    else:
        plain = [{"content": message["content"], "role": message["role"]} for message in messages]
        text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
