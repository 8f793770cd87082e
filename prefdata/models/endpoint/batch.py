"""Defines `Batch`, the options for a provider's batch API."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prefdata.spec import Spec
from prefdata.spec.marks import Harmless

__all__ = ["Batch"]


class Batch(Spec):
    """Options of a batch API: requests are sent in files and answered within a day, usually for half the price.

    The format is OpenAI's: a JSON-lines file is uploaded, a batch is made of it, and its output is downloaded when it
    has ended. A batch goes on when this process ends, and the next run finds it.
    """

    poll_s: Annotated[float, Harmless, Field(gt=0)] = 60.0
    """Seconds between two queries of the batches under way."""
    max_requests: Annotated[int, Harmless, Field(ge=1, le=50_000)] = 50_000
    """Most requests of one file."""
    max_bytes: Annotated[int, Harmless, Field(ge=1, le=200_000_000)] = 200_000_000
    """Most bytes of one file; a request that is larger by itself is a file by itself."""
    max_batches: Annotated[int, Harmless, Field(ge=1)] = 4
    """Most batches under way at once."""
    completion_window: Annotated[str, Harmless, Field(min_length=1)] = "24h"
    """Time that the provider may take, in its own words; requests unanswered by then are sent again."""
