"""Curves of a training as one SVG picture, drawn without any package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from prefdata.spec import JSON

__all__ = ["curves_svg"]

_SHOWN = (
    ("loss", "loss"),
    ("rewards/margins", "reward margin"),
    ("rewards/accuracies", "chosen before rejected"),
    ("grad_norm", "gradient norm"),
)
_WIDTH, _HEIGHT, _MARGIN = 360, 190, 44
_MOST_POINTS = 400


def curves_svg(metrics: Iterable[Mapping[str, JSON]]) -> str:
    """Draws the logged numbers of a training against its steps, one small plot for each.

    Args:
        metrics: logged entries, each with a `step`; entries without a number of a plot are left out of it.
    """
    entries = list(metrics)
    plots = []
    for key, title in _SHOWN:
        points = [(entry["step"], entry[key]) for entry in entries if isinstance(entry.get(key), int | float)]
        if points:
            plots.append((title, points))
    columns = min(2, max(1, len(plots)))
    rows = -(-len(plots) // columns)
    width, height = columns * _WIDTH, max(1, rows) * _HEIGHT
    drawn = [
        f'<g transform="translate({place % columns * _WIDTH},{place // columns * _HEIGHT})">{_plot(title, points)}</g>'
        for place, (title, points) in enumerate(plots)
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
    )
    return "\n".join([head, *drawn, "</svg>"]) + "\n"


def _plot(title: str, points: Sequence[tuple[float, float]]) -> str:
    points = points[:: -(-len(points) // _MOST_POINTS)]
    steps, values = [step for step, _ in points], [value for _, value in points]
    left, right, top, bottom = _MARGIN + 12, _WIDTH - 12, 26, _HEIGHT - 26

    def scaled(value: float, low: float, high: float, start: float, end: float) -> float:
        share = 0.5 if high == low else (value - low) / (high - low)
        return round(start + share * (end - start), 1)

    line = " ".join(
        f"{scaled(step, min(steps), max(steps), left, right)},{scaled(value, min(values), max(values), bottom, top)}"
        for step, value in points
    )
    return (
        f'<text x="{left}" y="16" font-weight="bold">{escape(title)}</text>'
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#888"/>'
        f'<text x="{left - 4}" y="{top + 4}" text-anchor="end">{max(values):.4g}</text>'
        f'<text x="{left - 4}" y="{bottom + 4}" text-anchor="end">{min(values):.4g}</text>'
        f'<text x="{left}" y="{bottom + 16}">{min(steps):g}</text>'
        f'<text x="{right}" y="{bottom + 16}" text-anchor="end">step {max(steps):g}</text>'
        f'<polyline points="{line}" fill="none" stroke="#1f6feb" stroke-width="1.5"/>'
    )
