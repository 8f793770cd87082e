"""`ExistingCompletions` and `SampleAnswers`: answers that are there already, recorded or published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from prefdata.sampling._completions import Columns, by_prompt
from prefdata.sampling._table import TableAnswers, joined
from prefdata.sampling.base import Sampler, SampleResult, SampleTask
from prefdata.spec import JSON, Context
from prefdata.tables import files
from prefdata.tables.row_answers import ANSWER_ROLES

__all__ = ["ExistingCompletions", "SampleAnswers"]


class ExistingCompletions(TableAnswers):
    """Answers from a file or a dataset of the Hub, joined to the prompts by prompt id.

    Three layouts: one answer a row; one prompt a row with `completions_column`, a list of objects (UltraFeedback);
    one prompt a row with a list of texts in `response_column`, beside lists of scores and so on (Snorkel).
    """

    kind: Literal["existing"] = "existing"
    completions_column: str | None = None
    """Holds a list of objects, one an answer; the columns below are then keys of these objects."""
    response_column: str = "response"
    """Holds the answer's text, or a list of texts."""
    model_column: str | None = None
    """Holds the name of the model that answered."""
    score_column: str | None = None
    """Holds the score that came with the answer: a number, its text, or a list of one."""
    finish_reason_column: str | None = None
    """Holds `stop` or `length` (or a provider's word for these)."""
    n_tokens_column: str | None = None
    """Holds the answer's number of tokens."""
    index_column: str | None = None
    """Holds the answer's number; without one, answers of a source are numbered in the table's order."""
    source: Literal["name", "model"] = "name"
    """What stands in the `source` column: this part's name, or the row's model."""

    @model_validator(mode="after")
    def _model_is_named(self) -> Self:
        if self.source == "model" and self.model_column is None:
            raise ValueError('`source="model"` needs `model_column`')
        return self

    def sample(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """All answers of the table to each prompt; see `Sampler.sample`."""
        columns = Columns(
            prompt=self.prompt_column,
            prompt_id=self.prompt_id_column,
            prompt_format=self.prompt_format,
            named={role: name for role in ANSWER_ROLES if (name := getattr(self, f"{role}_column", None)) is not None},
            completions=self.completions_column,
        )
        rows = self._rows(columns.of_table(), context)
        answers = by_prompt(rows, columns, self.name, self._source_of, context.counted)
        return joined(self.name, answers, tasks, context)

    def _source_of(self, answer: dict[str, Any]) -> str | None:
        if self.source == "name" or self.model_column is None:
            return self.name
        model = answer.get("model")
        return model if isinstance(model, str) and model.strip() else None


class SampleAnswers(Sampler):
    """The recorded answers that are installed with prefdata, for the prompts of `SamplePrompts`: one a prompt."""

    kind: Literal["sample_answers"] = "sample_answers"
    scored: Annotated[bool, Field(exclude_if=lambda scored: not scored)] = False
    """Four answers of differing quality to each prompt of `SamplePrompts(scored=True)`, with the points that their
    authors gave them, in the layout of UltraFeedback."""

    def pins(self) -> dict[str, JSON]:
        """The SHA-256 of the installed file."""
        return {**super().pins(), **files.pin(files.bundled_sample(scored=self.scored))}

    def sample(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """The recorded answers to each prompt; see `Sampler.sample`."""
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
