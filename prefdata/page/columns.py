"""The columns of the page's list: what each means, and how its values become bytes in the page.

A column is written while rows pass; memory holds the values of one block and the names of its categories.
"""

from __future__ import annotations

import base64
import json
import math
import sys
import zlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from prefdata.spec import JSON

__all__ = ["COLUMNS", "Column", "ColumnBytes", "Index", "packed"]

_Kind: TypeAlias = Literal["number", "category", "flags", "text"]
_BLOCK = 4096
"""Rows of which values wait to be compressed; and those whose texts come first."""
_LEVEL = 5
"""Of compression: the next one takes half as long again for a page that is smaller by 0.6 %."""
_MOST_CATEGORIES = 60_000
_OTHERS = "(others)"


class Column(NamedTuple):
    """One column of the list."""

    name: str
    title: str
    kind: _Kind
    about: str
    plotted: bool = True


COLUMNS = (
    Column("id", "id", "text", "The prompt's id.", plotted=False),
    Column("prompt", "prompt", "text", "How the last question begins.", plotted=False),
    Column("outcome", "outcome", "category", "A pair, or why the prompt has none."),
    Column("change", "change", "category", "What differs from the other dataset."),
    Column("margin", "margin", "number", "Score of the chosen answer less that of the rejected one."),
    Column("score_chosen", "chosen score", "number", "Score of the chosen answer."),
    Column("score_rejected", "rejected score", "number", "Score of the rejected answer."),
    Column("preference", "preference", "number", "2: the model's answer is preferred; 1: the other one."),
    Column("preference_other", "other's preference", "number", "The same for the compared model."),
    Column("length_chosen", "chosen length", "number", "Length of the chosen answer."),
    Column("length_rejected", "rejected length", "number", "Length of the rejected answer."),
    Column("length_difference", "length difference", "number", "Chosen length less rejected length."),
    Column("source_chosen", "chosen source", "category", "Who wrote the chosen answer."),
    Column("source_rejected", "rejected source", "category", "Who wrote the rejected answer."),
    Column("decided_chosen", "chosen decided by", "category", "The key after which one winner was left."),
    Column("decided_rejected", "rejected decided by", "category", "The key after which one rejected answer was left."),
    Column("n_tied_chosen", "tied at the top", "number", "Answers that shared the chosen one's first key."),
    Column("n_tied_rejected", "tied at the bottom", "number", "Answers that shared the rejected one's first key."),
    Column("n_candidates", "answers", "number", "All answers of the prompt.", plotted=False),
    Column("split", "split", "category", "The split of the published dataset."),
    Column("flags", "flags", "flags", "What is remarkable about the texts."),
)
"""Every column, in the order of the list; a page has those of which some row has a value."""


class ColumnBytes(NamedTuple):
    """A finished column."""

    described: dict[str, JSON]
    data: str
    """Base64 of the compressed values; of texts, those of the first rows, with which the list can be shown."""
    rest: str = ""
    """Base64 of the compressed texts of all other rows; empty where there are none."""


def packed(data: bytes) -> str:
    """Compresses bytes and writes them as base64; equal bytes give equal text."""
    return base64.b64encode(zlib.compress(data, _LEVEL)).decode()


class Index:
    """All columns of a page.

    Args:
        titles: column → another title than the usual one.
    """

    def __init__(self, titles: dict[str, str] | None = None) -> None:
        self.titles = titles or {}
        self._writers = {column.name: _WRITERS[column.kind](column) for column in COLUMNS}
        self._block: list[dict[str, Any]] = []
        self.rows = 0

    def add(self, values: dict[str, Any]) -> None:
        """Adds a row; a column without a value is null."""
        self.rows += 1
        self._block.append(values)
        if len(self._block) == _BLOCK:
            self._flush()

    def _flush(self) -> None:
        for name, writer in self._writers.items():
            writer.add([values.get(name) for values in self._block])
        self._block = []

    def finish(self) -> list[ColumnBytes]:
        """Gives every column that has a value."""
        self._flush()
        written = [writer for writer in self._writers.values() if writer.has_any]
        return [writer.finish(self.titles.get(writer.column.name)) for writer in written]


class _Writer(ABC):
    def __init__(self, column: Column) -> None:
        self.column, self.has_any = column, False
        self._packer = zlib.compressobj(_LEVEL)
        self._parts: list[bytes] = []

    @abstractmethod
    def add(self, values: Sequence[Any]) -> None:
        """Adds the values of a block of rows."""

    def _put(self, data: bytes) -> None:
        self._parts.append(self._packer.compress(data))

    def _put_numbers(self, numbers: array[Any]) -> None:
        if sys.byteorder == "big":
            numbers.byteswap()
        self._put(numbers.tobytes())

    def finish(self, title: str | None) -> ColumnBytes:
        """Gives the whole column."""
        data = base64.b64encode(b"".join([*self._parts, self._packer.flush()])).decode()
        column = self.column
        described = {"name": column.name, "title": title or column.title, "kind": column.kind, "about": column.about}
        return ColumnBytes({**described, "plotted": column.plotted, **self.more()}, data)

    def more(self) -> dict[str, JSON]:
        """Describes what only this kind of column has."""
        return {}


class _Numbers(_Writer):
    def add(self, values: Sequence[Any]) -> None:
        self.has_any |= any(value is not None for value in values)
        self._put_numbers(array("d", [math.nan if value is None else float(value) for value in values]))


class _Codes(_Writer):
    """Categories by number; 0 is null."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self._codes: dict[str, int] = {}

    def add(self, values: Sequence[Any]) -> None:
        self._put_numbers(array("H", [0 if value is None else self._code(str(value)) for value in values]))

    def _code(self, name: str) -> int:
        self.has_any = True
        code = self._codes.get(name)
        if code is not None:
            return code
        return self._codes.setdefault(name if len(self._codes) < _MOST_CATEGORIES else _OTHERS, len(self._codes) + 1)

    def more(self) -> dict[str, JSON]:
        return {"values": list(self._codes)}


class _Flags(_Codes):
    """Sets of names, as bits of one number."""

    def add(self, values: Sequence[Sequence[str] | None]) -> None:
        bits = [sum({1 << self._bit(name) for name in value or ()}) for value in values]
        self._put_numbers(array("H", bits))

    def _bit(self, name: str) -> int:
        self.has_any = True
        return self._codes.setdefault(name, len(self._codes))


class _Texts(_Writer):
    """JSON lists of texts: of the first block, and of all others."""

    _first: str | None = None

    def add(self, values: Sequence[Any]) -> None:
        self.has_any |= any(values)
        if not values:
            return
        texts = [value or "" for value in values]
        listed = json.dumps(texts, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if self._first is None:
            self._first = packed(listed.encode("utf-8", "replace"))
        else:
            self._put((("," if self._parts else "[") + listed[1:-1]).encode("utf-8", "replace"))

    def finish(self, title: str | None) -> ColumnBytes:
        """Gives the whole column."""
        has_rest = bool(self._parts)
        if has_rest:
            self._put(b"]")
        rest = super().finish(title)
        return ColumnBytes(rest.described, self._first or packed(b"[]"), rest.data if has_rest else "")


_WRITERS: dict[_Kind, type[_Writer]] = {"number": _Numbers, "category": _Codes, "flags": _Flags, "text": _Texts}
