"""Defines `PointwiseModel`, the base of reward models that score each answer by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from prefdata.records import Answers, Candidate, Score, Scored
from prefdata.scoring.rewards._worker_model import TemplatedModel, cut_detail
from prefdata.spec import JSON, Context, Operational
from prefdata.spec.marks import Harmless

__all__ = ["PointwiseModel"]


class PointwiseModel(TemplatedModel):
    """A reward model that scores each answer by itself, in a worker process.

    Reasons for being unscored: `not_finite`, `too_long`, `prompt_fills_the_limit` (no token of the answer is within the
    limit), `control_tokens`, `template_failed`, and those that a kind of model adds. Texts of the same tokens get the
    same score. Counts `truncated` texts.
    """

    max_length: Annotated[Annotated[int, Field(ge=1)] | None, Harmless] = None
    """Most tokens of conversation and answer together; None is the model's own limit."""
    batch_tokens: Annotated[int, Harmless, Operational, Field(ge=1)] = 4096
    """Tokens of a batch, padding included; a longer text is a batch by itself. Changing it changes the last digits of
    scores computed from then on, and recomputes no score. vLLM ignores it and makes its own batches."""

    def _config(self, context: Context) -> dict[str, JSON]:
        return {**super()._config(context), "max_length": self.max_length}

    def _texts(self, answers: Answers) -> list[dict[str, JSON]]:
        messages = [dict(message) for message in answers.prompt.messages]
        replies = ({"role": "assistant", "content": candidate.response} for candidate in answers.candidates)
        return [{"messages": [*messages, reply]} for reply in replies]

    def _scored(self, answers: Answers, results: Mapping[int, JSON], context: Context) -> Scored:
        scores = (_score(candidate, results[index]) for index, candidate in enumerate(answers.candidates))
        return Scored(answers.prompt.prompt_id, tuple(scores))


def _score(candidate: Candidate, result: dict[str, JSON]) -> Score:
    return Score(
        prompt_id=candidate.prompt_id,
        source=candidate.source,
        index=candidate.index,
        score=result.get("score"),
        unscored=result.get("failure"),
        detail=_detail(result),
    )


def _detail(result: dict[str, JSON]) -> str:
    truncated = "truncated_from" in result
    if "facts" in result:
        cut = {"n_tokens": result["n_tokens"], "truncated_from": result["truncated_from"]} if truncated else {}
        return json.dumps(result["facts"] | cut, separators=(",", ":"), allow_nan=False)
    return "; ".join(filter(None, [cut_detail(result), result.get("detail")]))
