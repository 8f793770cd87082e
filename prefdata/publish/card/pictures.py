"""Pictures for the card of a dataset, as SVG: what became of every row, and the score margins.

The same data give the same bytes.
They hold no script, no link and no text of the data but names of stages and reasons, which are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from prefdata.errors import printable
from prefdata.spec import JSON

__all__ = ["COLOURS", "FLOW", "MARGINS", "PICTURES", "flow_svg", "margins_svg", "picture_words"]

FLOW = "flow.svg"
MARGINS = "margins.svg"
PICTURES = (FLOW, MARGINS)
"""Files of a dataset folder."""
_WIDTH, _LEFT, _RIGHT = 720, 170, 20
COLOURS = ("#1f6feb", "#d4791f", "#b3446c", "#6f5aa8", "#5f8a3c", "#8a6a4f", "#777777")
"""Of pictures: the first one of what went on, the others of what was dropped."""
_KEPT, *_DROPPED = COLOURS
_BAR, _STEP = 18, 46
_NAME = 26
"""Longest name in a picture."""


def flow_svg(ledger: JSON) -> str:
    """Draws a bar for each stage: the rows that went on, and those that were dropped, by reason."""
    stages = ledger["stages"]
    most = max([1, *(stage["in"] for stage in stages)])
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    parts = []
    for number, stage in enumerate(stages):
        y = 40 + number * _STEP
        parts.append(_label(_LEFT - 10, y + 13, stage["stage"], "end"))
        x = float(_LEFT)
        drops = sorted(stage["drops"].items(), key=lambda each: (-each[1], each[0]))
        segments = [(f"{stage['out']:,} went on", stage["out"], _KEPT)]
        segments += [
            (f"{reason}: {count:,} dropped", count, _DROPPED[min(place, len(_DROPPED) - 1)])
            for place, (reason, count) in enumerate(drops)
        ]
        for words, count, colour in segments:
            width = count * scale
            if count:
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{max(width, 1):.1f}" height="{_BAR}" fill="{colour}">'
                    f"<title>{_text(words, 80)}</title></rect>"
                )
            x += width
        lost = ", ".join(f"{_short(reason)} {count:,}" for reason, count in drops[:3])
        more = f", {len(drops) - 3} more" if len(drops) > 3 else ""
        parts.append(
            _label(_LEFT, y + 32, f"{stage['in']:,} in, {stage['out']:,} out{f'; {lost}{more}' if lost else ''}")
        )
    height = 50 + max(1, len(stages)) * _STEP
    return _svg("What became of every row", picture_words(FLOW, ledger=ledger), height, parts)


def margins_svg(bars: Sequence[tuple[str, int]]) -> str:
    """Draws a histogram of the score margins.

    Args:
        bars: label and number of pairs of each bar, from the smallest margin on.
    """
    most = max([1, *(count for _, count in bars)])
    room, left = 220, 60
    step = (_WIDTH - left - _RIGHT) / max(1, len(bars))
    parts = [f'<path d="M{left} 40V{40 + room}H{_WIDTH - _RIGHT}" fill="none" stroke="#888"/>']
    parts.append(_label(left - 6, 48, f"{most:,}", "end"))
    parts.append(_label(left - 6, 40 + room, "0", "end"))
    for number, (label, count) in enumerate(bars):
        x, height = left + number * step, room * count / most
        parts.append(
            f'<rect x="{x + 2:.1f}" y="{40 + room - height:.1f}" width="{max(1.0, step - 4):.1f}" '
            f'height="{height:.1f}" fill="{_KEPT}"><title>{_text(f"{label}: {count:,} pairs", 80)}</title></rect>'
        )
        middle, below = x + step / 2, 40 + room + 14
        parts.append(
            f'<text x="{middle:.1f}" y="{below}" text-anchor="end" transform="rotate(-35 {middle:.1f} {below})">'
            f"{_text(label, _NAME)}</text>"
        )
    return _svg("Pairs by score margin", picture_words(MARGINS, bars=bars), 40 + room + 90, parts)


def picture_words(name: str, *, ledger: JSON | None = None, bars: Iterable[tuple[str, int]] = ()) -> str:
    """Says in words what a picture shows, for those who do not see it; names of the data are cut and not escaped."""
    if name == FLOW:
        stages = (ledger or {}).get("stages", ())
        return "; ".join(f"{stage['stage']}: {stage['in']:,} in, {stage['out']:,} out" for stage in stages)
    return "Pairs by score margin: " + ", ".join(f"{label}: {count:,}" for label, count in bars)


def _svg(title: str, words: str, height: int, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title words" font-family="sans-serif" font-size="12">'
        f'<title id="title">{_text(title, 80)}</title><desc id="words">{_text(words, 1_000)}</desc>'
        '<rect width="100%" height="100%" fill="white"/>'
        f'<text x="10" y="22" font-size="14" font-weight="bold">{_text(title, 80)}</text>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _label(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{_text(text, 100)}</text>'


def _short(name: str) -> str:
    return printable(name, _NAME)


def _text(text: str, width: int) -> str:
    return escape(printable(text, width))
