"""`GPM`: a preference model that embeds each answer, so that K passes compare K answers with each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prefdata.records import Answers, Scored
from prefdata.scoring.rewards._ranking import ranked, recompute_ranking
from prefdata.scoring.rewards._worker_model import Ranker, cut_detail
from prefdata.spec import JSON, Context

__all__ = ["GPM", "preference_score"]


class GPM(Ranker):
    """A general preference model: a language model with a head that embeds each answer in pairs of coordinates.

    The score of answer i over j is s_ij, the sum over the pairs k of g_k (v_i,2k v_j,2k+1 - v_i,2k+1 v_j,2k), with
    embeddings v of length 1 and weights g that sum to 1. The weights are read off the state at the prompt's end; they
    are all 1 where the checkpoint has no prompt head. s_ij = -s_ji, and s_ij / τ is the log-odds of their comparison. A
    candidate's score is the mean of s_ij / τ over the prompt's K answers, itself with 0 among them; preferences may be
    cyclic, which no score can show.

    Answers that can't be read (`control_tokens`, `too_long`, `template_failed`) or are `not_finite` are unscored, leave
    the other answers' K, and their comparisons are undecided. Each pair of answers is one comparison. Counted:
    `truncated`.

    Source: GPM paper, arXiv 2410.02197, and gpm_example_usage.py of
    github.com/general-preference/general-preference-model: the chat template's text of prompt and answer, cut at its
    end, its last token made the end-of-text token.
    """

    what: ClassVar[str] = "preference model"
    kind: Literal["gpm"] = "gpm"
    tau: Annotated[float, Field(gt=0)] = 0.1
    """τ, the temperature of training: log-odds are s / τ."""
    max_length: Annotated[int, Field(ge=1)] = 4096
    """Most tokens of conversation and answer together."""
    bos: Literal["as_trained", "once", "none"] = "as_trained"
    """How a text begins. `as_trained`: as the tokenizer begins any text, before the beginning that the chat template
    writes, so that Llama and Gemma see two; `once` keeps one; `none`, as GPO's scripts have it."""
    gate_at: Literal["first_message", "prompt"] = "first_message"
    """Where the prompt ends, for g: with its first message, as in training, or with its last."""

    def _worker(self) -> str:
        return "prefdata.scoring.rewards._gpm_worker"

    def _config(self, context: Context) -> dict[str, JSON]:
        options = {"max_length": self.max_length, "bos": self.bos, "gate_at": self.gate_at}
        return {**super()._config(context), **options}

    def _texts(self, answers: Answers) -> list[dict[str, JSON]]:
        prompt = [dict(message) for message in answers.prompt.messages]
        return [{"prompt": prompt, "answer": candidate.response} for candidate in answers.candidates]

    def _said(self, answers: Answers, results: Mapping[int, JSON], context: Context) -> Scored:
        each = [results[place] for place in range(len(results))]
        failures: list[str | None] = [one.get("failure") for one in each]
        read = [place for place, failure in enumerate(failures) if failure is None]
        table = {(i, j): preference_score(each[i], each[j]) / self.tau for i in read for j in read if i < j}
        details = [one.get("detail") or cut_detail(one) for one in each]
        return ranked(answers, failures, _couples(answers), table, details)

    def recompute(self, answers: Answers, said: Scored, context: Context) -> Scored:
        """Scores and probabilities from the log-odds; see `Scorer.recompute`."""
        return recompute_ranking(answers, [score.unscored for score in said.scores], _couples(answers), said)


def _couples(answers: Answers) -> Iterator[tuple[int, int]]:
    """Places of every two candidates."""
    return combinations(range(len(answers.candidates)), 2)


def preference_score(one: dict[str, Sequence[float]], other: dict[str, Sequence[float]]) -> float:
    """The score s of one answer over the other, between -1 and 1: s(a, b) = -s(b, a), to the last bit.

    Args:
        one: `embedding`, an even number of coordinates of length 1, and `gate`, a weight for each pair of them.
        other: of the same prompt. Its gate is the first one's but for rounding, so the mean of both counts.
    """
    v, w = one["embedding"], other["embedding"]
    gates = [(g + h) / 2 for g, h in zip(one["gate"], other["gate"], strict=True)]
    return math.fsum(
        gate * (v[at] * w[at + 1] - v[at + 1] * w[at]) for gate, at in zip(gates, range(0, len(v), 2), strict=True)
    )
