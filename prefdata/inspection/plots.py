"""`Plots`: pictures of a dataset, drawn by Matplotlib, which the extra `prefdata[plot]` brings."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, get_args

from prefdata.errors import InputError, MissingExtraError
from prefdata.inspection import questions
from prefdata.inspection._dataset_frames import DatasetFrames
from prefdata.inspection._files import Ledger, read_json
from prefdata.lazy import pl
from prefdata.records import LengthUnit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Plots"]

_SOURCES = 20
"""Most sources of a plot."""


class Plots:
    """Pictures of one dataset. Each method returns a figure, which a notebook shows and `savefig` writes.

    Args:
        tables: the dataset.
    """

    def __init__(self, tables: DatasetFrames) -> None:
        self._tables = tables

    def margins(self) -> Figure:
        """Draws how the score differences of the pairs are spread.

        Raises:
            InputError: the pairs have no scores.
            MissingExtraError: Matplotlib is not installed.
        """
        figures = _figures()
        margins = questions.measured(self._tables)["score_margin"].drop_nulls()
        # Scores of others need not be numbers that an axis has.
        margins = margins.filter(margins.is_finite())
        if margins.is_empty():
            raise InputError(f"the pairs of {self._tables.name} have no scores", valid="pairs with two scores each")
        figure: Figure = figures.histogram({"pairs": margins.to_numpy()}, "score margin: chosen minus rejected")
        return figure

    def lengths(self) -> Figure:
        """Draws how the lengths of chosen and rejected answers are spread.

        Raises:
            MissingExtraError: Matplotlib is not installed.
        """
        figures = _figures()
        pairs = questions.measured(self._tables)
        sides = {side: pairs[f"length_{side}"].drop_nulls().to_numpy() for side in ("chosen", "rejected")}
        figure: Figure = figures.histogram(sides, self._length_label())
        return figure

    def _length_label(self) -> str:
        """Says what is measured; the unit of lengths that a table of others brings is not known."""
        unit: Any = "characters"
        if "length_chosen" in self._tables.pairs.columns:
            folder = self._tables.folder
            rule = {} if folder is None else read_json(folder / "recipe.json", folder).get("pairs")
            unit = rule.get("length") if isinstance(rule, dict) else None
        return f"length of the answer, in {unit}" if unit in get_args(LengthUnit) else "length of the answer"

    def sources(self) -> Figure:
        """Draws how many chosen and how many rejected answers each source has.

        Raises:
            InputError: the pairs have no sources.
            MissingExtraError: Matplotlib is not installed.
        """
        figures = _figures()
        counted = questions.by_source(self._tables)
        sides = {
            side: dict(counted.group_by(f"source_{side}").agg(pl.col("pairs").sum()).iter_rows())
            for side in ("chosen", "rejected")
        }
        total = {name: sum(side.get(name, 0) for side in sides.values()) for side in sides.values() for name in side}
        names = sorted(total, key=lambda name: (-total[name], str(name)))[:_SOURCES]
        figure: Figure = figures.bars(
            [str(name or "?") for name in names],
            {side: [counts.get(name, 0) for name in names] for side, counts in sides.items()},
            "pairs",
        )
        return figure

    def flow(self) -> Figure:
        """Draws what became of the rows of each stage: those that went on, and those that were dropped, by reason.

        Raises:
            InputError: prefdata has not written the dataset.
            MissingExtraError: Matplotlib is not installed.
        """
        figures = _figures()
        if self._tables.folder is None:
            raise InputError(f"{self._tables.name} has no stages: prefdata has not written it", valid="a build")
        ledger = read_json(self._tables.folder / "ledger.json", self._tables.folder, Ledger)
        stages = ledger.get("stages", [])
        reasons = sorted({reason for stage in stages for reason in stage["drops"]})
        parts = {"went on": [stage["out"] for stage in stages]}
        parts |= {reason: [stage["drops"].get(reason, 0) for stage in stages] for reason in reasons}
        figure: Figure = figures.bars([stage["stage"] for stage in stages], parts, "rows", stacked=True)
        return figure


def _figures() -> Any:
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError.of("a plot", "matplotlib", "plot")
    from prefdata.inspection import _figures

    return _figures
