"""The one door for tables in files: Parquet, JSON lines and CSV, the text ones also compressed.

Rows come as dicts of plain Python values, streamed: memory holds one row group's pages or one line, of
at most 256 MB. JSON lines are
parsed one by one, so that a column may hold `3`, `"3"` and `[3]`. CSV values stay text, as they are in the file.
Every mistake in a file is one `InputError` that names the file and, in text files, the line.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from prefdata.errors import InputError
from prefdata.lazy import pa
from prefdata.spec import JSON, sha256_of_file
from prefdata.spec.quoting import closest_of, quoted
from prefdata.tables.documents import parse_json
from prefdata.tables.parquet import open_parquet, rows_at_once

__all__ = ["bundled_sample", "check_columns", "columns", "pin", "pinned", "rows", "sha256"]

_CODECS = {".gz": "gzip", ".zst": "zstd"}
_TEXTS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv"}
_ENDINGS = [".parquet", *_TEXTS]
_VALID = f"{', '.join(_ENDINGS)}; the text ones also with {' or '.join(_CODECS)}"
_BATCH = 256
_MOST_BYTES = 256 << 20
"""Longest line of a text file, and longest record of a CSV file, in bytes."""
_FIELD = re.compile(r'"([^"]*(?:""[^"]*)*)"(?=,|\Z)|([^",\r\n]*)(?=,|\Z)')


def columns(path: str | Path) -> list[str]:
    """The names of the columns, in order. JSON lines are read to the end, since any line may bring a new key.

    Raises:
        InputError: the file can't be read as a table.
    """
    path = Path(path)
    match _layout(path):
        case "parquet", _:
            with open_parquet(path) as file:
                return _distinct(path, file.schema_arrow.names)
        case "csv", codec:
            return next(_csv_records(path, codec))[1]
        case _, codec:
            return list(dict.fromkeys(key for row in _objects(path, codec) for key in row))


def rows(path: str | Path, start: int = 0, *, only: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a file, in order.

    Blank lines between JSON lines are no rows. An empty CSV field is None unless it is quoted.

    Args:
        path: a file whose name ends as its format says.
        start: number of rows to skip.
        only: the columns to read. All must exist; where a JSON line lacks one, it is None.

    Raises:
        InputError: the file can't be read as a table, has no rows, or lacks a column of `only`.
    """
    path = Path(path)
    kind, codec = _layout(path)
    if only is not None:
        _require(path, kind, codec, only)
    if kind == "parquet":
        return _parquet_rows(path, start, only)
    found = _csv_rows(path, codec) if kind == "csv" else _objects(path, codec)
    if only is None:
        return islice(found, start, None)
    return ({name: row.get(name) for name in only} for row in islice(found, start, None))


def check_columns(where: str, wanted: Iterable[str], have: Iterable[str]) -> None:
    """Refuses a table that lacks a column.

    Raises:
        InputError: names the first missing column, and the columns there are.
    """
    names = list(have)
    for name in wanted:
        if name not in names:
            raise InputError(
                f"{where} has no column {name!r}",
                valid=closest_of(name, names),
                hint="name the column as the table has it",
            )


def sha256(path: str | Path) -> str:
    """SHA-256 (hex) of the file's bytes.

    Raises:
        InputError: there is no such file.
    """
    path = Path(path)
    _check_file(path)
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise InputError(f"{str(path)!r} can't be read: {error.strerror or error}") from error


def pin(path: str | Path) -> dict[str, JSON]:
    """What a lock says of a file: the SHA-256 of its bytes."""
    return {"sha256": sha256(path)}


def pinned(path: str | Path, pins: Mapping[str, JSON]) -> Path:
    """The file, once its bytes are known to be the locked ones; without a lock it is taken as it is.

    Raises:
        InputError: the file is missing, or has changed since it was pinned.
    """
    expected = pins.get("sha256")
    if expected is not None and (found := sha256(path)) != expected:
        raise InputError(
            f"{str(path)!r} has changed since it was locked: SHA-256 is {found}, the lock says {expected}",
            hint="restore the file, or build again without the old lock",
        )
    return Path(path)


