"""`Journal`: records that are appended one by one, each with its checksum."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from prefdata.flow.disk import append, check_stops, delete, store_errors, sync_open
from prefdata.spec import JSON, canonical_json
from prefdata.tables.own_files import read_and_write

__all__ = ["Journal", "guarded_line", "text_of_line"]


def guarded_line(text: bytes) -> bytes:
    """Gives the line that holds a text: its CRC-32 (8 hex digits), and the text, which has no line end."""
    return b"%08x %s\n" % (zlib.crc32(text), text)


def text_of_line(line: bytes) -> bytes | None:
    """Reads the text of a whole line; None where the line is damaged."""
    crc, _, text = line.removesuffix(b"\n").partition(b" ")
    return text if line.endswith(b"\n") and crc == b"%08x" % zlib.crc32(text) else None


class Journal:
    """Keeps the finished results of a shard that is not written yet: one line each, appended at once.

    A line is `<crc32 of the rest, 8 hex digits> <JSON>`. The bytes are handed to the system at once, so killing the
    process loses nothing that was appended; `sync` makes them safe against a power cut.

    Args:
        path: of the file.
        opened: called before the first line of this process.
    """

    def __init__(self, path: Path, opened: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.damaged = 0
        """Damaged lines that the last reading passed over."""
        self._opened = opened
        self._file: int | None = None

    def read(self) -> Iterator[JSON]:
        """Reads the records so far. Passes over damaged lines, and cuts a torn last one off.

        Raises:
            StoreError: the file can't be read, or not be cut.
        """
        self.damaged = 0
        whole = size = 0
        with store_errors(self.path):
            if not self.path.exists():
                return
            with os.fdopen(read_and_write(self.path), "r+b") as file:
                for line in file:
                    size += len(line)
                    if not line.endswith(b"\n"):
                        break
                    whole = size
                    text = text_of_line(line)
                    if text is None:
                        self.damaged += 1
                    else:
                        yield json.loads(text)
                if whole < size:
                    file.truncate(whole)

    def append(self, record: JSON) -> None:
        """Adds one record.

        Raises:
            StoreError: the file can't be written.
        """
        text = canonical_json(record).encode()
        if self._file is None:
            self._opened()
            self._file = append(self.path)
        line = guarded_line(text)
        with store_errors(self.path):
            while line:
                line = line[os.write(self._file, line) :]
        check_stops()

    def sync(self) -> None:
        """Makes what was appended safe against a power cut."""
        if self._file is not None:
            with store_errors(self.path):
                sync_open(self._file)

    def close(self, *, remove: bool = False) -> None:
        """Closes the file, and removes it when its shard is written."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if remove:
            delete(self.path)
