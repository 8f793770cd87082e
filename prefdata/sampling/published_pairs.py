"""`PublishedPairs`: the chosen and the rejected answer of a preference dataset that is there already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from prefdata.sampling._completions import Columns, by_prompt
from prefdata.sampling._table import TableAnswers, joined
from prefdata.sampling.base import SampleResult, SampleTask
from prefdata.spec import Context
from prefdata.tables.row_answers import last_turn

__all__ = ["PublishedPairs"]


class PublishedPairs(TableAnswers):
    """Two candidates a row: index 0 is the published chosen answer, index 1 the rejected one, each with its score.

    The defaults are the columns of `HuggingFaceH4/ultrafeedback_binarized`.
    """

    kind: Literal["published_pairs"] = "published_pairs"
    chosen_column: str = "chosen"
    """Holds a text, or a conversation whose last message is the answer."""
    rejected_column: str = "rejected"
    """Like `chosen_column`."""
    chosen_score_column: str = "score_chosen"
    """Holds the score of the chosen answer."""
    rejected_score_column: str = "score_rejected"
    """Holds the score of the rejected answer."""

    def sample(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """The two answers of the table to each prompt; see `Sampler.sample`."""
        columns = Columns(
            prompt=self.prompt_column,
            prompt_id=self.prompt_id_column,
            prompt_format=self.prompt_format,
            named={"response": "response", "score": "score"},
            completions="pair",
        )
        key = self.prompt_id_column or self.prompt_column
        sides = (
            (self.chosen_column, self.chosen_score_column),
            (self.rejected_column, self.rejected_score_column),
        )
        wanted = list(dict.fromkeys([key, *(name for side in sides for name in side)]))
        rows = (
            {key: row[key], "pair": [{"response": last_turn(row[text]), "score": row[score]} for text, score in sides]}
            for row in self._rows(wanted, context)
        )
        answers = by_prompt(rows, columns, self.name, lambda _: self.name, context.counted)
        return joined(self.name, answers, tasks, context)