def bundled_sample(*, scored: bool = False) -> Path:
    """The prompts and recorded answers that are installed with the package; `scored`: the few with four scored ones."""
    return Path(__file__).parent.parent / "prompts" / ("scored.jsonl" if scored else "sample.jsonl")


def _refuse(path: Path, line: int | None, why: str, *, hint: str | None = None) -> NoReturn:
    where = f"{str(path)!r}" if line is None else f"{str(path)!r}, line {line}"
    raise InputError(f"{where}: {why}", hint=hint)


def _check_file(path: Path) -> None:
    if path.is_dir():
        names = sorted(child.name for child in path.iterdir() if _ending(child) is not None)
        raise InputError(
            f"{str(path)!r} is a folder, not a file",
            valid=f"files in it: {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}" if names else _VALID,
            hint="name one file",
        )
    if path.exists() and not path.is_file():
        raise InputError(f"{str(path)!r} is a pipe or a device, not a file", valid=_VALID)
    if not path.is_file():
        near = sorted(child.name for child in path.parent.iterdir()) if path.parent.is_dir() else []
        raise InputError(
            f"{str(path)!r} does not exist",
            valid=closest_of(path.name, near) if 0 < len(near) <= 20 else None,
            hint="check the path; a relative one starts at the current folder",
        )


def _ending(path: Path) -> tuple[str, str | None] | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".parquet"]:
        return "parquet", None
    codec = _CODECS.get(suffixes[-1]) if suffixes else None
    kind = _TEXTS.get(suffixes[-2 if codec and len(suffixes) > 1 else -1]) if suffixes else None
    return (kind, codec) if kind else None


def _layout(path: Path) -> tuple[str, str | None]:
    """The format and the compression that the file's name tells, for a file that is there and not empty."""
    _check_file(path)
    found = _ending(path)
    if found is None:
        raise InputError(f"{str(path)!r} has an unknown ending {''.join(path.suffixes)!r}", valid=_VALID)
    if path.stat().st_size == 0:
        _refuse(path, None, "the file is empty")
    return found


def _require(path: Path, kind: str, codec: str | None, wanted: Sequence[str]) -> None:
    if kind == "json":
        # Stop at the first line by which every name has been seen; only a missing column costs a whole pass.
        missing = set(wanted)
        have: dict[str, None] = {}
        for row in _objects(path, codec):
            have.update(dict.fromkeys(row))
            missing.difference_update(row)
            if not missing:
                return
        check_columns(repr(str(path)), wanted, have)
    else:
        check_columns(repr(str(path)), wanted, columns(path))


def _distinct(path: Path, names: list[str]) -> list[str]:
    for name, count in Counter(names).items():
        if count > 1:
            _refuse(path, 1 if path.suffix != ".parquet" else None, f"two columns are named {quoted(name)}")
    return names


