"""Defines `GPM`, a preference model that embeds each answer: K passes compare K answers with each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, field_validator

from prefdata.records import Answers, Scored
from prefdata.scoring.rewards._ranking import ranked, recompute_ranking
from prefdata.scoring.rewards._worker_model import Ranker, TemplatedModel, cut_detail, with_prompt
from prefdata.spec import JSON, Context
from prefdata.spec.marks import Harmless

__all__ = ["GPM", "preference_score"]

_LastToken: TypeAlias = Literal["end_of_text", "template"]


class GPM(Ranker, TemplatedModel):
    """A general preference model: a language model with a head that embeds each answer in pairs of coordinates.

    The score of answer i over j is s_ij, the sum over the pairs k of g_k (v_i,2k v_j,2k+1 - v_i,2k+1 v_j,2k), with
    embeddings v of length 1 and weights g that sum to 1. The weights are computed from the state at the prompt's end;
    they are all 1 if the checkpoint has no prompt head. s_ij = -s_ji, and s_ij / τ is the log-odds of the comparison. A
    candidate's score is the mean of s_ij / τ over the prompt's K answers, including itself with 0. Preferences may be
    cyclic, which no score can show.

    Answers that can't be read (`control_tokens`, `too_long`, `prompt_fills_the_limit`, `template_failed`) or are
    `not_finite` are unscored and do not count in the other answers' K; their comparisons are undecided. Each pair of
    answers is one comparison; answers of the same tokens have s = 0. Counts `truncated` texts.

    Source: GPM paper, arXiv 2410.02197, and gpm_example_usage.py of
    github.com/general-preference/general-preference-model: the chat template's text of prompt and answer, cut at its
    end, its last token replaced by the end-of-text token.
    """

    what: ClassVar[str] = "preference model"
    kind: Literal["gpm"] = "gpm"
    tau: Annotated[float, Harmless, Field(gt=0)] = 0.1
    """τ, the temperature of training: log-odds are s / τ."""
    max_length: Annotated[int, Harmless, Field(ge=1)] = 4096
    """Most tokens of conversation and answer together."""
    bos: Annotated[Literal["as_trained", "once", "none"], Harmless] = "as_trained"
    """BOS tokens at the beginning of a text. `as_trained`: the one that the tokenizer adds to any text, and the one of
    the chat template, so Llama and Gemma see two. `once`: one. `none`: none, as in GPO's scripts."""
    gate_at: Annotated[Literal["first_message", "prompt"], Harmless] = "first_message"
    """Where the weights g are computed: at the end of the prompt's first message, as in training, or of its last."""
    last_token: Annotated[_LastToken, Harmless, Field(exclude_if=lambda token: token == "end_of_text")] = "end_of_text"
    """Where an answer is embedded: at the end-of-text token, which takes the place of the last one, as in training; or
    at the last token that the template writes (`template`), as in GPO's scripts."""
    prompt_form: Annotated[str, Harmless, Field(exclude_if=lambda form: form == "{prompt}")] = "{prompt}"
    """How a prompt of one turn is written into the user's turn; holds `{prompt}` once. GPO's scripts write the text of
    the policy's chat template there."""

    @field_validator("prompt_form")
    @classmethod
    def _holds_the_prompt(cls, form: str) -> str:
        return with_prompt(form)

    def _worker(self) -> str:
        return "prefdata.scoring.rewards._gpm_worker"

    def _config(self, context: Context) -> dict[str, JSON]:
        names = ("max_length", "bos", "gate_at", "last_token", "prompt_form")
        return {**super()._config(context), **{name: getattr(self, name) for name in names}}

    def _texts(self, answers: Answers) -> list[dict[str, JSON]]:
        prompt = [dict(message) for message in answers.prompt.messages]
        return [{"prompt": prompt, "answer": candidate.response} for candidate in answers.candidates]

    def _scored(self, answers: Answers, results: Mapping[int, JSON], context: Context) -> Scored:
        each = [results[index] for index in range(len(results))]
        failures: list[str | None] = [one.get("failure") for one in each]
        readable = [index for index, failure in enumerate(failures) if failure is None]
        log_odds = {(i, j): preference_score(each[i], each[j]) / self.tau for i in readable for j in readable if i < j}
        details = [one.get("detail") or cut_detail(one) for one in each]
        return ranked(answers, failures, _pairs(answers), log_odds, details)

    def recompute(self, answers: Answers, recorded: Scored, context: Context) -> Scored:
        """Recomputes scores and probabilities from the log-odds; see `Scorer.recompute`."""
        return recompute_ranking(answers, [score.unscored for score in recorded.scores], _pairs(answers), recorded)


def _pairs(answers: Answers) -> Iterator[tuple[int, int]]:
    """Lists the indices of every two candidates."""
    return combinations(range(len(answers.candidates)), 2)


def preference_score(one: dict[str, Sequence[float]], other: dict[str, Sequence[float]]) -> float:
    """Computes the score s of one answer over the other, between -1 and 1: s(a, b) = -s(b, a), to the last bit.

    Args:
        one: `embedding`, a vector of length 1 with an even number of coordinates, and `gate`, a weight for each pair of
            coordinates.
        other: of the same prompt. Its gate equals the first one's up to rounding, so the mean of both is used.
    """
    v, w = one["embedding"], other["embedding"]
    gates = [(g + h) / 2 for g, h in zip(one["gate"], other["gate"], strict=True)]
    return math.fsum(
        gate * (v[k] * w[k + 1] - v[k + 1] * w[k]) for gate, k in zip(gates, range(0, len(v), 2), strict=True)
    )
