"""`TableAnswers`: the base of samplers that read a table of answers: where it is, and how it is joined.

The table is read once into a dict keyed by prompt id before the first task is answered, so memory grows with the
table's answers (not with its other columns); an answered prompt's rows are let go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from prefdata import hub
from prefdata.records import Candidate, Drop
from prefdata.sampling._completions import PromptAnswers
from prefdata.sampling.base import Sampler, SampleResult, SampleTask
from prefdata.spec import JSON, Context
from prefdata.spec.marks import DATASET, FILE, REVISION, Harmless
from prefdata.tables import files
from prefdata.tables.cells import PromptFormat
from prefdata.tables.prompt_columns import PromptColumns
from prefdata.tables.reasoning import Thinking, set_apart
from prefdata.tables.table import Table

__all__ = ["TableAnswers", "joined", "set_answer_apart"]


class TableAnswers(Sampler):
    """Answers in a file or in a dataset of the Hub, joined to the prompts by prompt id."""

    path: Annotated[Path | None, FILE] = None
    """A file of Parquet, JSON lines or CSV; give either this or `dataset`."""
    dataset: Annotated[Annotated[str, Field(pattern=hub.REPO_ID)] | None, DATASET] = None
    """A dataset's repository on the Hub."""
    config: Annotated[str | None, Harmless] = None
    """Configuration of the dataset; None takes its default."""
    split: Annotated[str | None, Harmless] = None
    """Split of the dataset; None is `train`."""
    revision: Annotated[str | None, REVISION] = None
    """Branch, tag or commit SHA of the dataset; None takes the main branch. The lock keeps the commit."""
    prompt_column: Annotated[str, Harmless] = "prompt"
    """Holds the prompt as the prompt source reads it; not read when `prompt_id_column` is named."""
    prompt_id_column: Annotated[str | None, Harmless] = None
    """Holds the prompt id."""
    prompt_format: Annotated[PromptFormat, Harmless] = "auto"
    """How a text in `prompt_column` is read; the same as in the prompt source."""
    system_column: Annotated[str | None, Harmless, Field(exclude_if=lambda name: name is None)] = None
    """Column of a system turn in front of the prompt; the same as in the prompt source."""
    input_column: Annotated[str | None, Harmless, Field(exclude_if=lambda name: name is None)] = None
    """Column of a further input to the prompt; the same as in the prompt source."""
    thinking: Annotated[Thinking, Harmless, Field(exclude_if=lambda how: how == "keep")] = "keep"
    """What becomes of the reasoning that an answer begins with (`<think>...</think>`, harmony), which is no part of it.
    `keep` stores it in the build beside the answer, `cut` stores the answer alone, `refuse` drops answers
    with reasoning (`has_reasoning`)."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either `path` or `dataset`")
        if self.path is not None and any((self.config, self.split, self.revision)):
            raise ValueError("`config`, `split` and `revision` belong to `dataset`, not to `path`")
        return self

    def pins(self) -> dict[str, JSON]:
        """The SHA-256 of the file, or the commit SHA of the dataset."""
        if self.path is not None:
            return {**super().pins(), **files.pin(self.path)}
        assert self.dataset is not None
        return {**super().pins(), "sha": hub.resolve_dataset(self.dataset, self.revision)}

    @property
    def _table_name(self) -> str:
        # Only the file's name: a published table must not hold a local path.
        return self.path.name if self.path is not None else f"{self.dataset}, {self.split or 'train'}"

    def _rows(self, only: list[str], context: Context) -> Iterator[dict[str, Any]]:
        """Yields the rows, with the whole prompt in `prompt_column` where that is read."""
        asked = PromptColumns(self.prompt_column, self.system_column, self.input_column, self.prompt_format)
        if self.prompt_id_column is not None or self.prompt_column not in only:
            return self._cells(only, [], context)
        only = list(dict.fromkeys([*only, *asked.names()]))
        return asked.cells(self._cells(only, asked.unread(), context), self._table_name)

    def _keys(self) -> dict[str, list[str]]:
        """Gives the keys that are read of the objects in a column."""
        return {}

    def _cells(self, only: list[str], optional: list[str], context: Context) -> Iterator[dict[str, Any]]:
        ids = [self.prompt_id_column] if self.prompt_id_column in only else []
        return self._table(context).narrowed(self._keys()).rows(only=only, optional=optional, ids=ids)

    def _table(self, context: Context) -> Table:
        if self.path is not None:
            return files.open_table(files.pinned(self.path, context.pins))
        assert self.dataset is not None
        sha = context.pins.get("sha") or hub.resolve_dataset(self.dataset, self.revision)
        return hub.dataset_table(self.dataset, self.config, self.split or "train", sha)


def joined(
    sampler: TableAnswers, answers: dict[str, PromptAnswers], tasks: Iterable[SampleTask], context: Context
) -> Iterator[SampleResult]:
    """Yields the answers of a table to each task, and counts the rows of prompts that no task asks for."""
    name = sampler.name
    for task in tasks:
        prompt_id = task.prompt.prompt_id
        prompt = answers.pop(prompt_id, None)
        if prompt is None or not (prompt.candidates or prompt.drops):
            drop = Drop(prompt_id, "candidates", "no_completion", "the table has no answer", name, task.index)
            yield SampleResult(task.key, drops=(drop,), kept=None if prompt is None else prompt.kept)
        else:
            apart = [set_answer_apart(candidate, sampler.thinking) for candidate in prompt.candidates]
            candidates = tuple(each for each in apart if isinstance(each, Candidate))
            drops = tuple(each for each in apart if isinstance(each, Drop))
            yield SampleResult(task.key, candidates, (*prompt.drops, *drops), prompt.kept)
    if others := sum(prompt.rows for prompt in answers.values()):
        context.counted("rows_of_other_prompts", others)


def set_answer_apart(candidate: Candidate, thinking: Thinking) -> Candidate | Drop:
    """Takes the reasoning out of an answer, or drops it."""
    apart = set_apart(candidate.response, thinking)
    if not apart.refused:
        return replace(candidate, response=apart.text, reasoning=apart.reasoning or None)
    return Drop(candidate.prompt_id, "candidates", "has_reasoning", apart.refused, candidate.source, candidate.index)
