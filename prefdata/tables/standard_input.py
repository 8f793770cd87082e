"""Standard input as a table: it is put on disk once, since tables are read more than once."""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from prefdata.errors import InputError
from prefdata.tables.table import Table

__all__ = ["standard_input"]

_MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}


def standard_input(open_file: Callable[[Path], Table]) -> Table:
    """Reads standard input to its end; its format is known by its first bytes.

    Args:
        open_file: opens a file by its name.

    Raises:
        InputError: there is none.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("standard input is a terminal, not a table", hint="prefdata pair - ... < FILE")
    folder = Path(tempfile.mkdtemp(prefix="prefdata-"))
    path = folder / "standard input"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    with path.open("rb") as file:
        ending = _ending(file.read(1 << 16))
    table = open_file(path.rename(path.with_name(f"standard input{ending}")))
    table.name = "standard input"
    weakref.finalize(table, shutil.rmtree, folder, ignore_errors=True)
    return table


def _ending(head: bytes) -> str:
    """Returns the ending of a file that begins like this."""
    for magic, ending in _MAGIC.items():
        if head.startswith(magic):
            # Of compressed text, JSON lines are by far the most common.
            return f".jsonl{ending}" if ending in (".gz", ".zst") else ending
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in (b"{", b"["):
        return ".jsonl"
    line = text.split(b"\n", 1)[0]
    return ".tsv" if line.count(b"\t") > line.count(b",") else ".csv"
