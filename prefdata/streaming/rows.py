"""The columns of a pair that is put aside, with its prompt in a form that is cheap to keep."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from prefdata.tables import MESSAGES

__all__ = ["LONG_TEXTS", "PROMPT_CELLS", "as_cells", "as_messages"]

PROMPT_CELLS = [("prompt_text", pa.string()), ("prompt_json", pa.string())]
"""A prompt put aside: what its one user says, or the JSON of its messages."""
LONG_TEXTS = ("prompt_text", "prompt_json", "response_chosen", "response_rejected")
"""Columns of pairs with a prompt put aside that hold most of their bytes."""


def as_cells(messages: list[Any] | None) -> tuple[str | None, str | None]:
    """A prompt as `PROMPT_CELLS`."""
    if messages is None:
        return None, None
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"], None
    return None, json.dumps(messages, ensure_ascii=False)


def as_messages(texts: pa.Array, turns: pa.Array) -> pa.Array:
    """The prompts of `PROMPT_CELLS` as lists of messages."""
    if texts.null_count:
        cells = zip(texts.to_pylist(), turns.to_pylist(), strict=True)
        said = [
            [{"role": "user", "content": text}] if text is not None else json.loads(turn or "null")
            for text, turn in cells
        ]
        return pa.array(said, MESSAGES)
    turn = pa.StructArray.from_arrays([pa.repeat(pa.scalar("user"), len(texts)), texts], names=["role", "content"])
    return pa.ListArray.from_arrays(pa.array(np.arange(len(texts) + 1, dtype=np.int32)), turn)
