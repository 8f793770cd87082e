"""`load`: a dataset as frames."""

from __future__ import annotations

import importlib.util
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

from prefdata.errors import InputError, MissingExtraError
from prefdata.hub import find_dataset
from prefdata.inspection._files import AuditFile, read_json, read_table, table_errors
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


def load(where: str | PathLike[str]) -> Loaded:
    """Opens a dataset; its tables are read when they are first used.

    Args:
        where: a build, its folder, a dataset folder, a file of pairs (Parquet, JSON lines or CSV), or `owner/name` or
            `owner/name@revision` of a dataset of the Hub.

    Raises:
        InputError: there is no such dataset.
    """
    found = find_dataset(where, only=_FILES)
    path = found.dataset
    if path.is_dir() and not any(path.glob("data/*.parquet")):
        raise InputError(
            f"{str(where)!r} holds no dataset",
            valid="a finished build, a dataset folder with data/*.parquet, or a file of pairs",
            hint="run the build again: it goes on where it stopped",
        )
    return Loaded(path, found.commit)


class Loaded:
    """A dataset whose tables are frames: of pandas, unless `to` says otherwise.

    Args:
        path: the dataset folder, or a file of pairs.
        commit: the commit of a dataset of the Hub.
        frames: the kind of the frames.
    """

    def __init__(self, path: Path, commit: str | None = None, frames: Frames = "pandas") -> None:
        self.path, self.commit, self.frames = path, commit, frames

    def __repr__(self) -> str:
        return f"Loaded({str(self.path)!r}, frames={self.frames!r})"

    def to(self, frames: Frames) -> Loaded:
        """Gives the same dataset with frames of another kind.

        Raises:
            InputError: there is no such kind.
        """
        if frames not in ("pandas", "polars", "arrow"):
            raise InputError(f"{frames!r} is not a kind of frames", valid="pandas, polars, arrow")
        return Loaded(self.path, self.commit, frames)

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
        if self.path.is_dir():
            found = pair_frames(self.path)
            return dict(sorted(found.items(), key=lambda each: (not each[0].startswith("train"), each[0])))
        if self.path.suffix == ".parquet":
            return {"train": read_table(self.path)}
        return {"train": pl.DataFrame(list(files.rows(self.path)), infer_schema_length=None)}

    @cached_property
    def _answers(self) -> pl.DataFrame:
        return self._tables("candidates", "answers: it was made without --with-candidates")

    def _tables(self, folder: str, lacks: str) -> pl.DataFrame:
        found = sorted(self._folder(folder).glob(f"{folder}/*.parquet"))
        if not found:
            raise InputError(f"{str(self.path)!r} has no {lacks}", valid="a dataset that holds them")
        with table_errors(f"the files of {str(self.path / folder)!r} have other columns"):
            return pl.concat([read_table(file, self.path) for file in found])

    def _folder(self, what: str) -> Path:
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
