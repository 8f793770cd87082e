"""The texts of a page, in parts of some hundred rows, each compressed on its own.

A part is one line of JSON that describes its rows, then the texts of each row: UTF-8, each text followed by a zero
byte. `assets/data.js` reads it: a row without reading the others, and a search without parsing anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

from prefdata.page.columns import packed
from prefdata.page.rows import Answer, PageRow

__all__ = ["ChunkFiles", "ChunkSink", "Chunks", "InlineChunks"]

_ROWS = 500
_BYTES = 1_500_000


class ChunkSink(Protocol):
    """Where finished parts go."""

    def put(self, number: int, data: str) -> None:
        """Takes a part."""


class InlineChunks:
    """Parts within the page, as elements that are not run.

    Args:
        file: takes the elements.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def put(self, number: int, data: str) -> None:
        """Writes the element of a part."""
        self._file.write(f'<script type="text/plain" id="c{number}">{data}</script>\n'.encode())


class ChunkFiles:
    """Parts beside the page, as scripts that hand over their data.

    Args:
        folder: of the scripts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, number: int, data: str) -> None:
        """Writes the script of a part."""
        (self._folder / f"c{number}.js").write_text(f'prefdataChunk({number},"{data}");\n', "ascii")


class Chunks:
    """Collects rows into parts.

    Args:
        sink: takes each part when it is full.
    """

    def __init__(self, sink: ChunkSink) -> None:
        self._put: Callable[[int, str], None] = sink.put
        self._rows: list[dict[str, Any]] = []
        self._texts: list[bytes] = []
        self._size = 0
        self.starts: list[int] = []
        """The first row of each part."""
        self.text_bytes = 0
        """Bytes of all texts so far."""
        self._count = 0

    def add(self, row: PageRow) -> None:
        """Adds a row."""
        if not self._rows:
            self.starts.append(self._count)
        described, texts = _parts_of(row)
        data = ("\0".join(texts) + "\0").encode("utf-8", "replace")
        described["n"] = [_units(text) for text in texts]
        described["b"] = len(data)
        self.text_bytes += len(data) - len(texts)
        self._rows.append(described)
        self._texts.append(data)
        self._size += len(data)
        self._count += 1
        if len(self._rows) == _ROWS or self._size >= _BYTES:
            self.flush()

    def flush(self) -> None:
        """Hands over what is collected."""
        if self._rows:
            head = json.dumps(self._rows, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
            self._put(len(self.starts) - 1, packed(b"".join([head.encode(), b"\n", *self._texts])))
            self._rows, self._texts, self._size = [], [], 0


def _units(text: str) -> int:
    """Counts a text's UTF-16 units, which are the positions that a browser knows."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "replace")) // 2


def _parts_of(row: PageRow) -> tuple[dict[str, Any], list[str]]:
    texts = [text for _, text in row.turns]
    answers = []
    for answer in row.answers:
        texts += [answer.text or "", *(part for part in (answer.words, answer.reasoning) if part)]
        answers.append(_described(answer))
    described = {
        "i": row.prompt_id,
        "k": row.pair_index or None,
        "u": [role for role, _ in row.turns],
        "a": answers,
        "c": row.chosen,
        "j": row.rejected,
        "o": row.outcome if row.outcome != "pair" else None,
        "g": row.stage or None,
        "e": row.detail or None,
        "y": dict(row.why) or None,
        "m": [[match.first, match.second, match.probability, match.undecided, match.words] for match in row.matches]
        or None,
    }
    return {key: value for key, value in described.items() if value not in (None, [])}, texts


def _described(answer: Answer) -> dict[str, Any]:
    fields = {
        "s": answer.source,
        "x": answer.number if answer.number is None or answer.number < 1 << 53 else str(answer.number),
        "m": answer.model,
        "v": answer.score,
        "l": answer.length,
        "f": answer.finish,
        "n": answer.note,
        "w": 1 if answer.words else None,
        "r": 1 if answer.reasoning else None,
        "d": None if answer.seed is None else str(answer.seed),
        "t": 0 if answer.text is None else None,
    }
    return {key: value for key, value in fields.items() if value is not None}
