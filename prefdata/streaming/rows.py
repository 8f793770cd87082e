"""The pairs of a piece as Arrow rows, with their prompts in a form that is cheap to put aside."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prefdata.streaming.pieces import Rows
from prefdata.streaming.places import Labels
from prefdata.streaming.select import Picks, Side
from prefdata.tables import MESSAGES

__all__ = ["LONG_TEXTS", "PROMPT_CELLS", "as_cells", "as_messages", "pair_rows"]

PROMPT_CELLS = [("prompt_text", pa.string()), ("prompt_json", pa.string())]
"""A prompt put aside: what its one user says, or the JSON of its messages."""
LONG_TEXTS = ("prompt_text", "prompt_json", "response_chosen", "response_rejected")
"""Columns of pairs with a prompt put aside that hold most of their bytes."""

_Ints = NDArray[np.int64]


def pair_rows(rows: Rows, picks: Picks, runs: _Ints, sizes: _Ints, schema: pa.Schema, prompt_ids: pa.Array) -> pa.Table:
    """The pairs of some runs, one each, by the schema of `prefdata.tables.pairs_schema`."""
    columns: dict[str, Any] = {"prompt_id": prompt_ids, "pair_index": np.zeros(len(runs), np.int64)}
    columns |= {"n_candidates": sizes, "n_eligible": sizes}
    for name, side in (("chosen", picks.chosen), ("rejected", picks.rejected)):
        columns |= {f"{what}_{name}": column for what, column in _side(rows, side, runs).items()}
    columns["score_margin"] = columns["score_chosen"] - columns["score_rejected"]
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _side(rows: Rows, side: Side, runs: _Ints) -> dict[str, Any]:
    answers, at = rows.answers, side.row[runs]
    nothing = pa.nulls(len(runs), pa.string())
    labels = {name: rows.labels[name][at].texts() if name in rows.labels else nothing for name in ("source", "model")}
    return {
        "n_tied": side.n_tied[runs],
        "decided": Labels(side.decided[runs], side.words).texts(),
        **labels,
        "index": pa.nulls(len(runs), pa.int64()) if rows.index is None else rows.index[at].numbers(),
        "score": answers.score[at],
        "length": answers.length[at],
        "response": answers.text.take(pa.array(at)),
    }


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
