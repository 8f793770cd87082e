"""Verify: makes a published dataset again from the answers beside it, and tells every difference."""

from __future__ import annotations

from prefdata.verify.dataset import verify_dataset
from prefdata.verify.report import Mismatch, Report

__all__ = ["Mismatch", "Report", "verify_dataset"]
