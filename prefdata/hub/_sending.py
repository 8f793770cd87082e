"""Helpers for uploads: re-raise errors of upload threads, hide progress bars without a terminal, redact messages."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefdata.hub._client import client

_TOKEN = re.compile(r"\bhf_\w+|\bBearer\s+\S+", re.IGNORECASE)
_ADDRESS = re.compile(r"\bhttps?://\S+")


@contextmanager
def thread_errors() -> Iterator[None]:
    """Re-raises the uploading thread's own error instead of the RuntimeError that wraps it."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hides the progress bars of the client where stderr is not a terminal."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def requested_wait(error: Any) -> float | None:
    """Returns the seconds of the header `Retry-After`; None without one."""
    seconds = getattr(error.response, "headers", {}).get("Retry-After", "")
    return float(seconds) if str(seconds).isdecimal() else None


def redacted(text: str, width: int = 300) -> str:
    """Returns a message of the client as one line without addresses, tokens or control characters."""
    text = _ADDRESS.sub("(address)", _TOKEN.sub("(token)", text))
    token = client().get_token()
    text = text.replace(token, "(token)") if token else text
    flat = " ".join(text.split())
    return "".join(character for character in flat if character.isprintable())[:width]
