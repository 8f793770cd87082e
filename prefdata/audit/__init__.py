"""Audit: length, position, source and tie bias of a dataset, and the limits that a recipe sets to them."""

from __future__ import annotations

from prefdata.audit.spec import Audit, Limit, Measure

__all__ = ["Audit", "Limit", "Measure"]
