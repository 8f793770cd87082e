"""What all scorers have in common that run a model in a worker process."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prefdata.errors import ConservationError, MissingExtraError, UserError
from prefdata.models.folders import model_folder, model_name, model_pins
from prefdata.models.worker import stream
from prefdata.records import Answers, Scored
from prefdata.scoring.base import GroupScorer
from prefdata.spec import JSON, Context, Operational

__all__ = ["Ranker", "WorkerModel", "cut_detail"]


class WorkerModel(GroupScorer):
    """A model that scores in a process of its own.

    Each group of prompts is one item of the worker, so that no batch can hold anything of another group.
    """

    group: ClassVar[int] = 32
    what: ClassVar[str] = "reward model"
    """What messages call it."""
    model: Annotated[str, Field(min_length=1)]
    """A local Hugging Face folder or a Hub id."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model; the lock keeps the commit that it meant."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "float32"
    """What the model computes in; auto takes what its weights are stored in."""
    too_long: Literal["truncate", "unscored"] = "truncate"
    """What becomes of a text beyond its limit: its beginning counts and it is counted, or it is unscored."""
    control_tokens: Literal["refuse", "allow"] = "refuse"
    """What to do with a text that spells out a control token such as `<|im_end|>`: its author could end the turn."""
    batch_tokens: Annotated[int, Operational, Field(ge=1)] = 8192
    """Tokens of a batch, padding included; a longer row is a batch by itself. Another number moves the last digits of
    what is scored from then on, and makes no score again."""

    def pins(self) -> dict[str, JSON]:
        """The model's commit or hash, and the hashes of its tokenizer and chat template."""
        return {**super().pins(), **model_pins(self.model, self.revision)}

    def problems(self) -> list[UserError]:
        """Missing packages."""
        missing = MissingExtraError.all_of(f"a {self.what}", "transformers", "torch", "transformers")
        return [*super().problems(), *missing]

    def score_groups(self, groups: Iterable[Sequence[Answers]], context: Context) -> Iterator[tuple[Scored, ...]]:
        """Sends each group to the worker as one item; see `GroupScorer.score_groups`. Counts `truncated` texts.

        Raises:
            ModelError: the model can't be found or loaded, or is of another kind.
            MissingExtraError: a package is not installed.
        """
        for problem in self.problems():
            raise problem
        waiting: dict[int, Sequence[Answers]] = {}
        finished: deque[tuple[Scored, ...]] = deque()

        def items() -> Iterator[dict[str, JSON]]:
            for number, group in enumerate(groups):
                texts = [
                    {**text, "key": [at, place]}
                    for at, answers in enumerate(group)
                    for place, text in enumerate(self._texts(answers))
                ]
                if texts:
                    waiting[number] = group
                    yield {"key": number, "texts": texts}
                else:
                    finished.append(tuple(self._said(answers, {}, context) for answers in group))

        name = f"the {self.what} {model_name(self.model)!r}"
        results = stream(
            self._worker(), self._config(context), items(), in_flight=2, env=self._environment(), name=name
        )
        for result in results:
            yield self._said_of_all(waiting.pop(result["key"]), result["results"], context)
            while finished:
                yield finished.popleft()
        yield from finished
        if waiting:
            raise ConservationError(f"{name} left out {len(waiting)} groups of prompts")

    def _said_of_all(self, group: Sequence[Answers], results: Sequence[JSON], context: Context) -> tuple[Scored, ...]:
        found: dict[int, dict[int, JSON]] = {at: {} for at in range(len(group))}
        for result in results:
            at, place = result["key"]
            found[at][place] = result
            if "truncated_from" in result:
                context.counted("truncated", 1)
        lost = sum(len(self._texts(answers)) for answers in group) - sum(map(len, found.values()))
        if lost or len(results) != sum(map(len, found.values())):
            raise ConservationError(f"the {self.what} gave {len(results)} results for other texts than it was sent")
        return tuple(self._said(answers, found[at], context) for at, answers in enumerate(group))

    @abstractmethod
    def _worker(self) -> str:
        """The module that computes."""

    @abstractmethod
    def _texts(self, answers: Answers) -> Sequence[Mapping[str, JSON]]:
        """What the worker is sent about one prompt: as many objects as it gives results, none where it isn't asked."""

    @abstractmethod
    def _said(self, answers: Answers, results: Mapping[int, JSON], context: Context) -> Scored:
        """The scores of a prompt's candidates, from the results for `_texts` by their places."""

    def _config(self, context: Context) -> dict[str, JSON]:
        return {
            "folder": str(model_folder(self.model, context.pins, self.revision)),
            "dtype": self.dtype,
            "truncate": self.too_long == "truncate",
            "refuse_control_tokens": self.control_tokens == "refuse",
            "batch_tokens": self.batch_tokens,
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


class Ranker(WorkerModel):
    """A model that compares answers."""

    what: ClassVar[str] = "ranker"

    @property
    def compares(self) -> Literal["", "probability", "log_odds"]:
        """Log-odds."""
        return "log_odds"


def cut_detail(result: dict[str, JSON]) -> str:
    """What the detail of a score says of a text that was cut; empty for others."""
    if result.get("truncated_from") is None:
        return ""
    return f"scored the first {result['n_tokens']} of {result['truncated_from']} tokens"
