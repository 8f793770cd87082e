"""Verification: rebuilds a published dataset from its answers, and reports every difference."""

from __future__ import annotations

from prefdata.verification.dataset import verify
from prefdata.verification.report import Mismatch, Report

__all__ = ["Mismatch", "Report", "verify"]
