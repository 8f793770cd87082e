"""Defines `Sampler`, a source of candidates. Each kind of sampler has a file of its own in this folder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from prefdata.records import Candidate, Drop, Prompt
from prefdata.spec import JSON, Context, Part
from prefdata.spec.marks import Harmless

__all__ = ["SampleResult", "SampleTask", "Sampler"]


@dataclass(frozen=True, slots=True)
class SampleTask:
    """One sample to draw: number `index` for a prompt."""

    prompt: Prompt
    index: int

    @property
    def key(self) -> str:
        """Identifies the task within its sampler."""
        return f"{self.prompt.prompt_id}/{self.index}"


@dataclass(frozen=True, slots=True)
class SampleResult:
    """The result of one task: at least one candidate or one drop."""

    key: str
    """The task's `SampleTask.key`."""
    candidates: tuple[Candidate, ...] = ()
    drops: tuple[Drop, ...] = ()
    kept: Mapping[str, JSON] | None = None
    """Columns of a table that travel along with the prompt: see `Prompt.kept`."""

    @property
    def prompt_id(self) -> str:
        """The prompt of the task."""
        return self.candidates[0].prompt_id if self.candidates else self.drops[0].prompt_id


class Sampler(Part):
    """A source of candidates."""

    room: ClassVar[str] = "sampler"

    name: Annotated[str, Harmless, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    """Name of this sampler, which is the `source` of its candidates; unique in the recipe."""

    @property
    def tasks_per_prompt(self) -> int:
        """Number of tasks for each prompt: n for a sampler that draws n answers, 1 for a table."""
        return 1

    def kept_columns(self) -> tuple[str, ...]:
        """Names the columns that travel along with the prompts it answers (`SampleResult.kept`)."""
        return ()

    @abstractmethod
    def sample(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """Carries out each task exactly once, in any order.

        Args:
            tasks: a stream that is pulled when there is room.
            context: seed, pins and log of this part.

        Yields:
            One `SampleResult` for each task, keyed by `SampleTask.key`.
        """
