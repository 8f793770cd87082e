"""Publish: the dataset folder in the layout of the Hub, and its card."""

from __future__ import annotations

from prefdata.publish.spec import Publish

__all__ = ["Publish"]
