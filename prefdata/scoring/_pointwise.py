"""What all scorers have in common that let a model in a worker process score each answer by itself."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from prefdata.errors import ConservationError, MissingExtraError, UserError
from prefdata.models import model_folder, model_name, model_pins
from prefdata.records import Answers, Candidate, Score, Scored
from prefdata.scoring.base import Scorer
from prefdata.spec import JSON, Context, Operational
from prefdata.worker import stream

__all__ = ["PointwiseModel"]

_WINDOW = 256
"""Answers that are sorted by length together: enough for even batches, few enough to stream."""


class PointwiseModel(Scorer):
    """A reward model that scores each answer by itself, in a worker process."""

    model: Annotated[str, Field(min_length=1)]
    """A local Hugging Face folder or a Hub id."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model; the lock keeps the commit that it meant."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "float32"
    """What the model computes in; auto takes what its weights are stored in."""
    max_length: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of conversation and answer together; None is the model's own limit."""
    too_long: Literal["truncate", "unscored"] = "truncate"
    """What becomes of a longer text: its first `max_length` tokens are scored and it is counted, or it is unscored."""
    control_tokens: Literal["refuse", "allow"] = "refuse"
    """What to do with a text that spells out a control token such as `<|im_end|>`: its author could end the turn."""
    batch_tokens: Annotated[int, Operational, Field(ge=1)] = 4096
    """Tokens of a batch, padding included; a longer text is a batch by itself. vLLM makes its own batches."""

    def pins(self) -> dict[str, JSON]:
        """The model's commit or hash, and the hashes of its tokenizer and chat template."""
        return {**super().pins(), **model_pins(self.model, self.revision)}

    def problems(self) -> list[UserError]:
        """Missing packages."""
        missing = MissingExtraError.all_of("a reward model", "transformers", "torch", "transformers")
        return [*super().problems(), *missing]

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
        return {
            "folder": str(model_folder(self.model, context.pins, self.revision)),
            "dtype": self.dtype,
            "max_length": self.max_length,
            "truncate": self.too_long == "truncate",
            "refuse_control_tokens": self.control_tokens == "refuse",
            "batch_tokens": self.batch_tokens,
            "window": _WINDOW,
        }

    def _environment(self) -> dict[str, str]:
        """Of the worker: offline, and with threads that wait passively. What the user has set comes first."""
        wanted = {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            # Spinning threads bring a busy machine to a standstill.
            "OMP_WAIT_POLICY": "PASSIVE",
            "GOMP_SPINCOUNT": "0",
        }
        return {name: os.environ.get(name, value) for name, value in wanted.items()}


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
