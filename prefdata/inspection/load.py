"""`load`: a dataset as frames."""

from __future__ import annotations

import importlib.util
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

from prefdata.errors import InputError, MissingExtraError
from prefdata.hub import CARDS, DatasetTables, find_dataset, find_tables
from prefdata.inspection._files import (
    MARKS,
    AuditFile,
    at_commit,
    is_ours,
    read_json,
    read_table,
    refuse_unfinished,
    table_errors,
)
from prefdata.inspection.pairs import pair_frames
from prefdata.lazy import pl
from prefdata.tables import files

__all__ = ["Frames", "Loaded", "load"]

Frames: TypeAlias = Literal["pandas", "polars", "arrow"]
"""Kinds of frames."""


_FILES = (
    *("README.md", "*.json", "drops.parquet", "drops_candidates.parquet", "splits.parquet", "data/*.parquet"),
    *("trace/*.parquet", "candidates/*.parquet", "comparisons/*.parquet"),
)


def load(where: str | PathLike[str], *, config: str | None = None) -> Loaded:
    """Opens a dataset; its tables are read when they are first used.

    Args:
        where: a build, its folder, a dataset folder, a file of pairs (Parquet, JSON lines or CSV), any folder of tables
            that `load_dataset` reads, or `owner/name` or `owner/name@revision` of a dataset of the Hub.
        config: the configuration of a dataset that prefdata has not written.

    Raises:
        InputError: there is no such dataset, or several configurations and no default one.
    """
    found = find_dataset(where, only=(*MARKS, *CARDS))
    path = found.dataset
    if path.is_dir() and is_ours(path) and config is None:
        found = find_dataset(at_commit(where, found), only=_FILES)
        return Loaded(found.dataset, found.commit)
    refuse_unfinished(where, found.path)
    # The folder of a dataset of the Hub without a card is only made for its tables.
    if found.commit is None and not path.is_dir():
        return Loaded(path)
    tables = find_tables(at_commit(where, found), config=config)
    return Loaded(tables.path, tables.commit, tables=tables)


class Loaded:
    """A dataset whose tables are frames: of pandas, unless `to` says otherwise.

    Args:
        path: the dataset folder, or a file of pairs.
        commit: the commit of a dataset of the Hub.
        frames: the kind of the frames.
        tables: its tables, where prefdata has not written it.
    """

    def __init__(
        self,
        path: Path,
        commit: str | None = None,
        frames: Frames = "pandas",
        tables: DatasetTables | None = None,
    ) -> None:
        self.path, self.commit, self.frames = path, commit, frames
        self._found = tables

    def __repr__(self) -> str:
        return f"Loaded({str(self.path)!r}, frames={self.frames!r})"

    def to(self, frames: Frames) -> Loaded:
        """Gives the same dataset with frames of another kind.

        Raises:
            InputError: there is no such kind.
        """
        if frames not in ("pandas", "polars", "arrow"):
            raise InputError(f"{frames!r} is not a kind of frames", valid="pandas, polars, arrow")
        return Loaded(self.path, self.commit, frames, self._found)

    @cached_property
    def pairs(self) -> Any:
        """Every pair with how the rule decided, train before test; the column `split` names its split."""
        parts = [frame.with_columns(split=pl.lit(split)) for split, frame in self._by_split.items()]
        with table_errors(f"the splits of {str(self.path)!r} have columns of other types"):
            return self._as(pl.concat(parts, how="diagonal_relaxed"))

    @cached_property
    def splits(self) -> dict[str, Any]:
        """The pairs of each split."""
        return {split: self._as(frame) for split, frame in self._by_split.items()}

    @cached_property
    def candidates(self) -> Any:
        """Every answer with its score.

        Raises:
            InputError: the dataset was published without its answers.
        """
        return self._as(self._answers)

    @cached_property
    def scores(self) -> Any:
        """The score of each answer, or why it has none: prompt_id, source, index, score, unscored.

        Raises:
            InputError: the dataset was published without its answers.
        """
        with table_errors(f"the answers of {str(self.path)!r} are not as prefdata writes them"):
            return self._as(self._answers.select("prompt_id", "source", "index", "score", "unscored"))

    @cached_property
    def comparisons(self) -> Any:
        """What a pairwise scorer said of two answers.

        Raises:
            InputError: the dataset's scorer made no comparisons.
        """
        return self._as(self._tables("comparisons", "comparisons: its scorer made none"))

    @cached_property
    def drops(self) -> Any:
        """Every dropped prompt: prompt_id, stage, reason, detail."""
        return self._as(read_table(self._folder("drops") / "drops.parquet", self.path))

    @cached_property
    def audit(self) -> dict[str, Any]:
        """The measures of the dataset's biases, and the recipe's limits."""
        return read_json(self._folder("audit") / "audit.json", self.path, AuditFile)

    @cached_property
    def _by_split(self) -> dict[str, pl.DataFrame]:
        if self._found is not None:
            return {
                split: self._concat([_frame(file, self.path) for file in parts])
                for split, parts in self._found.splits.items()
            }
        if self.path.is_dir():
            found = pair_frames(self.path)
            return dict(sorted(found.items(), key=lambda each: (not each[0].startswith("train"), each[0])))
        return {"train": _frame(self.path)}

    @cached_property
    def _answers(self) -> pl.DataFrame:
        return self._tables("candidates", "answers: it was made without --with-candidates")

    def _tables(self, folder: str, lacks: str) -> pl.DataFrame:
        found = sorted(self._folder(folder).glob(f"{folder}/*.parquet"))
        if not found:
            raise InputError(f"{str(self.path)!r} has no {lacks}", valid="a dataset that holds them")
        return self._concat([read_table(file, self.path) for file in found])

    def _concat(self, frames: list[pl.DataFrame]) -> pl.DataFrame:
        with table_errors(f"the files of {str(self.path)!r} have other columns"):
            return pl.concat(frames)

    def _folder(self, what: str) -> Path:
        if self._found is not None:
            raise InputError(
                f"{str(self.path)!r} has pairs and no {what}: prefdata has not written it",
                valid="a build or its dataset",
            )
        if not self.path.is_dir():
            raise InputError(
                f"{str(self.path)!r} is a file, which has pairs and no {what}", valid="a build or a dataset folder"
            )
        return self.path

    def _as(self, frame: pl.DataFrame) -> Any:
        if self.frames == "polars":
            return frame
        if self.frames == "arrow":
            return frame.to_arrow()
        if importlib.util.find_spec("pandas") is None:
            raise MissingExtraError(
                "frames of pandas need the package 'pandas', which is not installed",
                hint='pip install pandas, or: load(...).to("polars")',
            )
        return frame.to_pandas()


def _frame(path: Path, folder: Path | None = None) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return read_table(path, folder)
    return pl.DataFrame(list(files.rows(path)), infer_schema_length=None)
