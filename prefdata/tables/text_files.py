"""Text files of rows: JSON lines, one JSON array, CSV and TSV, plain or compressed, streamed line by line.

Memory holds one line or record of at most 256 MB. JSON objects are parsed one by one, so that a column may hold `3`,
`"3"` and `[3]`. CSV values stay text, as they are in the file. Every mistake is one `InputError` that names the file
and the line.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from prefdata.errors import InputError, NoRowsError
from prefdata.lazy import pa
from prefdata.spec.quoting import quoted
from prefdata.tables.documents import parse_json, without_repeats

__all__ = ["has_rows", "json_keys", "json_rows", "separated_header", "separated_rows"]

_MOST_BYTES = 256 << 20
"""Longest line of a text file, and longest record of a CSV file, in bytes."""
_BLOCK = 1 << 20
_BLANK = re.compile(r"[ \t\r\n]*")
_FIELDS = {
    separator: re.compile(rf'"([^"]*(?:""[^"]*)*)"(?={separator}|\Z)|([^"{separator}\r\n]*)(?={separator}|\Z)')
    for separator in (",", "\t")
}


def has_rows(path: Path, codec: str | None, separator: str | None) -> bool:
    """Checks whether a file has a row, and reads as far as the first one.

    Args:
        path: the file.
        codec: its compression.
        separator: a comma or a tab; None: the file is JSON.

    Raises:
        InputError: the file can't be read so far.
    """
    if not _first_character(path, codec):
        return False
    if separator is None:
        return any(True for _ in _objects(path, codec))
    records = _records(path, codec, separator)
    _, header = next(records)
    return any(_is_row(fields, header) for _, fields in records)


def json_rows(path: Path, codec: str | None, only: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yields the objects of a file of JSON lines, or of one JSON array.

    Args:
        path: the file.
        codec: its compression.
        only: the keys that are read; one that an object lacks is None. None reads all.

    Raises:
        InputError: the file is neither, or has no rows.
    """
    empty = True
    for where, value, escaped in _objects(path, codec):
        empty = False
        row = value if only is None else {name: value.get(name) for name in only}
        if escaped:
            _check_escapes(path, where, row)
        yield row
    if empty:
        raise NoRowsError(f"{str(path)!r} has no rows")


def json_keys(path: Path, codec: str | None) -> Iterator[list[str]]:
    """Yields the keys of each object; see `json_rows`."""
    return (list(value) for _, value, _ in _objects(path, codec))


def separated_header(path: Path, codec: str | None, separator: str, wanted: Sequence[str] | None = None) -> list[str]:
    """Reads the names of the columns; one without a name is the empty text.

    Args:
        path: the file.
        codec: its compression.
        separator: a comma or a tab.
        wanted: the columns of which none may be there twice; None: all.

    Raises:
        InputError: the file has no header, or a name twice.
    """
    header: list[str] = [name or "" for name in next(_records(path, codec, separator))[1]]
    for name, count in Counter(header).items():
        if count > 1 and name and (wanted is None or name in wanted):
            _refuse(path, 1, f"two columns are named {quoted(name)}")
    return header


