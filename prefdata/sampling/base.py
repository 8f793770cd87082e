"""`Sampler`: where candidates come from. One file beside this one for each way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from prefdata.records import Candidate, Drop, Prompt
from prefdata.spec import Context, Part

__all__ = ["SampleResult", "Sampler", "SampleTask"]


@dataclass(frozen=True, slots=True)
class SampleTask:
    """One thing to ask for: the sample number `index` for a prompt."""

    prompt: Prompt
    index: int

    @property
    def key(self) -> str:
        """Names the task within its sampler."""
        return f"{self.prompt.prompt_id}/{self.index}"


@dataclass(frozen=True, slots=True)
class SampleResult:
    """What became of one task. A task never ends with neither a candidate nor a drop."""

    key: str
    candidates: tuple[Candidate, ...] = ()
    drops: tuple[Drop, ...] = ()


class Sampler(Part):
    """A source of candidates. `name` is the `source` column of what it draws."""

    room: ClassVar[str] = "sampler"

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    """Stands in the `source` column; the names in one recipe differ."""

    @property
    def tasks_per_prompt(self) -> int:
        """How many tasks each prompt gives: samplers that draw give n, tables give 1."""
        return 1

    @abstractmethod
    def sample(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """Carries out each task exactly once, in any order.

        Args:
            tasks: streamed; pulled as there is room for them.
            context: seed, pins and log of this part.

        Yields:
            One `SampleResult` for each task, keyed by `SampleTask.key`.
        """
