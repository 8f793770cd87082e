"""Opens Parquet files of strangers: what a small file would grow to is known before it is read.

A file of 100 kB can hold a text of 100 MB that each of its rows refers to, or a page of 2 GB of zeros. Readers take
rows in batches, so memory is bounded by the largest text that a row can hold, which the page's own header limits.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

from prefdata.errors import InputError, first_line
from prefdata.lazy import pa, pq

__all__ = ["check_parquet", "leaves_of_keys", "open_parquet", "rows_at_once"]

_MOST_BYTES = 256 << 20
"""Bytes that one text of a dictionary may take; also those of a column that is suspiciously well compressed."""
_BATCH_BYTES = 1 << 30
"""Bytes that one batch of rows may take, if each row has the largest text."""
_MOST_RATIO = 1_000
"""Above `_MOST_BYTES`, a column that is this much larger than in the file is refused: no real one is."""
_HEADER = 24
_I32 = 0x15
"""Thrift's mark of the next field of a page header, a number: first the kind of page, then its size."""


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file for reading it piece by piece; page checksums are checked.

    Raises:
        InputError: by the block too, when the file is not whole or would not fit into memory.
    """
    check_parquet(path)
    try:
        # Buffered pages instead of whole row groups: published files often have a single one.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _not_whole(path, error) from error


def leaves_of_keys(file: pq.ParquetFile, keys: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Finds the leaf columns that hold some keys of the objects in columns.

    Args:
        file: the file.
        keys: column → paths of keys.

    Returns:
        Column → paths of its leaves in the file; a column that lacks one of its keys is not there.
    """
    places = [(column.name, path) for column in file.schema_arrow for path in _keys_of(column.type)]
    found: dict[str, list[str]] = {}
    if len(places) != file.metadata.num_columns:
        return found
    for column, paths in keys.items():
        mine = [(at, path) for at, (name, path) in enumerate(places) if name == column]
        wanted = [tuple(path.split(".")) for path in paths]
        if all(any(path[: len(want)] == want for _, path in mine) for want in wanted):
            read = [at for at, path in mine if any(path[: len(want)] == want for want in wanted)]
            found[column] = [file.schema.column(at).path for at in read]
    return found


def _keys_of(kind: pa.DataType) -> Iterator[tuple[str, ...]]:
    """Yields the keys that lead to each leaf of a column, in the order in which a file has them."""
    if isinstance(kind, pa.BaseExtensionType):
        yield from _keys_of(kind.storage_type)
    elif pa.types.is_struct(kind):
        for at in range(kind.num_fields):
            yield from ((kind.field(at).name, *path) for path in _keys_of(kind.field(at).type))
    elif pa.types.is_dictionary(kind) or not kind.num_fields:
        yield ()
    else:
        # Lists of any sort have one field; a map has keys and values.
        for at in range(kind.num_fields):
            yield from _keys_of(kind.field(at).type)


def check_parquet(path: Path) -> None:
    """Refuses a file whose columns or texts are far larger in memory than any real ones.

    Raises:
        InputError: it is one, or not a whole Parquet file.
    """
    rows_at_once(path, 1)


def rows_at_once(path: Path, most: int) -> int:
    """Computes how many rows of a file fit into memory, whatever their texts are.

    Args:
        path: a Parquet file.
        most: the number that is wanted.

    Raises:
        InputError: one text would not fit, or it is not a whole Parquet file.
    """
    try:
        stat = path.stat()
        largest = _largest_text(path, stat.st_size, stat.st_mtime_ns)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _not_whole(path, error) from error
    return min(most, max(1, _BATCH_BYTES // largest))


@functools.lru_cache(maxsize=64)
def _largest_text(path: Path, file_size: int, written_ns: int) -> int:
    """Finds out how large a text of a dictionary can be at most; looks once at each writing of a file."""
    with path.open("rb") as file:
        metadata = pq.read_metadata(file)
        largest = 1
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            for place in range(group.num_columns):
                chunk = group.column(place)
                size, stored = chunk.total_uncompressed_size, max(1, chunk.total_compressed_size)
                if size > _MOST_BYTES and size > stored * _MOST_RATIO:
                    _refuse(path, chunk.path_in_schema, size)
                if chunk.has_dictionary_page:
                    largest = max(largest, _page_size(file, chunk.dictionary_page_offset))
                    if largest > _MOST_BYTES:
                        _refuse(path, chunk.path_in_schema, largest)
    return largest


def _page_size(file: IO[bytes], offset: int) -> int:
    """Reads the size of a page before compression; 0 where there is no page, which Arrow then says better."""
    file.seek(offset)
    header, position, value = file.read(_HEADER), 0, 0
    for _ in range(2):
        if header[position : position + 1] != bytes((_I32,)):
            return 0
        position, value, shift = position + 1, 0, 0
        while position < len(header):
            byte = header[position]
            value |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                break
    return value >> 1


def _refuse(path: Path, column: str, size: int) -> NoReturn:
    raise InputError(
        f"{str(path)!r}: the column {column!r} takes {size / 1e9:,.1f} GB in memory, far more than in the file",
        valid=f"texts of at most {_MOST_BYTES >> 20} MB",
        hint="if this is what it should hold, write it again as JSON lines",
    )


def _not_whole(path: Path, error: Exception) -> InputError:
    first = first_line(error)
    return InputError(f"{str(path)!r} is not a whole Parquet file: {first}", hint="copy or download the file again")
