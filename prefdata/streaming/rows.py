"""The pairs of a piece as Arrow rows, with their prompts in a form that is cheap to put aside."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prefdata.streaming.pieces import Rows
from prefdata.streaming.select import Picks, Side
from prefdata.tables import MESSAGES

__all__ = ["PROMPT_CELLS", "as_cells", "as_messages", "pair_rows"]

PROMPT_CELLS = [("prompt_text", pa.string()), ("prompt_json", pa.string())]
"""A prompt put aside: what its one user says, or the JSON of its messages."""

_Ints = NDArray[np.int64]


def pair_rows(
    rows: Rows, picks: Picks, runs: _Ints, sizes: _Ints, schema: pa.Schema, prompt_ids: list[str]
) -> pa.Table:
    """The pairs of some runs, one each, by the schema of `prefdata.tables.pairs_schema`."""
    columns: dict[str, Any] = {"prompt_id": prompt_ids, "pair_index": np.zeros(len(runs), np.int64)}
    columns |= {"n_candidates": sizes, "n_eligible": sizes}
    for name, side in (("chosen", picks.chosen), ("rejected", picks.rejected)):
        columns |= {f"{what}_{name}": column for what, column in _side(rows, side, runs).items()}
    columns["score_margin"] = columns["score_chosen"] - columns["score_rejected"]
    return pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names}, schema=schema)


def _side(rows: Rows, side: Side, runs: _Ints) -> dict[str, Any]:
    answers, at = rows.answers, side.row[runs]
    place = pa.array(at)
    words = pa.DictionaryArray.from_arrays(pa.array(side.decided[runs].astype(np.int32)), pa.array(side.words))
    nothing = {"source": pa.nulls(len(runs), pa.string()), "model": pa.nulls(len(runs), pa.string())}
    nothing["index"] = pa.nulls(len(runs), pa.int64())
    told = {name: rows.columns[name].take(place) for name in nothing if name in rows.columns}
    if "index" in told:
        told["index"] = told["index"].cast(pa.int64())
    return {
        "n_tied": side.n_tied[runs],
        "decided": words.cast(pa.string()),
        **nothing,
        **told,
        "score": answers.score[at],
        "length": answers.length[at],
        "response": answers.text.take(place),
    }


def as_cells(messages: list[Any] | None) -> tuple[str | None, str | None]:
    """A prompt as `PROMPT_CELLS`."""
    if messages is None:
        return None, None
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"], None
    return None, json.dumps(messages, ensure_ascii=False)


def as_messages(texts: pa.Array, turns: pa.ChunkedArray) -> pa.Array:
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
