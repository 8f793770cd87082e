"""Reads the pairs of a dataset folder, whichever layout they are in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdata.errors import InputError, closest
from prefdata.lazy import pa, pq
from prefdata.records import Message, as_messages
from prefdata.tables.cells import parse_score
from prefdata.tables.parquet import open_parquet, rows_at_once

__all__ = ["Answers", "SplitFiles", "split_files"]

_COLUMNS = "prompt, chosen, rejected (texts or lists of messages); chosen, rejected (whole conversations); or prompt, "
_VALID = _COLUMNS + "completion, label"


@dataclass(frozen=True)
class Answers:
    """One row of a dataset: a prompt and its two answers, or one answer and its label."""

    row: int
    """Position in the split."""
    id: str
    """`prompt_id`, or the position where the dataset has none."""
    prompt: list[Message]
    answers: tuple[list[Message], ...]
    """Chosen and rejected, or the one completion."""
    label: bool | None = None
    """Whether the one completion is desirable."""
    prompts_differ: bool = False
    """Whether the two conversations differ before their last turn."""
    numbers: dict[str, float | None] = field(default_factory=dict)
    """The columns that an objective reads; None where a cell holds no number."""


@dataclass(frozen=True)
class SplitFiles:
    """The Parquet files of one split."""

    name: str
    files: tuple[Path, ...]
    schema: Any
    """The Arrow schema of the first file."""

    @property
    def paired(self) -> bool:
        """Whether a row holds two answers."""
        return "completion" not in self.schema.names

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(int(pq.ParquetFile(file).metadata.num_rows) for file in self.files)

    def check(self, columns: Sequence[str], *, kind: str, paired: bool) -> None:
        """Checks that the rows can be read and have what an objective reads.

        Raises:
            InputError: a column is missing.
        """
        names = set(self.schema.names)
        if not ({"chosen", "rejected"} <= names or {"prompt", "completion", "label"} <= names):
            raise InputError(f"the split {self.name!r} holds no pairs: {', '.join(self.schema.names)}", valid=_VALID)
        if paired and not self.paired:
            raise InputError(
                f"the objective {kind!r} trains on pairs, and the split {self.name!r} holds single answers",
                hint="take the objective 'kto', or the dataset in its layout 'trl'",
            )
        missing = [name for name in columns if name not in names]
        if missing:
            raise InputError(
                f"the objective {kind!r} reads {', '.join(columns)}, and the dataset has no {', '.join(missing)}",
                valid=f"columns: {closest(missing[0], self.schema.names)}",
                hint="build the dataset with the pair rule 'sppo' or 'gpo', or take another objective",
            )

    def read(self, columns: Sequence[str], limit: int | None = None) -> Iterator[Answers]:
        """Reads the rows in order.

        Args:
            columns: of numbers that come along.
            limit: at most this many rows.
        """
        wanted = ("prompt_id", "prompt", "chosen", "rejected", "completion", "label", *columns)
        names = [name for name in wanted if name in self.schema.names]
        # A text next to whole conversations is not the prompt's messages.
        implicit = self.paired and _is_messages(self.schema, "chosen") and not _is_messages(self.schema, "prompt")
        position = 0
        for file in self.files:
            with open_parquet(file) as opened:
                for batch in opened.iter_batches(batch_size=rows_at_once(file, 512), columns=names):
                    for row in batch.to_pylist():
                        if position == limit:
                            return
                        yield _answers(row, position, columns, implicit=implicit)
                        position += 1


def split_files(folder: Path) -> dict[str, SplitFiles]:
    """Finds the splits of a dataset folder, those of training first: name → files.

    Raises:
        InputError: the folder holds no Parquet file that is named after its split.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        files.setdefault(path.name.partition("-")[0].removesuffix(".parquet"), []).append(path)
    if not files:
        raise InputError(
            f"{str(folder)!r} holds no finished dataset",
            valid="a build, a dataset folder or a dataset of the Hub, with data/train-*.parquet",
            hint="prefdata build RECIPE makes one",
        )
    names = sorted(files, key=lambda name: (not name.startswith("train"), name))
    return {name: SplitFiles(name, tuple(files[name]), pq.read_schema(files[name][0])) for name in names}


def _is_messages(schema: Any, name: str) -> bool:
    return name in schema.names and pa.types.is_list(schema.field(name).type)


def _answers(row: dict[str, Any], position: int, columns: Sequence[str], *, implicit: bool) -> Answers:
    numbers = {name: parse_score(row[name]) for name in columns}
    shared: dict[str, Any] = {"row": position, "id": str(row.get("prompt_id") or position), "numbers": numbers}
    if "completion" in row:
        return Answers(
            prompt=_turns(row["prompt"], "user"),
            answers=(_turns(row["completion"], "assistant"),),
            label=bool(row["label"]),
            **shared,
        )
    chosen, rejected = (_turns(row[name], "assistant") for name in ("chosen", "rejected"))
    if implicit:
        differ = chosen[:-1] != rejected[:-1]
        return Answers(prompt=chosen[:-1], answers=(chosen[-1:], rejected[-1:]), prompts_differ=differ, **shared)
    return Answers(prompt=_turns(row.get("prompt"), "user"), answers=(chosen, rejected), **shared)


def _turns(cell: Any, role: str) -> list[Message]:
    if cell is None:
        return []
    if isinstance(cell, str):
        return [Message(role=role, content=cell)] if role == "assistant" else list(as_messages(cell))
    return [Message(role=str(turn["role"]), content=turn["content"] or "") for turn in cell]
