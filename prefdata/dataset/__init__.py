"""Dataset: the columns of what is published, and which prompts are held out for testing."""

from __future__ import annotations

from prefdata.dataset.base import Layout
from prefdata.dataset.split import held_out
from prefdata.dataset.trl import TRLPairs

__all__ = ["AnyLayout", "Layout", "TRLPairs", "held_out"]

AnyLayout = TRLPairs
"""Everything that a recipe's `dataset` may be."""
