"""Small pages for notebooks, which `_repr_html_` returns. Every text is escaped, and there is no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from prefdata.errors import printable

__all__ = ["page", "preformatted"]

_ROWS = 40
"""Most rows of a table."""
_CELL = 200
"""Longest text of a cell."""


def page(title: str, facts: Mapping[str, object], *tables: Iterable[Sequence[object]]) -> str:
    """Writes a heading, a table of facts, and further tables whose first row is their heading.

    Args:
        title: the heading.
        facts: name → value.
        tables: rows; numbers have thousands separators and are aligned to the right.
    """
    parts = [f"<strong>{_text(title)}</strong>"]
    if facts:
        parts.append(_table([], [(name, value) for name, value in facts.items()]))
    for rows in tables:
        head, *body = [tuple(row) for row in rows] or [()]
        if body:
            parts.append(_table(head, body))
    return f"<div>{''.join(parts)}</div>"


def preformatted(text: str) -> str:
    """Writes a text as it is, in a font of fixed width."""
    return f"<pre>{escape(text)}</pre>"


def _table(head: Sequence[object], body: Sequence[Sequence[object]]) -> str:
    rows = [f"<tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr>"] if head else []
    rows += [f"<tr>{''.join(map(_cell, row))}</tr>" for row in body[:_ROWS]]
    if len(body) > _ROWS:
        rows.append(f'<tr><td colspan="{len(body[0])}">{len(body) - _ROWS:,} more</td></tr>')
    return f"<table>{''.join(rows)}</table>"


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f'<td style="text-align:right">{value:,}</td>'
    if isinstance(value, float):
        return f'<td style="text-align:right">{value:,.4g}</td>'
    return f'<td style="text-align:left">{_text("-" if value is None else str(value))}</td>'


def _text(value: object) -> str:
    return escape(printable(str(value), _CELL))
