"""Defines `PromptPart`: one of several disjoint parts of a source's prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from prefdata.prompts.base import PromptSource
from prefdata.prompts.hub_split import HubPrompts
from prefdata.prompts.local_file import FilePrompts
from prefdata.prompts.python import PythonPrompts
from prefdata.prompts.sample import SamplePrompts
from prefdata.records import Drop, Prompt, prompt_id_of
from prefdata.spec import Context, derive_seed
from prefdata.spec.marks import Harmless
from prefdata.spec.own import Own

__all__ = ["PromptPart"]

_OneSource: TypeAlias = Annotated[
    HubPrompts | FilePrompts | SamplePrompts | PythonPrompts,
    Field(discriminator="kind"),
    Own(PromptSource, stand_in=PythonPrompts),
]


class PromptPart(PromptSource):
    """The prompts of one part of `parts`; no conversation is in two parts, whatever its id.

    A seeded hash of the conversation decides the part, so a prompt stays in its part whatever else the source holds.
    Parts are of nearly the same size, not of exactly the same. A prompt of another part is dropped as `other_part`.
    """

    kind: Literal["part"] = "part"
    source: Annotated[_OneSource, Harmless]
    """Source of all prompts."""
    part: Annotated[int, Harmless, Field(ge=1)]
    """The part that is read; the first is 1."""
    parts: Annotated[int, Harmless, Field(ge=1)]
    """How many parts there are."""
    seed: Annotated[int, Harmless] = 0
    """Seed of the hash; must be the same in all parts."""

    @model_validator(mode="after")
    def _there_is_such_a_part(self) -> Self:
        if self.part > self.parts:
            raise ValueError(f"part {self.part} of {self.parts} parts")
        return self

    def kept_columns(self) -> tuple[str, ...]:
        """Names those of the source."""
        return self.source.kept_columns()

    def read(self, context: Context) -> Iterator[Prompt | Drop]:
        """Reads the prompts of the part; see `PromptSource.read`."""
        for record in self.source.read(context.child("source")):
            if isinstance(record, Prompt) and (part := self._part_of(record)) != self.part:
                yield Drop(record.prompt_id, "prompts", "other_part", f"part {part} of {self.parts}", kept=record.kept)
            else:
                yield record

    def _part_of(self, prompt: Prompt) -> int:
        return 1 + derive_seed("part", self.seed, prompt_id_of(prompt.messages)) % self.parts
