"""Dataset: the columns of what is published, and which prompts are held out for testing."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from prefdata.dataset.axolotl import Axolotl
from prefdata.dataset.base import Layout
from prefdata.dataset.full_conversation import FullConversation
from prefdata.dataset.kto import KTO
from prefdata.dataset.llamafactory import LlamaFactory
from prefdata.dataset.python import PythonLayout, rows_of
from prefdata.dataset.snorkel import SnorkelLayout, prompt_text
from prefdata.dataset.split import held_out
from prefdata.dataset.trl import TRLPairs
from prefdata.spec.own import Own

__all__ = [
    "AnyLayout",
    "AnyMainLayout",
    "Axolotl",
    "FullConversation",
    "KTO",
    "Layout",
    "LlamaFactory",
    "PythonLayout",
    "SnorkelLayout",
    "TRLPairs",
    "held_out",
    "prompt_text",
    "rows_of",
]

AnyMainLayout: TypeAlias = Annotated[
    TRLPairs | SnorkelLayout | PythonLayout,
    Field(discriminator="kind"),
    Own(TRLPairs, SnorkelLayout, stand_in=PythonLayout),
]
"""Layouts of the pairs themselves, one row a pair, which prefdata reads back."""
AnyLayout: TypeAlias = Annotated[
    TRLPairs | SnorkelLayout | KTO | FullConversation | LlamaFactory | Axolotl | PythonLayout,
    Field(discriminator="kind"),
    Own(Layout, stand_in=PythonLayout),
]
"""Every layout, as published in addition to the main one."""
