"""The columns of a pair that is put aside, with its prompt in a form that is cheap to keep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from prefdata.lazy import np, pa, pc
from prefdata.tables.schemas import MESSAGES, PAIR_KEY, in_one_chunk

__all__ = ["LONG_TEXTS", "PROMPT_CELLS", "as_cells", "as_messages", "merged"]

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


def merged(one: Iterator[pa.Table], other: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The rows of both, by `PAIR_KEY`, by which each of them comes sorted; no prompt is in both."""
    left, right = next(one, None), next(other, None)
    while left is not None and right is not None:
        end = min(table["prompt_id"][-1].as_py() for table in (left, right))
        n_left, n_right = (pc.sum(pc.less_equal(table["prompt_id"], end)).as_py() for table in (left, right))
        both = pa.concat_tables([left.slice(0, n_left), right.slice(0, n_right)])
        yield in_one_chunk(both.sort_by([(name, "ascending") for name in PAIR_KEY]))
        left = left.slice(n_left) if n_left < left.num_rows else next(one, None)
        right = right.slice(n_right) if n_right < right.num_rows else next(other, None)
    if left is not None:
        yield left
    if right is not None:
        yield right
    yield from one
    yield from other
