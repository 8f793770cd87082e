"""Small things around sending files: whose error counts, no bars where nobody watches, messages made harmless."""

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
def unwrapped() -> Iterator[None]:
    """The answer to a file that was sent is what counts, not that it was sent in a thread."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise


@contextmanager
def quiet() -> Iterator[None]:
    """Without bars where nobody watches."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def asked_to_wait(error: Any) -> float | None:
    """The seconds that an answer asks to wait."""
    asked = getattr(error.response, "headers", {}).get("Retry-After", "")
    return float(asked) if str(asked).isdecimal() else None


def harmless(text: str, width: int = 300) -> str:
    """A message from outside as one plain line: no address, token or control character."""
    text = _ADDRESS.sub("(address)", _TOKEN.sub("(token)", text))
    token = client().get_token()
    text = text.replace(token, "(token)") if token else text
    flat = " ".join(text.split())
    return "".join(character for character in flat if character.isprintable())[:width]
