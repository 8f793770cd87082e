"""`TRLPairs`: the explicit conversational preference layout that TRL's `DPOTrainer` reads as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from prefdata.dataset.base import Layout

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TRLPairs"]


class TRLPairs(Layout):
    """`prompt`, `chosen`, `rejected` as lists of messages, then ids, scores and the trace of the rule's decision.

    Source: TRL's documentation of dataset formats (explicit prompt, conversational). Columns that TRL doesn't know are
    ignored by its collator; none of ours has a name that means something to it.
    """

    kind: Literal["trl"] = "trl"

    def rows(self, pairs: pa.Table, prompts: pa.Table, answers: pa.Table | None = None) -> pa.Table:
        """See `Layout.rows`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from prefdata.tables import MESSAGES

        messages = _one(prompts["messages"])
        # Prompts that stand in the order of the pairs already are not copied.
        if not prompts["prompt_id"].equals(pairs["prompt_id"]):
            place = pc.index_in(pairs["prompt_id"], value_set=prompts["prompt_id"].combine_chunks())
            messages = prompts["messages"].take(place).combine_chunks()
        columns = {
            "prompt": messages.cast(MESSAGES),
            "chosen": _turn(pairs["response_chosen"]),
            "rejected": _turn(pairs["response_rejected"]),
        }
        trace = [name for name in pairs.column_names if not name.startswith("response_")]
        ordered = ["prompt_id", *columns, *_TRACE_FIRST, *(name for name in trace if name not in _TRACE_FIRST)]
        columns |= {name: pairs[name] for name in trace}
        return pa.table({name: columns[name] for name in dict.fromkeys(ordered)})


_TRACE_FIRST = ("score_chosen", "score_rejected", "score_margin", "length_chosen", "length_rejected")


def _turn(texts: pa.ChunkedArray) -> pa.Array:
    """Each text as a conversation of one assistant turn."""
    import pyarrow as pa

    content = _one(texts)
    role = pa.repeat(pa.scalar("assistant"), len(content))
    turns = pa.StructArray.from_arrays([role, content], names=["role", "content"])
    offsets = pa.array(range(len(content) + 1), pa.int32())
    return pa.ListArray.from_arrays(offsets, turns)


def _one(column: pa.ChunkedArray) -> pa.Array:
    # Combining copies even a single chunk.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
