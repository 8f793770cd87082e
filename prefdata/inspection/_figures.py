"""Draws figures. Only `prefdata.inspection.plots` imports this, when a plot is asked for: Matplotlib takes its time."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from prefdata.errors import printable
from prefdata.lazy import np
from prefdata.publish.card.pictures import COLOURS

_BINS = 40
_NAME = 40


class Picture(Figure):
    """A figure that a notebook shows without a back end of its own: nothing global is set."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", metadata={"Software": None})
        return file.getvalue()


def histogram(values: Mapping[str, Any], label: str) -> Picture:
    """Draws numbers as histograms over each other."""
    figure = Picture(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), _BINS)
    for (name, numbers), colour in zip(values.items(), COLOURS, strict=False):
        axes.hist(numbers, bins=edges.tolist(), histtype="stepfilled", alpha=0.6, color=colour, label=name)
    axes.set_xlabel(label)
    axes.set_ylabel("pairs")
    if len(values) > 1:
        axes.legend()
    return figure


def bars(names: Sequence[str], values: Mapping[str, Sequence[int]], label: str, *, stacked: bool = False) -> Picture:
    """Draws counts as bars from the left, one group for each name, the first name on top."""
    figure = Picture(figsize=(7, 1.2 + 0.5 * max(1, len(names))), layout="constrained")
    axes = figure.subplots()
    height = 0.8 if stacked else 0.8 / max(1, len(values))
    left = [0] * len(names)
    for number, (what, counts) in enumerate(values.items()):
        at = [place + (0 if stacked else (number - (len(values) - 1) / 2) * height) for place in range(len(names))]
        colour = COLOURS[min(number, len(COLOURS) - 1)]
        axes.barh(at, counts, height, left=left if stacked else None, color=colour, label=_safe(what))
        if stacked:
            left = [start + count for start, count in zip(left, counts, strict=True)]
    axes.set_yticks(range(len(names)), [_safe(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.legend()
    return figure


def _safe(name: str) -> str:
    # A dollar sign begins a formula, and a name that begins with an underscore is left out of a legend.
    text = printable(name, _NAME).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