def _parquet_rows(path: Path, start: int, only: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    with open_parquet(path) as file:
        _distinct(path, file.schema_arrow.names)
        if file.metadata.num_rows == 0:
            raise InputError(f"{str(path)!r} has no rows")
        groups, skip = list(range(file.metadata.num_row_groups)), start
        while groups and file.metadata.row_group(groups[0]).num_rows <= skip:
            skip -= file.metadata.row_group(groups.pop(0)).num_rows
        if not groups:
            return
        names = None if only is None else list(only)
        size = rows_at_once(path, _BATCH)
        for batch in file.iter_batches(size, row_groups=groups, columns=names, use_threads=False):
            yield from batch.slice(min(skip, batch.num_rows)).to_pylist()
            skip = max(0, skip - batch.num_rows)


@contextmanager
def _binary(path: Path, codec: str | None) -> Iterator[BinaryIO]:
    if codec is None:
        with path.open("rb") as plain:
            yield plain
    else:
        with pa.input_stream(str(path), compression=codec) as stream, io.BufferedReader(stream) as file:
            yield file


def _lines(path: Path, codec: str | None) -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends; only a line feed ends one, as JSON lines have it."""
    number = 0
    try:
        with _binary(path, codec) as file:
            while raw := file.readline(_MOST_BYTES + 1):
                number += 1
                if len(raw) > _MOST_BYTES:
                    _too_long(path, number)
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        _refuse(
            path,
            number,
            f"not UTF-8: byte 0x{byte:02x} at position {error.start + 1} of the line",
            hint="convert the file: iconv -f CHARSET -t UTF-8",
        )
    except OSError as error:
        what = f"not a whole {codec} file" if codec else "can't be read"
        _refuse(path, None, f"{what}: {error.strerror or error}", hint="copy or download the file again")


def _too_long(path: Path, number: int) -> NoReturn:
    _refuse(
        path,
        number,
        f"longer than {_MOST_BYTES >> 20} MB",
        hint="one JSON object or record a line; if the file is compressed, look at it: zcat FILE | head -c 1000",
    )


def _objects(path: Path, codec: str | None) -> Iterator[dict[str, Any]]:
    empty = True
    for number, line in _lines(path, codec):
        if line.strip():
            empty = False
            yield _object(path, number, line)
    if empty:
        raise InputError(f"{str(path)!r} has no rows")


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    hint = None
    if number == 1 and line.lstrip()[:1] in ("[", "{"):
        hint = f"one object a line: jq -c '{'.[]' if line.lstrip()[0] == '[' else '.'}' FILE > FILE.jsonl"
    try:
        value = parse_json(line)
    except json.JSONDecodeError as error:
        _refuse(path, number, f"not JSON: {error.msg} at character {error.pos + 1}", hint=hint)
    except (ValueError, RecursionError) as error:
        _refuse(path, number, f"not JSON that can be kept: {error}")
    if not isinstance(value, dict):
        _refuse(path, number, f"a JSON object is expected, found {type(value).__name__}", hint=hint)
    if "\\u" in line:
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=True).encode()
        except UnicodeEncodeError as error:
            code = f"\\u{ord(error.object[error.start]):04x}"
            _refuse(path, number, f"the escape {code} is half of a surrogate pair and no character")
    return value


def _csv_rows(path: Path, codec: str | None) -> Iterator[dict[str, Any]]:
    records = _csv_records(path, codec)
    _, header = next(records)
    empty = True
    for number, fields in records:
        if fields == [None] and len(header) > 1:
            continue
        if len(fields) != len(header):
            _refuse(path, number, f"{len(fields)} fields, but the header has {len(header)}")
        empty = False
        yield dict(zip(header, fields, strict=True))
    if empty:
        raise InputError(f"{str(path)!r} has a header but no rows")


def _csv_records(path: Path, codec: str | None) -> Iterator[tuple[int, list[Any]]]:
    """The header, checked, then the records, each with the number of its first line (RFC 4180).

    The `csv` module is no help: it can't tell an empty field from an empty text, and numbers no lines in its errors.
    """
    first, parts, inside, header, size = 0, [""], False, True, 0
    for number, line in _lines(path, codec):
        if not inside:
            first, parts = number, []
        parts.append(line)
        size = len(line) if not inside else size + len(line)
        if size > _MOST_BYTES:
            _too_long(path, first)
        inside ^= line.count('"') % 2 == 1
        if not inside:
            fields = _csv_fields(path, first, "".join(parts).removesuffix("\n").removesuffix("\r"))
            if header:
                for position, name in enumerate(fields, 1):
                    if not name:
                        _refuse(path, first, f"column {position} of the header has no name")
                _distinct(path, fields)
            header = False
            yield first, fields
    if inside:
        _refuse(path, first, "a quoted field is opened and never closed")
    if header:
        raise InputError(f"{str(path)!r} has no header")


def _csv_fields(path: Path, number: int, record: str) -> list[Any]:
    fields: list[str | None] = []
    position = 0
    while True:
        match = _FIELD.match(record, position)
        if match is None:
            _refuse(
                path,
                number,
                f"field {len(fields) + 1} has a quotation mark or line break that is not quoted",
                hint='put the field into quotation marks and double those inside: "5"" pipe"',
            )
        quoted, plain = match.groups()
        fields.append(quoted.replace('""', '"') if quoted is not None else plain or None)
        if match.end() == len(record):
            return fields
        position = match.end() + 1
