"""Defines `SamplePrompts`, the small prompt set that is installed with prefdata, for runs without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from prefdata.prompts.base import PromptSource
from prefdata.prompts.local_file import FilePrompts
from prefdata.records import Drop, Prompt
from prefdata.spec import JSON, Context
from prefdata.spec.marks import Harmless
from prefdata.tables import files

__all__ = ["SamplePrompts"]


class SamplePrompts(PromptSource):
    """Prompts written for this project: short questions, code, maths, several languages and turns."""

    kind: Literal["sample"] = "sample"
    scored: Annotated[bool, Harmless, Field(exclude_if=lambda scored: not scored)] = False
    """True: the 20 prompts for which `SampleAnswers(scored=True)` has answers, instead of the 260 others."""

    def pins(self) -> dict[str, JSON]:
        """Returns the SHA-256 of the installed file."""
        return {**super().pins(), **files.pin(files.bundled_sample(scored=self.scored))}

    def read(self, context: Context) -> Iterator[Prompt | Drop]:
        """Reads every prompt of the sample; see `PromptSource.read`."""
        column = "instruction" if self.scored else "prompt"
        return FilePrompts(path=files.bundled_sample(scored=self.scored), prompt_column=column).read(context)
