"""`TRLPairs`: the explicit conversational preference layout that TRL's `DPOTrainer` reads without conversion."""

from __future__ import annotations

from typing import Literal

from prefdata.dataset._turns import as_answers, joined_prompts
from prefdata.dataset.base import Layout
from prefdata.lazy import pa

__all__ = ["TRLPairs"]


class TRLPairs(Layout):
    """`prompt`, `chosen`, `rejected` as lists of messages, then ids, scores and the trace of the rule's decision.

    Source: TRL's documentation of dataset formats (explicit prompt, conversational). TRL's collator ignores
    unknown columns; the further columns here have no name that TRL uses.
    """

    kind: Literal["trl"] = "trl"

    def rows(self, pairs: pa.Table, prompts: pa.Table, answers: pa.Table | None = None) -> pa.Table:
        """Makes the rows: see `Layout.rows`."""
        columns = {
            "prompt": joined_prompts(pairs, prompts),
            "chosen": as_answers(pairs["response_chosen"]),
            "rejected": as_answers(pairs["response_rejected"]),
        }
        trace = [name for name in pairs.column_names if not name.startswith("response_")]
        ordered = ["prompt_id", *columns, *_TRACE_FIRST, *(name for name in trace if name not in _TRACE_FIRST)]
        columns |= {name: pairs[name] for name in trace}
        return pa.table({name: columns[name] for name in dict.fromkeys(ordered)})


_TRACE_FIRST = ("score_chosen", "score_rejected", "score_margin", "length_chosen", "length_rejected")
