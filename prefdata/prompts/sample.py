"""`SamplePrompts`: the small prompt set that is installed with prefdata, for runs without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from prefdata import files
from prefdata.prompts.base import PromptSource
from prefdata.prompts.local_file import FilePrompts
from prefdata.records import Drop, Prompt
from prefdata.spec import JSON, Context

__all__ = ["SamplePrompts"]


class SamplePrompts(PromptSource):
    """Prompts written for this project: short questions, code, maths, several languages and turns."""

    kind: Literal["sample"] = "sample"

    def pins(self) -> dict[str, JSON]:
        """The SHA-256 of the installed file."""
        return {**super().pins(), **files.pin(files.bundled_sample())}

    def read(self, context: Context) -> Iterator[Prompt | Drop]:
        """Every prompt of the sample; see `PromptSource.read`."""
        return FilePrompts(path=files.bundled_sample()).read(context)
