"""`FullConversation`: both sides of a pair as whole conversations, which begin with the prompt's turns."""

from __future__ import annotations

from typing import Literal

from prefdata.dataset._turns import joined_prompts, with_answers
from prefdata.dataset.base import Layout
from prefdata.dataset.snorkel import prompt_text
from prefdata.lazy import pa

__all__ = ["FullConversation"]


class FullConversation(Layout):
    """`prompt_id`, `prompt_text`, `chosen` and `rejected` as whole conversations, `score_chosen`, `score_rejected`.

    Then come the columns that the rule adds, such as SPPO's `chosen_probs`, `chosen_probs_win`, `chosen_probs_lose`.

    open-instruct and alignment-handbook read `chosen` and `rejected`, and take all turns but the last as the prompt.
    The published trainers of SPPO and GPO read them with the three columns.
    TRL's `RewardTrainer` and `DPOTrainer` read them too (implicit prompt), because the text of the prompt
    is not named `prompt`: TRL would join a text of that name to the lists of messages, which fails. `prompt_text`
    defines the text.

    Source: TRL's documentation of dataset formats; dataset_transformation.py of open-instruct; data.py of
    alignment-handbook; run_sppo.py of SPPO.
    """

    kind: Literal["full_conversation"] = "full_conversation"

    @property
    def traced(self) -> bool:
        """False: the rows have only the scores of the trace, and the rule's own columns."""
        return False

    def rows(self, pairs: pa.Table, prompts: pa.Table, answers: pa.Table | None = None) -> pa.Table:
        """Makes the rows: see `Layout.rows`."""
        from prefdata.tables.schemas import PAIRS

        messages = joined_prompts(pairs, prompts)
        columns = {
            "prompt_id": pairs["prompt_id"],
            "prompt_text": pa.array([prompt_text(turns) for turns in messages.to_pylist()], pa.string()),
            "chosen": with_answers(messages, pairs["response_chosen"]),
            "rejected": with_answers(messages, pairs["response_rejected"]),
            "score_chosen": pairs["score_chosen"],
            "score_rejected": pairs["score_rejected"],
            **{name: pairs[name] for name in pairs.column_names if name not in PAIRS.names},
        }
        return pa.table(columns)
