"""`DatasetFrames`: the tables of one dataset as frames of Polars, each read when it is first asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from prefdata.errors import InputError
from prefdata.hub import DatasetTables
from prefdata.inspection._files import AuditFile, read_json, read_table, table_errors
from prefdata.inspection._foreign_frames import frame_of_part, joined
from prefdata.inspection.pairs import pair_frames
from prefdata.lazy import pl
from prefdata.tables import files


class DatasetFrames:
    """Reads the tables of a dataset.

    Args:
        name: the dataset, for messages.
        folder: the dataset folder, where prefdata has written it.
        tables: its tables, where it has not.
    """

    def __init__(self, name: str, folder: Path | None, tables: DatasetTables | None = None) -> None:
        self.name, self.folder, self._found = name, folder, tables

    @cached_property
    def by_split(self) -> dict[str, pl.DataFrame]:
        """The pairs of each split, train before test."""
        if self._found is not None:
            return {split: joined(list(map(frame_of_part, parts))) for split, parts in self._found.splits.items()}
        found = pair_frames(self._written("pairs"))
        return dict(sorted(found.items(), key=lambda each: (not each[0].startswith("train"), each[0])))

    @cached_property
    def pairs(self) -> pl.DataFrame:
        """The pairs of all splits; the column `split` names each pair's."""
        # A column that is added to none would be a row.
        frames = {split: frame for split, frame in self.by_split.items() if frame.width or self.is_ours}
        parts = [frame.with_columns(split=pl.lit(split)) for split, frame in frames.items()]
        if not self.is_ours:
            return joined(parts)
        with table_errors(f"the splits of {self.name} have columns of other types"):
            return pl.concat(parts, how="diagonal_relaxed")

    @property
    def is_ours(self) -> bool:
        """Whether prefdata has written the tables."""
        return self._found is None

    @cached_property
    def lacks_types(self) -> bool:
        """Whether a file is of separated values, all of whose cells are texts."""
        parts = [] if self._found is None else [part for parts in self._found.splits.values() for part in parts]
        return any(files.open_table(part).lacks_types for part in parts)

    @cached_property
    def answers(self) -> pl.DataFrame:
        """Every answer with its score.

        Raises:
            InputError: the dataset was published without its answers.
        """
        return self._tables("candidates", "answers: it was made without --with-candidates")

    @cached_property
    def scores(self) -> pl.DataFrame:
        """The score of each answer, or why it has none."""
        with table_errors(f"the answers of {self.name} are not as prefdata writes them"):
            return self.answers.select("prompt_id", "source", "index", "score", "unscored")

    @cached_property
    def comparisons(self) -> pl.DataFrame:
        """What a pairwise scorer said of two answers.

        Raises:
            InputError: the dataset's scorer made no comparisons.
        """
        return self._tables("comparisons", "comparisons: its scorer made none")

    @cached_property
    def drops(self) -> pl.DataFrame:
        """Every dropped prompt."""
        folder = self._written("drops")
        return read_table(folder / "drops.parquet", folder)

    @cached_property
    def audit(self) -> dict[str, Any]:
        """The content of `audit.json`."""
        folder = self._written("audit")
        return read_json(folder / "audit.json", folder, AuditFile)

    def has(self, table: str) -> bool:
        """Checks whether the dataset has `candidates`, `comparisons`, `drops` or `audit`; reads nothing."""
        return self.folder is not None and any(
            next(self.folder.glob(pattern), None) for pattern in (f"{table}/*.parquet", f"{table}.*")
        )

    def _tables(self, folder: str, lacks: str) -> pl.DataFrame:
        path = self._written(folder)
        found = sorted(path.glob(f"{folder}/*.parquet"))
        if not found:
            raise InputError(f"{self.name} has no {lacks}", valid="a dataset that holds them")
        return self._concat([read_table(file, path) for file in found])

    def _concat(self, frames: list[pl.DataFrame]) -> pl.DataFrame:
        with table_errors(f"the files of {self.name} have other columns"):
            return pl.concat(frames)

    def _written(self, what: str) -> Path:
        """Gives the folder that prefdata has written."""
        if self.folder is None:
            folder = self._found is not None and self._found.path is not None and self._found.path.is_dir()
            raise InputError(
                f"{self.name} has pairs and no {what}: prefdata has not written it"
                if folder
                else f"{self.name} is one table, which has pairs and no {what}",
                valid="a build or its dataset",
            )
        return self.folder
