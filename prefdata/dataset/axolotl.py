"""`Axolotl`: the preference layout that axolotl's `chat_template.default` reads."""

from __future__ import annotations

from typing import Literal

from prefdata.dataset._turns import joined_prompts, messages_of
from prefdata.dataset.base import Layout
from prefdata.lazy import pa

__all__ = ["Axolotl"]


class Axolotl(Layout):
    """`prompt_id`, `messages` (the prompt), `chosen` and `rejected` as one message each.

    It has only these columns, because axolotl passes unknown ones on to its trainer.

    Source: axolotl's documentation of RLHF (`type: chat_template.default`) and its prompt_strategies/dpo.
    """

    kind: Literal["axolotl"] = "axolotl"

    @property
    def traced(self) -> bool:
        """False: axolotl passes unknown columns on to its trainer."""
        return False

    def rows(self, pairs: pa.Table, prompts: pa.Table, answers: pa.Table | None = None) -> pa.Table:
        """Makes the rows: see `Layout.rows`."""
        columns = {
            "prompt_id": pairs["prompt_id"],
            "messages": joined_prompts(pairs, prompts),
            "chosen": messages_of(pairs["response_chosen"], "assistant"),
            "rejected": messages_of(pairs["response_rejected"], "assistant"),
        }
        return pa.table(columns)
