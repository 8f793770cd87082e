"""`load`: a dataset as frames, and frames that answer the usual questions."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from prefdata.hub import CARDS, MARKS, at_commit, find_dataset, find_tables, is_ours, is_path, name_of
from prefdata.inspection import questions
from prefdata.inspection._as_frames import FrameKind, as_frame, check_kind
from prefdata.inspection._dataset_frames import DatasetFrames
from prefdata.inspection._files import refuse_unfinished
from prefdata.inspection.plots import Plots
from prefdata.spec.pages import page
from prefdata.tables.files import TableLike

__all__ = ["Loaded", "load"]

_FILES = (
    *("README.md", "*.json", "drops.parquet", "drops_candidates.parquet", "splits.parquet", "data/*.parquet"),
    *("trace/*.parquet", "candidates/*.parquet", "comparisons/*.parquet"),
)


def load(where: TableLike, *, config: str | None = None) -> Loaded:
    """Opens a dataset; its tables are read when they are first used.

    Args:
        where: a build, its folder, a dataset folder, a file of pairs (Parquet, JSON lines or CSV), any folder of tables
            that `load_dataset` reads, `owner/name` or `owner/name@revision` of a dataset of the Hub, a frame of pandas,
            Polars or Arrow, a `datasets.Dataset`, or split → frame.
        config: the configuration of a dataset that prefdata has not written.

    Raises:
        InputError: there is no such dataset, or several configurations and no default one.
    """
    if is_path(where):
        found = find_dataset(where, only=(*MARKS, *CARDS))
        path = found.dataset
        if path.is_dir() and is_ours(path) and config is None:
            found = find_dataset(at_commit(where, found), only=_FILES)
            tables = DatasetFrames(repr(str(found.dataset)), found.dataset)
            return Loaded(tables, path=found.dataset, commit=found.commit)
        refuse_unfinished(where, found)
        where = at_commit(where, found)
    found_tables = find_tables(where, config=config)
    name = name_of(where) if found_tables.path is None else repr(str(found_tables.path))
    return Loaded(DatasetFrames(name, None, found_tables), path=found_tables.path, commit=found_tables.commit)


class Loaded:
    """A dataset whose tables are frames: of pandas, unless `to` says otherwise.

    Texts of which a few occur again and again (sources, reasons) are categories. In pandas whole numbers and booleans
    are of the nullable types, and lists of messages of Arrow's types: a cell is a list of dicts.

    Args:
        tables: reads the tables.
        frames: the kind of the frames.
        path: the dataset folder, or a file of pairs; None of frames.
        commit: the commit of a dataset of the Hub.
    """

    def __init__(
        self,
        tables: DatasetFrames,
        frames: FrameKind = "pandas",
        *,
        path: Path | None = None,
        commit: str | None = None,
    ) -> None:
        self.frames, self.path, self.commit = frames, path, commit
        self.tables = tables
        """Reads the tables, as frames of Polars."""

    def __repr__(self) -> str:
        return f"Loaded({self.tables.name}, frames={self.frames!r})"

    def _repr_html_(self) -> str:
        splits = {f"split {split}": f"{frame.height:,} rows" for split, frame in self.tables.by_split.items()}
        further = [name for name in ("candidates", "comparisons", "drops", "audit") if self.tables.has(name)]
        facts = {"dataset": self.tables.name, **splits, "further tables": ", ".join(further) or "none"}
        return page("Loaded", facts, [("column", "type"), *questions.columns_of(self.tables.pairs).items()])

    def to(self, frames: FrameKind) -> Loaded:
        """Gives the same dataset with frames of another kind: `pandas`, `polars`, `arrow` or `datasets`.

        Raises:
            InputError: there is no such kind.
        """
        check_kind(frames)
        return Loaded(self.tables, frames, path=self.path, commit=self.commit)

    @cached_property
    def pairs(self) -> Any:
        """Every pair with how the rule decided, train before test; the column `split` names its split."""
        return self._as(self.tables.pairs)

    @cached_property
    def splits(self) -> dict[str, Any]:
        """The pairs of each split."""
        return {split: self._as(frame) for split, frame in self.tables.by_split.items()}

    @cached_property
    def candidates(self) -> Any:
        """Every answer with its score.

        Raises:
            InputError: the dataset was published without its answers.
        """
        return self._as(self.tables.answers)

    @cached_property
    def scores(self) -> Any:
        """The score of each answer, or why it has none: prompt_id, source, index, score, unscored.

        Raises:
            InputError: the dataset was published without its answers.
        """
        return self._as(self.tables.scores)

    @cached_property
    def comparisons(self) -> Any:
        """What a pairwise scorer said of two answers.

        Raises:
            InputError: the dataset's scorer made no comparisons.
        """
        return self._as(self.tables.comparisons)

    @cached_property
    def drops(self) -> Any:
        """Every dropped prompt: prompt_id, stage, reason, detail."""
        return self._as(self.tables.drops)

    @cached_property
    def audit(self) -> dict[str, Any]:
        """The measures of the dataset's biases, and the recipe's limits."""
        return self.tables.audit

    @property
    def plot(self) -> Plots:
        """Plots, each a figure of Matplotlib: `plot.margins()`, `plot.lengths()`, `plot.sources()`, `plot.flow()`."""
        return Plots(self.tables)

    def where(self, condition: str) -> Any:
        """Gives the pairs that meet a condition such as `score_margin < 1 and source_chosen == "policy"`.

        Args:
            condition: see `prefdata.inspection.conditions`.

        Raises:
            InputError: it can't be read, or names a column that the pairs do not have.
        """
        return self._as(questions.where(self.tables, condition))

    def hardest(self, n: int = 20) -> Any:
        """Gives the pairs with the smallest score difference, the smallest first.

        Args:
            n: how many.

        Raises:
            InputError: the pairs have no scores.
        """
        return self._as(questions.hardest(self.tables, n))

    def ties(self) -> Any:
        """Gives the pairs where several answers had the first key of a side, or both sides have the same score.

        Raises:
            InputError: the pairs have no scores.
        """
        return self._as(questions.ties(self.tables))

    def longer_won(self) -> Any:
        """Gives the pairs whose chosen answer is the longer one, the greatest difference first."""
        return self._as(questions.longer_won(self.tables))

    def by_source(self) -> Any:
        """Counts the pairs of each source of the chosen and of the rejected answer, the commonest first.

        Raises:
            InputError: the pairs have no sources.
        """
        return self._as(questions.by_source(self.tables))

    def changed(self, other: TableLike) -> Any:
        """Gives the prompts whose pairs another dataset lacks, has in addition, or has with other texts.

        Args:
            other: the later dataset: see `load`.

        Raises:
            InputError: there is no such dataset, or a dataset has no prompt ids.
        """
        later = other if isinstance(other, Loaded) else load(other)
        return self._as(questions.changed(self.tables, later.tables))

    def prompt(self, prompt_id: str) -> Any:
        """Gives all candidates of a prompt, the highest score first; `picked` says which ones a pair has.

        Args:
            prompt_id: the prompt's id, or its first characters.

        Raises:
            InputError: there is no such prompt, or the dataset was published without its answers.
        """
        return self._as(questions.prompt(self.tables, prompt_id))

    def dropped(self, reason: str | None = None) -> Any:
        """Gives the dropped prompts with their texts, answers and scores, as far as these are published.

        Args:
            reason: only those with this reason.

        Raises:
            InputError: no prompt was dropped for this reason.
        """
        return self._as(questions.dropped(self.tables, reason))

    def _as(self, frame: Any) -> Any:
        return as_frame(frame, self.frames)
