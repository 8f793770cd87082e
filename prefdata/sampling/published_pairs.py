"""Defines `PublishedPairs`, which reads the chosen and the rejected answer of an existing preference dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from prefdata.sampling._completions import Columns, by_prompt
from prefdata.sampling._table import TableAnswers, joined
from prefdata.sampling.base import SampleResult, SampleTask
from prefdata.spec import Context
from prefdata.spec.marks import Harmless
from prefdata.tables.row_answers import last_turn

__all__ = ["PublishedPairs"]


class PublishedPairs(TableAnswers):
    """Two candidates from each row: index 0 is the published chosen answer, 1 the rejected one, each with its score.

    The defaults are the columns of `HuggingFaceH4/ultrafeedback_binarized`.
    """

    kind: Literal["published_pairs"] = "published_pairs"
    chosen_column: Annotated[str, Harmless] = "chosen"
    """Column of the chosen answer: a text, or a conversation whose last message is the answer."""
    rejected_column: Annotated[str, Harmless] = "rejected"
    """Column of the rejected answer, in the form of `chosen_column`."""
    chosen_score_column: Annotated[str, Harmless] = "score_chosen"
    """Column of the chosen answer's score."""
    rejected_score_column: Annotated[str, Harmless] = "score_rejected"
    """Column of the rejected answer's score."""

    def sample(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """Yields the two answers of the table to each prompt; see `Sampler.sample`."""
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
        column_names = list(dict.fromkeys([key, *(name for side in sides for name in side)]))
        rows = (
            {key: row[key], "pair": [{"response": last_turn(row[text]), "score": row[score]} for text, score in sides]}
            for row in self._rows(column_names, context)
        )
        answers = by_prompt(rows, columns, self.name, lambda _: self.name, context.counted)
        return joined(self, answers, tasks, context)
