"""A dataset folder of prefdata that was published with its answers."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from pathlib import Path

from prefdata.page.answers import ANSWER_COLUMNS, TRACE_COLUMNS, PromptRows, answers_of_rows
from prefdata.page.described import described_dataset
from prefdata.page.flags import duplicates_of
from prefdata.page.rows import PageRow
from prefdata.page.sources import Overview, turns_of
from prefdata.page.streams import Group, aligned, by_prompt, text_bytes
from prefdata.tables.documents import check_regular

__all__ = ["DatasetSource", "split_files"]


def split_files(folder: Path, table: str) -> dict[str, list[Path]]:
    """Lists the files of each split of one table of a dataset folder."""
    files: dict[str, list[Path]] = {}
    for file in sorted((folder / table).glob("*.parquet")):
        files.setdefault(file.name.partition("-")[0], []).append(file)
    return files


class DatasetSource:
    """Reads the answers, and who was picked from the trace.

    Args:
        folder: the dataset folder, with `candidates/`.
        title: its name.
        commit: of a dataset of the Hub.
    """

    kind = "dataset"
    sides = ("chosen", "rejected")
    titles: Mapping[str, str] = {}

    def __init__(self, folder: Path, title: str, commit: str | None = None) -> None:
        self.folder, self.title, self.commit = folder, title, commit
        self._answers = [file for files in split_files(folder, "candidates").values() for file in files]
        self._made = PromptRows("no pair")

    def text_bytes(self) -> int:
        """Says about how many bytes of text there are."""
        return text_bytes(self._answers)

    def rows(self) -> Iterator[PageRow]:
        """Yields every pair and dropped prompt, by id."""
        dropped = (row for _, rows in self._side_table("drops.parquet") for row in rows)
        self._made = PromptRows("no pair", duplicates_of(dropped))
        drops, lost = (self._side_table(name) for name in ("drops.parquet", "drops_candidates.parquet"))
        answers = by_prompt(self._answers, self.folder, ANSWER_COLUMNS)
        for prompt_id, (answer_rows, pairs, of_drops, ineligible) in aligned(answers, self._pairs(), drops, lost):
            turns = turns_of(answer_rows[0].get("prompt")) if answer_rows else []
            yield from self._made.make(prompt_id, turns, answers_of_rows(answer_rows, ineligible), pairs, of_drops)

    def _pairs(self) -> Iterator[Group]:
        table = "trace" if (self.folder / "trace").is_dir() else "data"
        streams = [self._groups(split, files) for split, files in split_files(self.folder, table).items()]
        for prompt_id, tables in aligned(*streams):
            yield prompt_id, list(heapq.merge(*tables, key=lambda row: row.get("pair_index") or 0))

    def _groups(self, split: str, files: list[Path]) -> Iterator[Group]:
        for prompt_id, rows in by_prompt(files, self.folder, TRACE_COLUMNS):
            yield prompt_id, [{**row, "split": split} for row in rows]

    def _side_table(self, name: str) -> Iterator[Group]:
        path = self.folder / name
        if not path.exists() and not path.is_symlink():
            return iter(())
        check_regular(path, self.folder)
        return by_prompt([path], self.folder, ("prompt_id", "stage", "reason", "detail", "source", "index"))

    def overview(self) -> Overview:
        """Describes the dataset from its documents."""
        return described_dataset(self.folder, self.title, self.commit, self._made)
