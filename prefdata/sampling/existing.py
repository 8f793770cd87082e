"""Defines `ExistingCompletions` and `SampleAnswers`, which read answers from a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from prefdata.sampling._completions import Columns, by_prompt
from prefdata.sampling._table import TableAnswers, joined
from prefdata.sampling.base import Sampler, SampleResult, SampleTask
from prefdata.spec import JSON, Context
from prefdata.spec.marks import Harmless
from prefdata.tables import files
from prefdata.tables.row_answers import ANSWER_ROLES
from prefdata.tables.shown_answers import answers_shown

__all__ = ["ExistingCompletions", "SampleAnswers"]


class ExistingCompletions(TableAnswers):
    """Answers from a file or a dataset of the Hub, joined to the prompts by prompt id.

    Three layouts: one answer in each row; one prompt in each row, with a list of objects in `completions_column`
    (UltraFeedback); one prompt in each row, with a list of texts in `response_column`, and lists of the same length in
    the other columns (Snorkel). An answer may be a list of messages, whose last one is the assistant's. Lists may be
    JSON texts, as CSV has them; a list that Python or NumPy wrote is refused.
    """

    kind: Literal["existing"] = "existing"
    completions_column: Annotated[str | None, Harmless] = None
    """Column of a list of objects, one for each answer; the columns below are then keys of these objects. None reads
    the columns below from the row."""
    response_column: Annotated[str, Harmless] = "response"
    """Column of the answer's text, or of a list of texts."""
    response_format: Annotated[
        Literal["auto", "text", "lists"], Harmless, Field(exclude_if=lambda how: how == "auto")
    ] = "auto"
    """How a text in `response_column` is read: as the answer (`text`), as the JSON text of a list of answers
    (`lists`), or `auto`: as lists exactly when every text of the column, and every score beside it, is a list."""
    model_column: Annotated[str | None, Harmless] = None
    """Column of the name of the model that answered; None leaves it unknown."""
    score_column: Annotated[str | None, Harmless] = None
    """Column of the answer's score: a number, its text, or a list of one. Only the scorer `given` uses it; None reads
    no score."""
    finish_reason_column: Annotated[str | None, Harmless] = None
    """Column of the finish reason: `stop` or `length`, or a provider's word for these, or truth values in a column such
    as `truncated` or `is_complete`; None leaves it `unknown`."""
    n_tokens_column: Annotated[str | None, Harmless] = None
    """Column of the answer's number of tokens; None leaves it unknown."""
    index_column: Annotated[str | None, Harmless] = None
    """Column of the answer's number; None numbers the answers of a source in the table's order."""
    source: Annotated[Literal["name", "model"], Harmless] = "name"
    """The `source` of the candidates: `name` is this part's name, `model` is the row's model."""
    keep: Annotated[tuple[str, ...], Harmless, Field(exclude_if=lambda names: not names)] = ()
    """Columns of the table that travel along to the pairs, answers and drops of the dataset; each has one value in all
    rows of a prompt."""

    @model_validator(mode="after")
    def _model_is_named(self) -> Self:
        if self.source == "model" and self.model_column is None:
            raise ValueError('`source="model"` needs `model_column`')
        return self

    def kept_columns(self) -> tuple[str, ...]:
        """Names the columns of `keep`."""
        return self.keep

    def sample(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """Yields all answers of the table to each prompt; see `Sampler.sample`."""
        columns = Columns(
            prompt=self.prompt_column,
            prompt_id=self.prompt_id_column,
            prompt_format=self.prompt_format,
            named=self._roles(),
            completions=self.completions_column,
            keep=self.keep,
        )
        columns = replace(columns, written=self._has_lists(context))
        rows = self._rows(columns.of_table(), context)
        answers = by_prompt(rows, columns, self.name, self._source_of, context.counted, self._table_name)
        return joined(self, answers, tasks, context)

    def _keys(self) -> dict[str, list[str]]:
        if self.completions_column is None or self.completions_column in self.keep:
            return {}
        return {self.completions_column: list(self._roles().values())}

    def _roles(self) -> dict[str, str]:
        """Gives role → column, or key of an object."""
        return {role: name for role in ANSWER_ROLES if (name := getattr(self, f"{role}_column", None)) is not None}

    def _has_lists(self, context: Context) -> bool:
        if self.response_format != "auto" or self.completions_column is not None:
            return self.response_format == "lists"
        names = [self.response_column, *([self.score_column] if self.score_column else [])]
        rows = self._cells(names, [], context)
        cells = ((row[names[0]], row[names[-1]] if self.score_column else None) for row in rows)
        return (shown := answers_shown(cells)).kind == "turns" or shown.in_text

    def _source_of(self, answer: dict[str, Any]) -> str | None:
        if self.source == "name" or self.model_column is None:
            return self.name
        model = answer.get("model")
        return model if isinstance(model, str) and model.strip() else None


class SampleAnswers(Sampler):
    """Recorded answers that are installed with prefdata, one to each prompt of `SamplePrompts`."""

    kind: Literal["sample_answers"] = "sample_answers"
    scored: Annotated[bool, Harmless, Field(exclude_if=lambda scored: not scored)] = False
    """True: four answers of differing quality to each prompt of `SamplePrompts(scored=True)`, with the points that
    their authors gave them, in the layout of UltraFeedback."""

    def pins(self) -> dict[str, JSON]:
        """Returns the SHA-256 of the installed file."""
        return {**super().pins(), **files.pin(files.bundled_sample(scored=self.scored))}

    def sample(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """Yields the recorded answers to each prompt; see `Sampler.sample`."""
        path = files.bundled_sample(scored=self.scored)
        if not self.scored:
            return ExistingCompletions(name=self.name, path=path, response_column="answer").sample(tasks, context)
        table = ExistingCompletions(
            name=self.name,
            path=path,
            prompt_column="instruction",
            completions_column="completions",
            model_column="model",
            score_column="overall_score",
        )
        return table.sample(tasks, context)
