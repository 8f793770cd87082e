"""Verify: makes a published dataset again from the answers beside it, and tells every difference."""

from __future__ import annotations

from prefdata.verification.dataset import verify
from prefdata.verification.report import Mismatch, Report

__all__ = ["Mismatch", "Report", "verify"]
