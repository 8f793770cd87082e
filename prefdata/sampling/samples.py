"""Defines `Samples`, which draws n answers of a language model to each prompt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from prefdata.errors import ConservationError
from prefdata.models import AnyGenerator, Decoding, generate
from prefdata.records import Candidate, Drop, Generation, Request
from prefdata.sampling.base import Sampler, SampleResult, SampleTask
from prefdata.spec import JSON, Context, derive_seed
from prefdata.spec.marks import Acts, Harmless, is_self_contained

__all__ = ["Samples"]


_SCHEMA = Acts("engine", "refers to a schema elsewhere", unless=is_self_contained)


class Samples(Sampler):
    """Draws `n` answers to each prompt, each with a seed that no other prompt or sample can change."""

    kind: Literal["samples"] = "samples"
    generator: Annotated[AnyGenerator, Harmless]
    """The model that answers."""
    n: Annotated[int, Harmless, Field(ge=1)] = 5
    """Number of answers to each prompt."""
    temperature: Annotated[float, Harmless, Field(ge=0, le=2)] = 1.0
    """Divides the logits before tokens are drawn; 0 takes the most likely token every time."""
    top_p: Annotated[float, Harmless, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling: draws from the smallest set of tokens whose probability reaches this; 1 draws from all."""
    max_tokens: Annotated[int, Harmless, Field(ge=1)] = 2048
    """Token limit of one answer; an answer that reaches it ends with finish reason `length`."""
    stop: Annotated[tuple[str, ...], Harmless] = ()
    """Texts that end an answer and are not part of it."""
    json_schema: Annotated[
        dict[str, JSON] | None,
        _SCHEMA,
        Field(exclude_if=lambda schema: schema is None),
    ] = None
    """JSON schema of every answer, as far as the generator can enforce it; None allows any text."""

    @property
    def tasks_per_prompt(self) -> int:
        """One task for each of the `n` answers."""
        return self.n

    def seed(self, context: Context, task: SampleTask) -> int:
        """Derives the seed of one answer from the recipe's seed, the prompt id, this sampler's name and the index."""
        return derive_seed(context.seed, task.prompt.prompt_id, self.name, task.index)

    def sample(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """Yields one candidate for each task, or a drop with the reason of the failure; see `Sampler.sample`.

        Raises:
            ConservationError: the generator left a request out, answered one twice, or answered one it was not sent.
        """
        decoding = Decoding(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens, stop=self.stop)
        waiting: dict[str, SampleTask] = {}
        requests = self._requests(tasks, waiting, context)
        for answer in generate(self.generator, requests, decoding, context.child("generator")):
            task = waiting.pop(answer.key, None)
            if task is None:
                raise ConservationError(f"{self.name}: an answer to {answer.key!r}, which was not waiting for one")
            yield self._result(task, self.generator.split(answer), context)
        # A request that the generator never took is still in the iterator: taking it adds it to `waiting`.
        next(requests, None)
        if waiting:
            first = next(iter(waiting))
            raise ConservationError(f"{self.name}: no answer to {first!r} ({len(waiting)} in all)")

    def _requests(
        self, tasks: Iterable[SampleTask], waiting: dict[str, SampleTask], context: Context
    ) -> Iterator[Request]:
        for task in tasks:
            if task.key in waiting:
                raise ConservationError(f"{self.name}: the task {task.key!r} was given twice")
            waiting[task.key] = task
            yield Request(task.key, task.prompt.messages, self.seed(context, task), self.json_schema)

    def _result(self, task: SampleTask, answer: Generation, context: Context) -> SampleResult:
        prompt_id, index = task.prompt.prompt_id, task.index
        if answer.text is None:
            if answer.failure is None:
                raise ConservationError(f"{self.name}: {task.key!r} came back with neither text nor failure")
            drop = Drop(prompt_id, "candidates", answer.failure, answer.detail, self.name, index)
            return SampleResult(task.key, drops=(drop,))
        candidate = Candidate(
            prompt_id=prompt_id,
            source=self.name,
            index=index,
            response=answer.text,
            model=answer.model,
            finish_reason=answer.finish_reason,
            n_tokens=answer.n_tokens,
            seed=self.seed(context, task),
            reasoning=answer.reasoning or None,
        )
        return SampleResult(task.key, (candidate,))
