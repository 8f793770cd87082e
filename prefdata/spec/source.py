"""`source_of`: a part of a recipe as the Python that makes it, without what is as by default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

__all__ = ["one_line", "source_of"]

_WIDTH = 100
_INDENT = "    "


def source_of(value: Any, indent: int = 0) -> str:
    """Writes a value as Python; what does not fit on one line is broken after each field and item.

    Args:
        value: a part of a recipe, or what is in one.
        indent: of the lines after the first one, in steps of four spaces.
    """
    short = one_line(value)
    if len(short) + len(_INDENT) * indent <= _WIDTH:
        return short
    if isinstance(value, BaseModel):
        fields = [f"{name}={source_of(each, indent + 1)}" for name, each in _given(value)]
        return _broken(f"{type(value).__name__}(", fields, ")", indent)
    if isinstance(value, Mapping):
        items = [f"{key!r}: {source_of(each, indent + 1)}" for key, each in value.items()]
        return _broken("{", items, "}", indent)
    if isinstance(value, tuple | list):
        ends = "()" if isinstance(value, tuple) else "[]"
        return _broken(ends[0], [source_of(each, indent + 1) for each in value], ends[1], indent)
    if isinstance(value, str):
        return _broken_text(value, indent)
    return short


def one_line(value: Any) -> str:
    """Writes a value as Python on one line, however long."""
    if isinstance(value, BaseModel):
        return f"{type(value).__name__}({', '.join(f'{name}={one_line(each)}' for name, each in _given(value))})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {one_line(each)}" for key, each in value.items()) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(map(one_line, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(one_line, value))}]"
    # A text is taken for a path, and reads the same on every system.
    return repr(str(value)) if isinstance(value, Path) else repr(value)


def _given(part: BaseModel) -> Iterator[tuple[str, Any]]:
    """Yields the fields that differ from their defaults."""
    for name, info in type(part).model_fields.items():
        value = getattr(part, name)
        if info.is_required() or value != info.get_default(call_default_factory=True):
            yield name, value


def _broken(begin: str, parts: list[str], end: str, indent: int) -> str:
    inner = "\n" + _INDENT * (indent + 1)
    return f"{begin}{''.join(f'{inner}{part},' for part in parts)}\n{_INDENT * indent}{end}"


def _broken_text(text: str, indent: int) -> str:
    """Writes a text as several literals side by side, cut after spaces and line ends."""
    most = max(40, _WIDTH - len(_INDENT) * (indent + 1) - 2)
    pieces, rest = [], text
    while len(rest) > most:
        cut = max(rest.rfind(" ", 0, most), rest.rfind("\n", 0, most)) + 1 or most
        pieces.append(rest[:cut])
        rest = rest[cut:]
    inner = "\n" + _INDENT * (indent + 1)
    return f"({''.join(f'{inner}{piece!r}' for piece in [*pieces, rest])}\n{_INDENT * indent})"
