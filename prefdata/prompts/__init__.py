"""Prompts: where they come from, one part a source, and which of them go on, one part a filter.

::

    from prefdata.prompts import FilePrompts

    for record in FilePrompts(path="prompts.jsonl").read(context):
        ...  # a Prompt, or the Drop that says why a row is none
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from prefdata.own import Own
from prefdata.prompts.base import PromptFilter, PromptSource
from prefdata.prompts.filters import (
    Decontaminate,
    EvalSet,
    ExactDuplicates,
    Language,
    Length,
    NearDuplicates,
    PythonFilter,
)
from prefdata.prompts.hub_split import HubPrompts
from prefdata.prompts.local_file import FilePrompts
from prefdata.prompts.python import PythonPrompts
from prefdata.prompts.sample import SamplePrompts
from prefdata.prompts.three_way import SnorkelThreeWay

__all__ = [
    "AnyPromptFilter",
    "AnyPrompts",
    "Decontaminate",
    "EvalSet",
    "ExactDuplicates",
    "FilePrompts",
    "HubPrompts",
    "Language",
    "Length",
    "NearDuplicates",
    "PromptFilter",
    "PromptSource",
    "PythonFilter",
    "PythonPrompts",
    "SamplePrompts",
    "SnorkelThreeWay",
]

AnyPrompts: TypeAlias = Annotated[
    HubPrompts | FilePrompts | SamplePrompts | SnorkelThreeWay | PythonPrompts,
    Field(discriminator="kind"),
    Own(PromptSource, stand_in=PythonPrompts),
]
"""What may stand in a recipe's field for prompts."""

AnyPromptFilter: TypeAlias = Annotated[
    Length | Language | ExactDuplicates | NearDuplicates | Decontaminate | PythonFilter,
    Field(discriminator="kind"),
    Own(PromptFilter, stand_in=PythonFilter),
]
"""What may stand in a recipe's list of filters."""
