"""Inspection: summaries and comparisons of dataset folders, for people and for programs."""

from __future__ import annotations

from prefdata.inspection.load import Loaded
from prefdata.inspection.render import render
from prefdata.inspection.summary import Summary

__all__ = ["Loaded", "Summary", "render"]
