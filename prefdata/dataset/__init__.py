"""Dataset: the columns of what is published, and which prompts are held out for testing."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from prefdata.dataset.base import Layout
from prefdata.dataset.snorkel import SnorkelLayout, prompt_text
from prefdata.dataset.split import held_out
from prefdata.dataset.trl import TRLPairs

__all__ = ["AnyLayout", "Layout", "SnorkelLayout", "TRLPairs", "held_out", "prompt_text"]

AnyLayout: TypeAlias = Annotated[TRLPairs | SnorkelLayout, Field(discriminator="kind")]
"""Everything that a recipe's `dataset` may be."""
