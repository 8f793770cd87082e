"""What all scorers have in common that let a model in a worker process score each answer by itself."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field

from prefdata.errors import ConservationError
from prefdata.models import model_name
from prefdata.records import Answers, Candidate, Score, Scored
from prefdata.scoring._worker_model import WorkerModel
from prefdata.spec import JSON, Context, Operational
from prefdata.worker import stream

__all__ = ["PointwiseModel"]

_WINDOW = 256
"""Answers that are sorted by length together: enough for even batches, few enough to stream."""


class PointwiseModel(WorkerModel):
    """A reward model that scores each answer by itself, in a worker process."""

    max_length: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of conversation and answer together; None is the model's own limit."""
    batch_tokens: Annotated[int, Operational, Field(ge=1)] = 4096
    """Tokens of a batch, padding included; a longer text is a batch by itself. vLLM makes its own batches."""

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Scores each answer; see `Scorer.score`. Counts `truncated`.

        Reasons for being unscored: `not_finite`, `too_long`, `control_tokens`, `template_failed`, and what a kind of
        model adds.

        Raises:
            ModelError: the model can't be found or loaded, or is of another kind.
            MissingExtraError: a package is not installed.
        """
        for problem in self.problems():
            raise problem
        ledger = _Ledger()
        results = stream(
            self._worker(),
            self._config(context),
            ledger.items(tasks),
            in_flight=2 * _WINDOW,
            env=self._environment(),
            name=f"the reward model {model_name(self.model)!r}",
        )
        for result in results:
            if "truncated_from" in result:
                context.counted("truncated", 1)
            ledger.enter(result)
            yield from ledger.finished()
        yield from ledger.finished()
        ledger.close()

    @abstractmethod
    def _worker(self) -> str:
        """The module that computes."""

    def _config(self, context: Context) -> dict[str, JSON]:
        return {**super()._config(context), "max_length": self.max_length, "window": _WINDOW}


class _Ledger:
    """Puts the scores of single answers, which come in any order, together by prompt."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[Answers, dict[int, Score]]] = {}
        self._finished: deque[Scored] = deque()

    def items(self, tasks: Iterable[Answers]) -> Iterator[dict[str, JSON]]:
        for number, answers in enumerate(tasks):
            if not answers.candidates:
                self._finished.append(Scored(answers.prompt.prompt_id, ()))
                continue
            self._open[number] = (answers, {})
            messages = [dict(message) for message in answers.prompt.messages]
            for place, candidate in enumerate(answers.candidates):
                answer = {"role": "assistant", "content": candidate.response}
                yield {"key": [number, place], "messages": [*messages, answer]}

    def enter(self, result: dict[str, JSON]) -> None:
        number, place = result["key"]
        answers, scores = self._open[number]
        candidates = answers.candidates
        scores[place] = _score(candidates[place], result)
        if len(scores) == len(candidates):
            del self._open[number]
            in_order = tuple(scores[at] for at in range(len(candidates)))
            self._finished.append(Scored(answers.prompt.prompt_id, in_order))

    def finished(self) -> Iterator[Scored]:
        while self._finished:
            yield self._finished.popleft()

    def close(self) -> None:
        if self._open:
            raise ConservationError(f"the reward model left {len(self._open)} prompts without all their scores")


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
        return json.dumps(result["facts"] | cut, separators=(",", ":"))
    told = [f"scored the first {result['n_tokens']} of {result['truncated_from']} tokens"] if truncated else []
    return "; ".join([*told, *filter(None, [result.get("detail")])])