def separated_rows(
    path: Path, codec: str | None, separator: str, wanted: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the rows of a file of separated values. An empty field is None unless it is quoted.

    Args:
        path: the file.
        codec: its compression.
        separator: a comma or a tab.
        wanted: see `separated_header`.

    Raises:
        InputError: the file is not one of separated values, or has no rows.
    """
    header = separated_header(path, codec, separator, wanted)
    records = _records(path, codec, separator)
    next(records)
    empty = True
    for number, fields in records:
        if not _is_row(fields, header):
            continue
        if len(fields) != len(header):
            _refuse(path, number, f"{len(fields)} fields, but the header has {len(header)}")
        empty = False
        yield {name: field for name, field in zip(header, fields, strict=True) if name}
    if empty:
        raise NoRowsError(f"{str(path)!r} has a header but no rows")


def _is_row(fields: list[Any], header: list[Any]) -> bool:
    """Checks whether a record is a row: an empty line is none where there are several columns."""
    return fields != [None] or len(header) == 1


def _refuse(path: Path, line: int | None, why: str, *, hint: str | None = None) -> NoReturn:
    where = f"{str(path)!r}" if line is None else f"{str(path)!r}, line {line}"
    raise InputError(f"{where}: {why}", hint=hint)


def _first_character(path: Path, codec: str | None) -> str:
    with _read_errors(path, codec), _binary(path, codec) as file:
        while block := file.read(1 << 12):
            if begin := block.lstrip(b"\xef\xbb\xbf \t\r\n"):
                return chr(begin[0])
    return ""


@contextmanager
def _binary(path: Path, codec: str | None) -> Iterator[BinaryIO]:
    if codec is None:
        with path.open("rb") as plain:
            yield plain
    else:
        with pa.input_stream(str(path), compression=codec) as stream, io.BufferedReader(stream) as file:
            yield file


@contextmanager
def _read_errors(path: Path, codec: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"not a whole {codec} file" if codec else "can't be read"
        _refuse(path, None, f"{what}: {error.strerror or error}", hint="copy or download the file again")


def _blocks(path: Path, codec: str | None) -> Iterator[str]:
    """Yields the text of a file in blocks."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        with _read_errors(path, codec), _binary(path, codec) as file:
            while raw := file.read(_BLOCK):
                if text := decoder.decode(raw):
                    yield text
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        _refuse(path, None, f"not UTF-8: byte 0x{byte:02x}", hint="convert the file: iconv -f CHARSET -t UTF-8")


def _lines(path: Path, codec: str | None) -> Iterator[tuple[int, str]]:
    """Yields numbered lines with their ends; only a line feed ends one, as JSON lines have it."""
    number = 0
    try:
        with _read_errors(path, codec), _binary(path, codec) as file:
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


def _too_long(path: Path, number: int) -> NoReturn:
    _refuse(
        path,
        number,
        f"longer than {_MOST_BYTES >> 20} MB",
        hint="one JSON object or record a line; if the file is compressed, look at it: zcat FILE | head -c 1000",
    )


def _objects(path: Path, codec: str | None) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yields where each object is, the object, and whether its text has escapes."""
    if _first_character(path, codec) == "[":
        yield from _elements(path, codec)
        return
    for number, line in _lines(path, codec):
        if line.strip():
            yield f", line {number}", _object(path, number, line), "\\u" in line


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    hint = None
    if number == 1 and line.lstrip()[:1] == "{":
        hint = "one object a line: jq -c '.' FILE > FILE.jsonl"
    try:
        value = parse_json(line)
    except json.JSONDecodeError as error:
        _refuse(path, number, f"not JSON: {error.msg} at character {error.pos + 1}", hint=hint)
    except (ValueError, RecursionError) as error:
        _refuse(path, number, f"not JSON that can be kept: {error}")
    if not isinstance(value, dict):
        _refuse(path, number, f"a JSON object is expected, found {type(value).__name__}", hint=hint)
    return value


def _elements(path: Path, codec: str | None) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yields the objects of one JSON array as `_objects` does, holding a block of its text at a time."""
    decoder = json.JSONDecoder(object_pairs_hook=without_repeats)
    text = _Text(path, _blocks(path, codec))
    text.next("[")
    number = 0
    while (separator := text.next(",]" if number else "")) != "]":
        if not separator and text.peek() == "]":
            text.next("]")
            break
        where = f"element {number + 1} of the array"
        while True:
            try:
                value, end = decoder.raw_decode(text.held, text.at)
            except json.JSONDecodeError as error:
                if not text.read_more(where):
                    _refuse(path, None, f"not JSON: {error.msg} in {where}")
            except (ValueError, RecursionError) as error:
                _refuse(path, None, f"not JSON that can be kept: {where}: {error}")
            else:
                break
        if not isinstance(value, dict):
            _refuse(path, None, f"{where}: a JSON object is expected, found {type(value).__name__}")
        yield f", {where}", value, "\\u" in text.held[text.at : end]
        number, text.at = number + 1, end
    if text.peek():
        _refuse(path, None, "not JSON: something follows the array")


class _Text:
    """A text that comes in blocks, of which the part that is not read yet is held."""

    def __init__(self, path: Path, blocks: Iterator[str]) -> None:
        self._path, self._blocks = path, blocks
        self.held, self.at = "", 0

    def peek(self) -> str:
        """Returns the next character that is not white space, and stops there; empty at the end."""
        while True:
            match = _BLANK.match(self.held, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.held) or not self.read_more("the array"):
                return self.held[self.at : self.at + 1]

    def next(self, expected: str) -> str:
        """Reads the next character, which must be one of these; reads none where none is expected."""
        found = self.peek()
        if not expected:
            return ""
        if not found or found not in expected:
            _refuse(self._path, None, f"not JSON: {' or '.join(map(repr, expected))} is expected, found {found!r}")
        self.at += 1
        if found != "]":
            self.peek()
        return found

    def read_more(self, what: str) -> bool:
        """Reads as much again as is held, so that a long element costs time in proportion to its length."""
        left = self.held[self.at :]
        more = "".join(islice(self._blocks, max(1, len(left) // _BLOCK)))
        self.held, self.at = left + more, 0
        if len(self.held) > _MOST_BYTES:
            _refuse(self._path, None, f"{what} is longer than {_MOST_BYTES >> 20} MB")
        return bool(more)


def _check_escapes(path: Path, where: str, value: dict[str, Any]) -> None:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=True).encode()
    except UnicodeEncodeError as error:
        code = f"\\u{ord(error.object[error.start]):04x}"
        raise InputError(
            f"{str(path)!r}{where}: the escape {code} is half of a surrogate pair and no character"
        ) from error


def _records(path: Path, codec: str | None, separator: str) -> Iterator[tuple[int, list[Any]]]:
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
            fields = _fields(path, first, "".join(parts).removesuffix("\n").removesuffix("\r"), _FIELDS[separator])
            header = False
            yield first, fields
    if inside:
        _refuse(path, first, "a quoted field is opened and never closed")
    if header:
        raise InputError(f"{str(path)!r} has no header")


def _fields(path: Path, number: int, record: str, field: re.Pattern[str]) -> list[Any]:
    fields: list[str | None] = []
    position = 0
    while True:
        match = field.match(record, position)
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
