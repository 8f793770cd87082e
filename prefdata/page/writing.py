"""`write_page`: writes the page of a dataset, or of an evaluation."""

from __future__ import annotations

import hashlib
import heapq
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from prefdata.errors import InputError, StoreError
from prefdata.flow.disk import clear_leftovers, replace_folder, store_errors, write_atomically
from prefdata.page.chunks import ChunkFiles, Chunks, ChunkSink, InlineChunks
from prefdata.page.columns import Index
from prefdata.page.document import MARK, PageParts, page_end, page_start
from prefdata.page.opening import open_source
from prefdata.page.rows import PageRow, preview
from prefdata.page.sources import Source

__all__ = ["Page", "write_page"]

_MOST_BYTES = 100_000_000
"""Size of the largest page in one file."""
_OWN_BYTES = 3_000_000
"""Size of a page without data."""
_PACKED = 0.47
"""About what a byte of text takes in the page."""
_ENDINGS = (".html", ".htm")


@dataclass(frozen=True)
class Page:
    """A page that was written."""

    path: Path
    """The file to open."""
    rows: int
    """Pairs and dropped prompts that it shows."""
    text_bytes: int
    """Bytes of all texts in it."""
    size: int
    """Bytes of the page, with the files beside it."""


def write_page(
    where: str | PathLike[str],
    path: str | PathLike[str],
    *,
    compare: str | PathLike[str] | None = None,
    pairs: int | None = None,
    config: str | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Page:
    """Writes the page of a dataset: one file that a browser opens without a network; same dataset, same bytes.

    Args:
        where: a build, finished or under way, a dataset folder, a file or dataset of the Hub that `load` reads, or the
            folder of an evaluated model.
        path: the page, `NAME.html`; any other name is a folder, in which texts are beside the page (above 100 MB).
        compare: another dataset (or evaluated model); the page shows what differs from it.
        pairs: take a sample of this many pairs and dropped prompts, always the same.
        config: the configuration of a dataset that prefdata has not written.
        log: takes lines for the person who watches.

    Raises:
        UserError: there is nothing to show at `where`, or the page can't be written.
    """
    target = Path(path)
    one_file = target.suffix.lower() in _ENDINGS
    _check_target(target, one_file=one_file)
    source = open_source(where, compare, config)
    _say_size(source, pairs, log, one_file=one_file)
    rows = source.rows() if pairs is None else _sample(source.rows(), pairs)
    try:
        with store_errors(target):
            write = _write_file if one_file else _write_folder
            return write(target, source, rows)
    except StoreError as error:
        raise StoreError(error.problem, hint="choose another path with --html") from error


def _check_target(target: Path, *, one_file: bool) -> None:
    """Refuses a path where something else is, or where nothing can be written, before anything is read.

    Raises:
        StoreError: it is one.
    """
    hint = "choose another path with --html"
    if one_file and target.is_dir():
        raise StoreError(f"{str(target)!r} is a folder, not a page", valid="NAME.html, or a folder", hint=hint)
    if not one_file and target.exists() and not target.is_dir():
        raise StoreError(f"{str(target)!r} is a file, and its name does not end in .html", valid="NAME.html", hint=hint)
    existing = target if one_file else target / "index.html"
    others = not one_file and target.is_dir() and {path.name for path in target.iterdir()} - {"index.html", "data"}
    if (existing.exists() and not _is_page(existing)) or others:
        raise StoreError(f"{str(target)!r} holds something other than a page of prefdata", hint=hint)
    if not target.parent.is_dir():
        raise StoreError(f"{str(target)!r} can't be written: there is no folder {str(target.parent)!r}", hint=hint)
    if not os.access(target.parent, os.W_OK):
        raise StoreError(f"{str(target)!r} can't be written: the folder can't be written by this user", hint=hint)


def _is_page(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(400)
    except OSError:
        return False


def _say_size(source: Source, pairs: int | None, log: Callable[[str], None], *, one_file: bool) -> None:
    if pairs is not None:
        return
    size = int(source.text_bytes() * _PACKED) + _OWN_BYTES
    log(f"the page will have about {size / 1e6:,.0f} MB")
    if one_file and size > _MOST_BYTES:
        raise InputError(
            f"the page would have about {size / 1e6:,.0f} MB in one file",
            valid=f"at most {_MOST_BYTES // 1_000_000} MB in one file",
            hint="--html DIR writes the texts beside the page; --html-pairs 5000 takes a sample",
        )


def _sample(rows: Iterator[PageRow], count: int) -> Iterator[PageRow]:
    """Yields the rows whose ids have the smallest hashes, in order; memory holds only these."""
    kept: list[tuple[int, int, PageRow]] = []
    for number, row in enumerate(rows):
        digest = hashlib.blake2b(f"{row.prompt_id}\0{row.pair_index}".encode("utf-8", "replace"), digest_size=8)
        entry = (-int.from_bytes(digest.digest(), "big"), -number, row)
        if len(kept) < count:
            heapq.heappush(kept, entry)
        elif entry[:2] > kept[0][:2]:
            heapq.heapreplace(kept, entry)
    for _, _, row in sorted(kept, key=lambda entry: -entry[1]):
        yield row


def _fill(sink: ChunkSink, source: Source, rows: Iterator[PageRow]) -> PageParts:
    """Writes the texts of all rows; gives what the rest of the page needs."""
    index, chunks = Index(dict(source.titles)), Chunks(sink)
    for row in rows:
        chunks.add(row)
        shown = {"id": row.prompt_id, "prompt": preview(row.turns, row.detail) or row.prompt_id, "outcome": row.outcome}
        index.add({**row.values, **shown, "flags": list(dict.fromkeys(row.flags))})
    chunks.flush()
    if not index.rows:
        raise InputError(
            f"{source.title!r} has no rows, so there is nothing to show",
            valid="a dataset with pairs or dropped prompts",
            hint="prefdata inspect says what it holds",
        )
    return PageParts(source, source.overview(), index.finish(), index.rows, chunks.starts, chunks.text_bytes)


def _write_file(target: Path, source: Source, rows: Iterator[PageRow]) -> Page:
    with tempfile.TemporaryFile(dir=target.parent) as texts:
        parts = _fill(InlineChunks(texts), source, rows)

        def write(partial: Path) -> None:
            texts.seek(0)
            with partial.open("wb") as file:
                file.write(page_start(parts, beside=False).encode())
                shutil.copyfileobj(texts, file, 1 << 20)
                file.write(page_end().encode())

        clear_leftovers(target, folder=False)
        write_atomically(target, write)
    return Page(target, parts.rows, parts.text_bytes, target.stat().st_size)


def _write_folder(target: Path, source: Source, rows: Iterator[PageRow]) -> Page:
    filled: list[PageParts] = []

    def fill(partial: Path) -> None:
        (partial / "data").mkdir()
        parts = _fill(ChunkFiles(partial / "data"), source, rows)
        (partial / "index.html").write_text(page_start(parts, beside=True) + page_end(), "utf-8")
        filled.append(parts)

    replace_folder(target, fill, check=lambda folder: _check_target(folder, one_file=False))
    parts, size = filled[0], sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Page(target / "index.html", parts.rows, parts.text_bytes, size)
