"""Inspection: summaries and comparisons of dataset folders, for people and for programs."""

from __future__ import annotations

from prefdata.inspection.render import render
from prefdata.inspection.summary import Summary, summarise

__all__ = ["Summary", "render", "summarise"]
