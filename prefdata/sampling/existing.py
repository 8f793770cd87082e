"""`ExistingCompletions` and `SampleAnswers`: answers that are there already, recorded or published.

The table is read once into a dict keyed by prompt id before the first task is answered, so memory grows with the
table's answers (not with its other columns); an answered prompt's rows are let go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from prefdata import files, hub
from prefdata.conversations import PromptFormat
from prefdata.records import Drop
from prefdata.sampling._completions import Columns, Found, by_prompt
from prefdata.sampling.base import Drawn, Sampler, Task
from prefdata.spec import JSON, Context

__all__ = ["ExistingCompletions", "SampleAnswers"]


class ExistingCompletions(Sampler):
    """Answers from a file or a dataset of the Hub, joined to the prompts by prompt id.

    Three layouts: one answer a row; one prompt a row with `completions_column`, a list of objects (UltraFeedback);
    one prompt a row with a list of texts in `response_column`, beside lists of scores and so on (Snorkel).
    """

    kind: Literal["existing"] = "existing"
    path: Path | None = None
    """A file of Parquet, JSON lines or CSV; give either this or `dataset`."""
    dataset: Annotated[str, Field(pattern=hub.REPO_ID)] | None = None
    """A dataset's repository on the Hub."""
    config: str | None = None
    """Configuration of the dataset; None takes its default."""
    split: str | None = None
    """Split of the dataset; None is `train`."""
    revision: str | None = None
    """Branch, tag or commit SHA of the dataset; None takes the main branch. The lock keeps the commit."""
    prompt_column: str = "prompt"
    """Holds the prompt as the prompt source reads it; not read when `prompt_id_column` is named."""
    prompt_id_column: str | None = None
    """Holds the prompt id."""
    prompt_format: PromptFormat = "auto"
    """How a text in `prompt_column` is read; the same as in the prompt source."""
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
    def _one_place(self) -> Self:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either `path` or `dataset`")
        if self.path is not None and any((self.config, self.split, self.revision)):
            raise ValueError("`config`, `split` and `revision` belong to `dataset`, not to `path`")
        if self.source == "model" and self.model_column is None:
            raise ValueError('`source="model"` needs `model_column`')
        return self

    def pins(self) -> dict[str, JSON]:
        """The SHA-256 of the file, or the commit SHA of the dataset."""
        if self.path is not None:
            return {**super().pins(), **files.pin(self.path)}
        assert self.dataset is not None
        return {**super().pins(), "sha": hub.resolve_dataset(self.dataset, self.revision)}

    def sample(self, tasks: Iterable[Task], context: Context) -> Iterator[Drawn]:
        """All answers of the table to each prompt; see `Sampler.sample`."""
        columns = Columns(
            prompt=self.prompt_column,
            prompt_id=self.prompt_id_column,
            prompt_format=self.prompt_format,
            completions=self.completions_column,
            response=self.response_column,
            model=self.model_column,
            score=self.score_column,
            finish_reason=self.finish_reason_column,
            n_tokens=self.n_tokens_column,
            index=self.index_column,
        )
        rows = self._rows(columns.of_table(), context)
        found = by_prompt(rows, columns, self.name, self._source_of, context.counted)
        return _joined(self.name, found, tasks, context)

    def _rows(self, only: list[str], context: Context) -> Iterator[dict[str, Any]]:
        if self.path is not None:
            return files.rows(files.pinned(self.path, context.pins), only=only)
        assert self.dataset is not None
        sha = context.pins.get("sha") or hub.resolve_dataset(self.dataset, self.revision)
        return hub.dataset_rows(self.dataset, self.config, self.split or "train", sha, only=only)

    def _source_of(self, answer: dict[str, Any]) -> str | None:
        if self.source == "name" or self.model_column is None:
            return self.name
        model = answer.get(self.model_column)
        return model if isinstance(model, str) and model.strip() else None


class SampleAnswers(Sampler):
    """The recorded teacher answers that are installed with prefdata, for the prompts of `SamplePrompts`."""

    kind: Literal["sample_answers"] = "sample_answers"

    def pins(self) -> dict[str, JSON]:
        """The SHA-256 of the installed file."""
        return {**super().pins(), **files.pin(files.bundled_sample())}

    def sample(self, tasks: Iterable[Task], context: Context) -> Iterator[Drawn]:
        """The recorded answer to each prompt; see `Sampler.sample`."""
        table = ExistingCompletions(name=self.name, path=files.bundled_sample(), response_column="answer")
        return table.sample(tasks, context)


def _joined(name: str, found: dict[str, Found], tasks: Iterable[Task], context: Context) -> Iterator[Drawn]:
    for task in tasks:
        prompt_id = task.prompt.prompt_id
        slot = found.pop(prompt_id, None)
        if slot is None or not (slot.candidates or slot.drops):
            drop = Drop(prompt_id, "candidates", "no_completion", "the table has no answer", name, task.index)
            yield Drawn(task.key, drops=(drop,))
        else:
            yield Drawn(task.key, tuple(slot.candidates), tuple(slot.drops))
    if others := sum(slot.rows for slot in found.values()):
        context.counted("rows_of_other_prompts", others)
