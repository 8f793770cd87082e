"""Standard input as a table: it is put on disk once, since tables are read more than once."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from prefdata.errors import InputError
from prefdata.lazy import pa
from prefdata.tables.table import Table

__all__ = ["standard_input"]

_MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\xff\xff\xff\xff": ".arrow"}
_CODECS = {b"\x1f\x8b": (".gz", "gzip"), b"\x28\xb5\x2f\xfd": (".zst", "zstd")}
_HEAD = 1 << 16


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
    # Not when the table is let go: its rows may still be read then.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "standard input"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if not path.stat().st_size:
        raise InputError("standard input is empty", hint="prefdata pair - ... < FILE")
    ending = _ending(path)
    table = open_file(path.rename(path.with_name(f"standard input{ending}")))
    table.name = "standard input"
    return table


def _ending(path: Path) -> str:
    """Returns the ending of a file that begins like this one."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for magic, (ending, codec) in _CODECS.items():
        if head.startswith(magic):
            return _ending_of_text(_decompressed(path, codec)) + ending
    return next((ending for magic, ending in _MAGIC.items() if head.startswith(magic)), _ending_of_text(head))


def _decompressed(path: Path, codec: str) -> bytes:
    try:
        with pa.input_stream(str(path), compression=codec) as stream:
            return bytes(stream.read(_HEAD))
    except OSError:
        # Whoever reads the file says it better.
        return b""


def _ending_of_text(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in (b"{", b"["):
        return ".jsonl"
    line = text.split(b"\n", 1)[0]
    return ".tsv" if line.count(b"\t") > line.count(b",") else ".csv"
