"""`KTO`: the unpaired layout that TRL's `KTOTrainer` reads without conversion."""

from __future__ import annotations

from typing import Literal

from prefdata.dataset._turns import as_answers, joined_prompts
from prefdata.dataset.base import Layout
from prefdata.lazy import np, pa

__all__ = ["KTO"]


class KTO(Layout):
    """`prompt_id`, `prompt` and `completion` as lists of messages, `label`: true for chosen, false for rejected.

    Each pair becomes two rows, first its chosen answer, then its rejected one. Shuffle them before training: TRL keeps
    the order and estimates the KL term from the row before, which here is the same prompt's other answer.

    Source: TRL's documentation of dataset formats (unpaired preference, conversational) and kto_trainer.py of TRL 1.16.
    """

    kind: Literal["kto"] = "kto"

    @property
    def traced(self) -> bool:
        """False: a row is half a pair."""
        return False

    @property
    def rows_per_pair(self) -> int:
        """Two: one desirable, one undesirable."""
        return 2

    def rows(self, pairs: pa.Table, prompts: pa.Table, answers: pa.Table | None = None) -> pa.Table:
        """Makes the rows: see `Layout.rows`."""
        count = pairs.num_rows
        twice = pa.array(np.repeat(np.arange(count), 2))
        in_turn = pa.array(np.arange(2 * count).reshape(2, count).T.ravel())
        sides = [as_answers(pairs[name]) for name in ("response_chosen", "response_rejected")]
        columns = {
            "prompt_id": pairs["prompt_id"].take(twice),
            "prompt": joined_prompts(pairs, prompts).take(twice),
            "completion": pa.concat_arrays(sides).take(in_turn),
            "label": pa.array(np.tile([True, False], count), pa.bool_()),
        }
        return pa.table(columns)
