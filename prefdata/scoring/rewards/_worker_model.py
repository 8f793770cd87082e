"""Defines `WorkerModel`, the base of all scorers that run a model in a worker process."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prefdata.errors import ConservationError, MissingExtraError, UserError
from prefdata.models.folders import check_chat_template, model_folder, model_name, model_pins
from prefdata.models.template import TemplateOptions
from prefdata.models.worker import stream
from prefdata.records import Answers, Scored
from prefdata.scoring.base import GroupScorer
from prefdata.spec import JSON, Context, Operational
from prefdata.spec.marks import MODEL, REVISION, Harmless

__all__ = ["Ranker", "TemplatedModel", "WorkerModel", "cut_detail", "with_prompt"]


class WorkerModel(GroupScorer):
    """A model that scores in a process of its own.

    Each group is one prompt with its answers, and one item of the worker. So a batch never mixes texts of two prompts,
    and a score depends on no other prompt of the build.
    """

    group: ClassVar[int] = 1
    what: ClassVar[str] = "reward model"
    """Kind of the model, for messages."""
    model: Annotated[str, MODEL, Field(min_length=1)]
    """A local Hugging Face folder or a Hub id."""
    revision: Annotated[str | None, REVISION] = None
    """Branch, tag or commit of a Hub model; None takes the main branch. The lock keeps the commit."""
    dtype: Annotated[Literal["auto", "bfloat16", "float16", "float32"], Harmless] = "float32"
    """Number format in which the model computes; `auto` takes that of its weights."""
    too_long: Annotated[Literal["truncate", "unscored"], Harmless] = "truncate"
    """`truncate`: scores the beginning of a text over the limit, and counts the text. `unscored`: gives it no score."""
    control_tokens: Annotated[Literal["refuse", "allow"], Harmless] = "refuse"
    """Whether a text may spell out a control token such as `<|im_end|>`, with which its author could end the turn.
    `refuse` leaves it unscored: `control_tokens`."""
    batch_tokens: Annotated[int, Harmless, Operational, Field(ge=1)] = 8192
    """Tokens of a batch, padding included; a longer row is a batch by itself. Changing it changes the last digits of
    scores computed from then on, and recomputes no score."""

    def pins(self) -> dict[str, JSON]:
        """Returns the model's commit or hash, and the hashes of its tokenizer and chat template."""
        return {**super().pins(), **self._model_pins()}

    def _model_pins(self) -> dict[str, JSON]:
        return model_pins(self.model, self.revision)

    def problems(self) -> list[UserError]:
        """Lists missing packages."""
        missing = MissingExtraError.all_of(f"a {self.what}", "transformers", "torch", "transformers")
        return [*super().problems(), *missing]

    def score_groups(self, groups: Iterable[Sequence[Answers]], context: Context) -> Iterator[tuple[Scored, ...]]:
        """Sends each group to the worker as one item; see `GroupScorer.score_groups`. Counts `truncated` texts.

        Raises:
            ModelError: the model can't be found or loaded, or is of another kind.
            ConservationError: the worker left a text out, or gave a result for one that it was not sent.
            MissingExtraError: a package is not installed.
        """
        for problem in self.problems():
            raise problem
        waiting: dict[int, Sequence[Answers]] = {}
        finished: deque[tuple[Scored, ...]] = deque()

        def items() -> Iterator[dict[str, JSON]]:
            for number, group in enumerate(groups):
                texts = [
                    {**text, "key": [i, j]}
                    for i, answers in enumerate(group)
                    for j, text in enumerate(self._texts(answers))
                ]
                if texts:
                    waiting[number] = group
                    yield {"key": number, "texts": texts}
                else:
                    finished.append(tuple(self._scored(answers, {}, context) for answers in group))

        name = f"the {self.what} {model_name(self.model)!r}"
        results = stream(
            self._worker(),
            self._config(context),
            items(),
            in_flight=2,
            env=self._environment(),
            name=name,
            kept=context.engines,
        )
        for result in results:
            yield self._scored_group(waiting.pop(result["key"]), result["results"], context)
            while finished:
                yield finished.popleft()
        yield from finished
        if waiting:
            raise ConservationError(f"{name} left out {len(waiting)} groups of prompts")

    def _scored_group(self, group: Sequence[Answers], results: Sequence[JSON], context: Context) -> tuple[Scored, ...]:
        by_prompt: dict[int, dict[int, JSON]] = {i: {} for i in range(len(group))}
        for result in results:
            i, j = result["key"]
            by_prompt[i][j] = result
            if "truncated_from" in result:
                context.counted("truncated", 1)
        n_results = sum(map(len, by_prompt.values()))
        if n_results != sum(len(self._texts(answers)) for answers in group) or n_results != len(results):
            raise ConservationError(f"the {self.what} gave {len(results)} results for other texts than it was sent")
        return tuple(self._scored(answers, by_prompt[i], context) for i, answers in enumerate(group))

    @abstractmethod
    def _worker(self) -> str:
        """Returns the import path of the worker's module."""

    @abstractmethod
    def _texts(self, answers: Answers) -> Sequence[Mapping[str, JSON]]:
        """Returns what the worker is sent for one prompt: one object for each result, none to leave the worker out."""

    @abstractmethod
    def _scored(self, answers: Answers, results: Mapping[int, JSON], context: Context) -> Scored:
        """Returns the scores of a prompt's candidates, from the results by the index of their text in `_texts`."""

    def _config(self, context: Context) -> dict[str, JSON]:
        return {
            "folder": str(model_folder(self.model, context.pins, self.revision)),
            "dtype": self.dtype,
            "truncate": self.too_long == "truncate",
            "refuse_control_tokens": self.control_tokens == "refuse",
            "batch_tokens": self.batch_tokens,
        }

    def _environment(self) -> dict[str, str]:
        """Returns the worker's environment: offline and with passive waiting, unless the user has set the variables."""
        defaults = {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            # Spinning threads bring a busy machine to a standstill.
            "OMP_WAIT_POLICY": "PASSIVE",
            "GOMP_SPINCOUNT": "0",
        }
        return {name: os.environ.get(name, value) for name, value in defaults.items()}


class TemplatedModel(WorkerModel, TemplateOptions):
    """A model that reads conversations by its chat template."""

    def _model_pins(self) -> dict[str, JSON]:
        return model_pins(self.model, self.revision, template_date=self.template_date, check=self._check)

    def _check(self, folder: Path) -> None:
        """Checks what the small files of a model say.

        Raises:
            ModelError: the model can't score.
        """
        check_chat_template(folder)

    def _config(self, context: Context) -> dict[str, JSON]:
        return {**super()._config(context), **self.template_config(context.pins)}


class Ranker(WorkerModel):
    """A model that compares answers."""

    what: ClassVar[str] = "ranker"

    @property
    def compares(self) -> Literal["", "probability", "log_odds"]:
        """`log_odds`."""
        return "log_odds"


def cut_detail(result: dict[str, JSON]) -> str:
    """Returns the detail of a score whose text was cut; empty for a whole text."""
    if result.get("truncated_from") is None:
        return ""
    return f"scored the first {result['n_tokens']} of {result['truncated_from']} tokens"


def with_prompt(form: str) -> str:
    """Checks the form of a prompt, and returns it.

    Raises:
        ValueError: it does not hold `{prompt}` exactly once.
    """
    if form.count("{prompt}") != 1:
        raise ValueError("write {prompt} exactly once, where the prompt goes")
    return form
