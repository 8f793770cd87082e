"""`GPM`: a preference model that embeds each answer, so that K passes compare K answers with each other."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from prefdata.errors import ConservationError
from prefdata.models import model_name
from prefdata.records import Answers, Score, Scored
from prefdata.scoring._worker_model import Ranker, compared, cut_detail
from prefdata.spec import JSON, Context
from prefdata.worker import stream

__all__ = ["GPM", "preference_score"]

_WORKER = "prefdata.scoring._gpm_worker"
_WINDOW = 256
"""Answers that are sorted by length together."""


class GPM(Ranker):
    """A general preference model: a language model with a head that embeds each answer in pairs of coordinates.

    The score of answer i over j is s_ij, the sum over the pairs k of g_k (v_i,2k v_j,2k+1 - v_i,2k+1 v_j,2k), with
    embeddings v of length 1 and weights g that sum to 1. The weights are read off the state at the prompt's end; they
    are all 1 where the checkpoint has no prompt head. s_ij = -s_ji, and s_ij / τ is the log-odds of their comparison. A
    candidate's score is the mean of s_ij / τ over the prompt's K answers, itself with 0 among them; preferences may be
    cyclic, which no score can show.

    Answers that can't be read (`control_tokens`, `too_long`) are unscored and leave the other answers' K.

    Source: GPM paper, arXiv 2410.02197, and gpm_example_usage.py of
    github.com/general-preference/general-preference-model: the chat template's text of prompt and answer, cut at its
    end, its last token made the end-of-text token.
    """

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

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Embeds each answer and compares them; see `Scorer.score`. Counts `truncated`.

        Each pair of answers is one comparison. Reasons for being unscored, and for comparisons to be undecided:
        `control_tokens`, `too_long`, `template_failed` and `not_finite`.

        Raises:
            ModelError: the model can't be found or loaded, or is no preference model.
            MissingExtraError: a package is not installed.
        """
        for problem in self.problems():
            raise problem
        waiting: dict[int, _Waiting] = {}
        finished: deque[Scored] = deque()

        def items() -> Iterator[dict[str, JSON]]:
            for number, answers in enumerate(tasks):
                if not answers.candidates:
                    finished.append(Scored(answers.prompt.prompt_id, ()))
                    continue
                waiting[number] = _Waiting(answers, {})
                prompt = [dict(message) for message in answers.prompt.messages]
                for place, candidate in enumerate(answers.candidates):
                    yield {"key": [number, place], "prompt": prompt, "answer": candidate.response}

        config = {**self._config(context), "window": _WINDOW}
        config |= {"max_length": self.max_length, "bos": self.bos, "gate_at": self.gate_at}
        name = f"the preference model {model_name(self.model)!r}"
        for result in stream(_WORKER, config, items(), in_flight=2 * _WINDOW, env=self._environment(), name=name):
            if "truncated_from" in result:
                context.counted("truncated", 1)
            number, place = result["key"]
            waiting[number].results[place] = result
            if waiting[number].complete:
                finished.append(self._scored(waiting.pop(number)))
            while finished:
                yield finished.popleft()
        yield from finished
        if waiting:
            raise ConservationError(f"{name} left {len(waiting)} prompts without all their answers")

    def _scored(self, waiting: _Waiting) -> Scored:
        candidates = waiting.answers.candidates
        results = [waiting.results[place] for place in range(len(candidates))]
        failures: list[str | None] = [result.get("failure") for result in results]
        read = [place for place, failure in enumerate(failures) if failure is None]
        table = {(i, j): preference_score(results[i], results[j]) / self.tau for i in read for j in read if i < j}
        scores = []
        for i, candidate in enumerate(candidates):
            met = [table[i, j] if i < j else -table[j, i] for j in read if j != i] if failures[i] is None else []
            score = math.fsum(met) / len(read) if failures[i] is None else None
            detail = results[i].get("detail") or cut_detail(results[i])
            scores.append(Score(candidate.prompt_id, candidate.source, candidate.index, score, failures[i], detail))
        comparisons = [
            compared(candidates[i], candidates[j], table.get((i, j)), failures[i] or failures[j])
            for i in range(len(candidates))
            for j in range(i + 1, len(candidates))
        ]
        return Scored(waiting.answers.prompt.prompt_id, tuple(scores), tuple(comparisons))


@dataclass(frozen=True)
class _Waiting:
    answers: Answers
    results: dict[int, dict[str, JSON]]

    @property
    def complete(self) -> bool:
        return len(self.results) == len(self.answers.candidates)


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
