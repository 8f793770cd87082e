"""Reads prompts and filters them; each source and each filter is one part.

::

    from prefdata.prompts import FilePrompts

    for record in FilePrompts(path="prompts.jsonl").read(context):
        ...  # a Prompt, or a Drop with the reason why a row is not one
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

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
from prefdata.prompts.part import PromptPart
from prefdata.prompts.python import PythonPrompts
from prefdata.prompts.sample import SamplePrompts
from prefdata.prompts.three_way import SnorkelThreeWay
from prefdata.spec.own import Own

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
    "PromptPart",
    "PromptSource",
    "PythonFilter",
    "PythonPrompts",
    "SamplePrompts",
    "SnorkelThreeWay",
]

AnyPrompts: TypeAlias = Annotated[
    HubPrompts | FilePrompts | SamplePrompts | SnorkelThreeWay | PromptPart | PythonPrompts,
    Field(discriminator="kind"),
    Own(PromptSource, stand_in=PythonPrompts),
]
"""Every source of prompts that a recipe can name; the field `kind` says which one it is."""

AnyPromptFilter: TypeAlias = Annotated[
    Length | Language | ExactDuplicates | NearDuplicates | Decontaminate | PythonFilter,
    Field(discriminator="kind"),
    Own(PromptFilter, stand_in=PythonFilter),
]
"""Every filter that a recipe can name; the field `kind` says which one it is."""
