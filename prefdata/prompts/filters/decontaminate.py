"""Defines `Decontaminate`, which drops prompts that occur in evaluation sets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from prefdata import hub
from prefdata.errors import InputError
from prefdata.prompts.base import PromptFilter
from prefdata.prompts.filters._overlap import Overlap
from prefdata.records import Drop, Prompt
from prefdata.spec import JSON, Context, Part
from prefdata.spec.marks import DATASET, FILE, REVISION, Acts, Harmless, is_inside
from prefdata.spec.quoting import quoted
from prefdata.tables import files
from prefdata.tables.table import check_columns

__all__ = ["ALPACA_EVAL", "MT_BENCH", "TRUTHFUL_QA", "Decontaminate", "EvalSet"]


class EvalSet(Part):
    """The texts in one column of a dataset on the Hub or of a file: a cell is a text, a list of texts, or messages."""

    kind: Literal["eval_set"] = "eval_set"
    name: Annotated[str, Harmless, Field(min_length=1)]
    """Name of the set in the details of drops."""
    column: Annotated[str, Harmless]
    """Column of the questions. Of a list of messages, those of the user are read."""
    dataset: Annotated[Annotated[str, Field(pattern=hub.REPO_ID)] | None, DATASET] = None
    """A dataset's repository on the Hub; give either this or `path`."""
    config: Annotated[str | None, Harmless] = None
    """Configuration of the dataset; None takes its default."""
    split: Annotated[str | None, Harmless] = None
    """Split of the dataset; give either this or `file` with a `dataset`."""
    file: Annotated[str | None, Acts("paths", "reads a file outside its repository", unless=is_inside)] = None
    """Path of a file in the repository, read instead of a split: for datasets that consist of a script and data."""
    revision: Annotated[str | None, REVISION] = None
    """Branch, tag or commit SHA of the dataset; None takes the main branch. The lock keeps the commit."""
    path: Annotated[Path | None, FILE] = None
    """A local file: Parquet, JSON lines, JSON or CSV."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either `dataset` or `path`")
        if self.path is not None and any((self.config, self.split, self.file, self.revision)):
            raise ValueError("`config`, `split`, `file` and `revision` belong to `dataset`, not to `path`")
        if self.dataset is not None and (self.split is None) == (self.file is None):
            raise ValueError("a dataset needs either `split` or `file`")
        if self.file is not None and (self.config is not None or ".." in Path(self.file).parts or self.file[0] == "/"):
            raise ValueError(f"`file` {self.file!r} should be a path inside the repository, without `config`")
        return self

    def pins(self) -> dict[str, JSON]:
        """Returns the SHA-256 of the file, or the commit SHA of the dataset."""
        if self.path is not None:
            return {**super().pins(), **files.pin(self.path)}
        assert self.dataset is not None
        return {**super().pins(), "sha": hub.resolve_dataset(self.dataset, self.revision)}

    def texts(self, context: Context) -> Iterator[tuple[int, str]]:
        """Yields row number (from 1) and text, in order; a row may hold several texts.

        Raises:
            InputError: the set can't be read, or a cell of the column does not hold a text.
        """
        for number, row in enumerate(self._rows(context), 1):
            cell = row.get(self.column)
            texts = _texts(cell)
            if not texts or not all(isinstance(text, str) for text in texts):
                raise InputError(
                    f"the evaluation set {self.name!r}, row {number}: {self.column!r} is not a text but {quoted(cell)}",
                    valid="a text, a list of texts, or a list of messages",
                    hint="name the column that holds the questions",
                )
            yield from ((number, text) for text in texts)

    def _rows(self, context: Context) -> Iterable[dict[str, Any]]:
        if self.path is not None:
            return _file_rows(files.pinned(self.path, context.pins), self.column)
        assert self.dataset is not None
        sha = context.pins.get("sha") or hub.resolve_dataset(self.dataset, self.revision)
        if self.split is not None:
            return hub.dataset_table(self.dataset, self.config, self.split, sha).rows(only=[self.column])
        folder, _ = hub.download_dataset(self.dataset, sha, only=hub.one_file(str(self.file)))
        return _file_rows(folder / str(self.file), self.column)


ALPACA_EVAL = EvalSet(name="AlpacaEval", dataset="tatsu-lab/alpaca_eval", file="alpaca_eval.json", column="instruction")
"""The 805 instructions of AlpacaEval 1 and 2."""
MT_BENCH = EvalSet(name="MT-Bench", dataset="HuggingFaceH4/mt_bench_prompts", split="train", column="prompt")
"""The 80 questions of MT-Bench, two turns each."""
TRUTHFUL_QA = EvalSet(
    name="TruthfulQA", dataset="truthfulqa/truthful_qa", config="generation", split="validation", column="question"
)
"""The 817 questions of TruthfulQA."""


class Decontaminate(PromptFilter):
    """Drops `contaminated` prompts: those that share a run of `n` words with a text of an evaluation set.

    Words are compared without case and punctuation; runs don't cross from one message into the next. A text of fewer
    than `n` words matches if a message contains all of it, one of fewer than `short` words only if it is the whole
    message. The detail of a drop names set, row, share and words.

    The usual settings are 13 words (GPT-3, arXiv 2005.14165, appendix C), and 8 words with a `share` of 0.5.
    """

    kind: Literal["decontaminate"] = "decontaminate"
    sets: Annotated[tuple[EvalSet, ...], Harmless, Field(min_length=1)] = (ALPACA_EVAL, MT_BENCH, TRUTHFUL_QA)
    """The evaluation sets; each has a name of its own."""
    n: Annotated[int, Harmless, Field(ge=2)] = 13
    """Number of words in a run."""
    share: Annotated[float, Harmless, Field(ge=0, le=1)] = 0.0
    """Least share of a text's words that must be in shared runs, from 0 to 1; with 0, one run is enough."""
    short: Annotated[int, Harmless, Field(ge=1)] = 5
    """A text with fewer words than this (and fewer than `n`) matches only a whole message."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [eval_set.name for eval_set in self.sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two evaluation sets have the same name: {', '.join(names)}")
        return self

    def filter(self, prompts: Sequence[Prompt], context: Context) -> Iterator[Prompt | Drop]:
        """Drops contaminated prompts; see `PromptFilter.filter`. Counts `eval_texts_without_words`."""
        overlap = Overlap(self.n, self.share, min(self.short, self.n))
        for number, eval_set in enumerate(self.sets):
            texts = list(eval_set.texts(context.child(f"sets.{number}")))
            context.log(f"decontamination: {len(texts):,} texts of {eval_set.name}")
            for row, text in texts:
                if not overlap.add(f"{eval_set.name}, row {row}", text):
                    context.counted("eval_texts_without_words", 1)
        for prompt in prompts:
            detail = overlap.of([message["content"] for message in prompt.messages])
            yield prompt if detail is None else Drop(prompt.prompt_id, "prompts", "contaminated", detail)


def _file_rows(path: Path, column: str) -> Iterable[dict[str, Any]]:
    """Reads the rows of a table, or the objects of one JSON list, the form of many published evaluation sets."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return files.rows(path, only=[column])
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return files.rows(path, only=[column])
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        return files.rows(path, only=[column])
    check_columns(repr(path.name), [column], dict.fromkeys(key for row in content for key in row))
    return content


def _texts(cell: Any) -> list[Any]:
    if isinstance(cell, list) and cell and all(isinstance(item, dict) for item in cell):
        return [item.get("content") for item in cell if item.get("role") == "user"]
    return cell if isinstance(cell, list) else [cell]
