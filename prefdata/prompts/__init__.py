"""Prompts: where they come from, one part a source.

::

    from prefdata.prompts import FilePrompts

    for record in FilePrompts(path="prompts.jsonl").read(context):
        ...  # a Prompt, or the Drop that says why a row is none
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from prefdata.prompts.base import PromptSource
from prefdata.prompts.hub_split import HubPrompts
from prefdata.prompts.local_file import FilePrompts
from prefdata.prompts.sample import SamplePrompts

__all__ = ["AnyPrompts", "FilePrompts", "HubPrompts", "PromptSource", "SamplePrompts"]

AnyPrompts: TypeAlias = Annotated[HubPrompts | FilePrompts | SamplePrompts, Field(discriminator="kind")]
"""What may stand in a recipe's field for prompts."""
