"""A piece of a Parquet table of scored answers as arrays: runs of rows of one prompt, and what is plain about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from numpy.typing import NDArray

from prefdata.lazy import np, pa, pc, pl, pq
from prefdata.pairing import LengthUnit
from prefdata.records import as_messages, prompt_id_of
from prefdata.streaming.digest import text_words
from prefdata.streaming.places import Labels, Numbers, keys_of, places, sorted_by, sources_of
from prefdata.streaming.select import Answers
from prefdata.tables.cells import Unusable
from prefdata.tables.scored_rows import prompt_texts
from prefdata.tables.scored_table import conversation

__all__ = [
    "Piece",
    "Rows",
    "as_roles",
    "can_stream",
    "cut_off",
    "identities",
    "labels_of",
    "made_id",
    "measured",
    "plain_texts",
    "repeats",
    "rows_of",
    "run_starts",
    "scores_of",
    "spoken",
    "whole_runs",
]

_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]
_TURN = [pa.field("role", pa.string()), pa.field("content", pa.string())]
_MESSAGES = (pa.list_(pa.struct(_TURN)), pa.large_list(pa.struct(_TURN)))
_HEX = np.array([int.from_bytes(b"%02x" % byte, "little") for byte in range(256)], "<u2")
"""The two digits of each byte, as they lie in memory."""


@dataclass(frozen=True)
class Piece:
    """Rows of a table, one column a role, in runs of rows that show the same `prompt_id` and `prompt`."""

    table: pa.Table
    """Each column in one chunk."""
    starts: _Ints
    """Where each run starts."""

    def part(self, runs: _Flags) -> Piece:
        """Some of the runs."""
        sizes = np.diff(np.append(self.starts, self.table.num_rows))[runs]
        return Piece(self.rows_of_runs(runs).combine_chunks(), np.cumsum(sizes) - sizes)

    def rows_of_runs(self, runs: _Flags) -> pa.Table:
        """A copy of the rows of some runs."""
        sizes = np.diff(np.append(self.starts, self.table.num_rows))
        return self.table.take(pa.array(np.flatnonzero(np.repeat(runs, sizes))))


@dataclass(frozen=True)
class Rows:
    """What a piece says, one entry a candidate or one a run; runs that are not `plain` are not to be read."""

    answers: Answers
    labels: Mapping[str, Labels]
    """source, model, finish_reason: of each candidate, where the table has them."""
    index: Numbers | None
    characters: _Ints
    eligible: _Flags
    plain: _Flags
    """Runs whose prompt is plain text, and whose candidates are at least two, all eligible under any rule."""


def can_stream(path: Path, named: Mapping[str, str]) -> bool:
    """Whether the columns have the common types, of which this module knows the meaning."""
    if path.suffix != ".parquet":
        return False
    with pq.ParquetFile(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    kinds = {role: schema.field(name).type for role, name in named.items()}
    wide = pa.types.is_list(kinds["response"]) or pa.types.is_large_list(kinds["response"])
    if wide != (pa.types.is_list(kinds["score"]) or pa.types.is_large_list(kinds["score"])):
        return False
    for role in ("response", "score") if wide else ():
        kinds[role] = kinds[role].value_type
    whole = pa.types.is_integer(kinds.get("index", pa.int64())) and kinds.get("index") != pa.uint64()
    number = (pa.types.is_integer(kinds["score"]) or kinds["score"] in (pa.float32(), pa.float64())) and (
        kinds["score"] != pa.uint64()
    )
    texts = all(_is_text(kind) for role, kind in kinds.items() if role not in ("score", "index", "prompt"))
    texts &= _is_text(kinds.get("prompt", pa.null())) or kinds.get("prompt") in _MESSAGES
    return rows > 0 and "prompt" in named and whole and number and texts


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def as_roles(path: Path, batch: pa.RecordBatch, named: Mapping[str, str]) -> pa.Table:
    """The rows with their columns called by role, texts as `string`, prompts as `prefdata.tables.scored_rows` spells them."""
    columns = {role: batch.column(name) for role, name in named.items()}
    for role, column in columns.items():
        if column.type in _MESSAGES:
            columns[role] = _said(path, named[role], column)
        elif pa.types.is_large_string(column.type):
            columns[role] = column.cast(pa.string())
        elif pa.types.is_large_list(column.type) or (
            pa.types.is_list(column.type) and pa.types.is_large_string(column.type.value_type)
        ):
            inner = column.type.value_type
            columns[role] = column.cast(pa.list_(pa.string() if pa.types.is_large_string(inner) else inner))
    return pa.table(columns)


def _said(path: Path, name: str, prompts: pa.Array) -> pa.Array:
    """Lists of messages as texts; one user turn is what it says."""
    turns = prompts.flatten()
    texts = turns.field("content")
    lone = len(turns) == len(prompts) and not prompts.null_count and not turns.null_count
    lone = lone and bool(pc.all(pc.equal(pc.list_value_length(prompts), 1)).as_py())
    if lone and pc.all(pc.equal(turns.field("role"), "user").fill_null(False)).as_py() and plain_texts(texts).all():
        return texts
    spelled = prompt_texts(path, name, pl.Series(pl.from_arrow(prompts)))
    return spelled.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())


def run_starts(table: pa.Table) -> _Ints:
    """Where each run starts. In a wide table every row is a run."""
    if not table.num_rows or pa.types.is_list(table.schema.field("response").type):
        return np.arange(table.num_rows)
    new = np.zeros(table.num_rows, bool)
    new[0] = True
    for role in ("prompt_id", "prompt"):
        if role in table.column_names:
            column = table[role].chunk(0)
            after, before = column[1:], column[:-1]
            differs = pc.not_equal(after, before)
            if column.null_count:
                differs = pc.if_else(pc.and_(after.is_null(), before.is_null()), False, differs.fill_null(True))
            new[1:] |= differs.to_numpy(zero_copy_only=False)
    return np.flatnonzero(new)


def plain_texts(texts: pa.Array) -> _Flags:
    """Which texts are prompts of one user turn, read as they stand; a few that are may be left out."""
    offsets, data = _buffers(texts)
    if not len(data):
        return np.zeros(len(texts), bool)
    first = data[np.minimum(offsets[:-1], len(data) - 1)]
    clear = (np.diff(offsets) > 0) & (first > 32) & (first < 128) & (first != ord("["))
    flags = np.asarray(clear & texts.is_valid().to_numpy(zero_copy_only=False))
    doubtful = np.flatnonzero(first > 127)
    for place, text in zip(doubtful, texts.take(pa.array(doubtful)).to_pylist(), strict=True):
        flags[place] = bool(text) and bool(text.strip()) and not text.lstrip().startswith("[")
    return flags


def whole_runs(piece: Piece) -> _Flags:
    """In a wide table, rows with as many scores as answers, and at least one; in a long one, all runs."""
    text, score = (piece.table[name].chunk(0) for name in ("response", "score"))
    if not pa.types.is_list(text.type):
        return np.ones(len(piece.starts), bool)
    answers, scores = (
        pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False) for column in (text, score)
    )
    return np.asarray((answers > 0) & (answers == scores))


def rows_of(piece: Piece, ids: pa.Array, plain: _Flags, unit: LengthUnit) -> Rows:
    """Reads a piece of which all runs are whole.

    Args:
        piece: the rows.
        ids: the id of each run, as `identities` gives it.
        plain: runs whose prompt is plain.
        unit: of the answers' lengths; not words.
    """
    table = piece.table
    named = {name: table[name].chunk(0) for name in table.column_names}
    text, score, starts = named["response"], named["score"], piece.starts
    labels = labels_of(named)
    index = Numbers.of(named["index"]) if "index" in named else None
    wide = pa.types.is_list(text.type)
    if wide:
        sizes = pc.list_value_length(text).to_numpy(zero_copy_only=False).astype(np.int64)
        text, score, starts = text.flatten(), score.flatten(), np.cumsum(sizes) - sizes
    sizes = np.diff(np.append(starts, len(text)))
    run = np.repeat(np.arange(len(starts)), sizes)
    if wide:
        labels = {name: column[run] for name, column in labels.items()}
        index = Numbers(np.arange(len(text)) - starts[run], None)
    n_bytes, characters, readable = measured(text)
    score = scores_of(score)
    eligible = readable & np.isfinite(score) & ~cut_off(labels)
    place, ambiguous = places(keys_of(index, labels.get("source")), run, len(starts))
    plain = plain & np.logical_and.reduceat(eligible, starts) & (sizes > 1)
    length = n_bytes if unit == "bytes" else characters
    answers = Answers(ids, starts, run, text, text_words(text), score, length, n_bytes, place, ambiguous)
    return Rows(answers, labels, index, characters, eligible & plain[run], plain)


def labels_of(columns: Mapping[str, pa.Array]) -> dict[str, Labels]:
    """source, which falls back to the model, model, finish_reason: those that the columns tell."""
    labels = {name: Labels.of(columns[name]) for name in ("model", "finish_reason") if name in columns}
    source = sources_of(columns)
    return labels if source is None else labels | {"source": source}


def scores_of(column: pa.Array) -> NDArray[np.float64]:
    """Scores with one zero; NaN for none."""
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False) + 0.0)


def cut_off(labels: Mapping[str, Labels]) -> _Flags | np.bool_:
    """The rows whose finish reason is `length`."""
    finish = labels.get("finish_reason")
    if finish is None or "length" not in finish.names:
        return np.False_
    return np.asarray(finish.codes == finish.names.index("length"))


def repeats(answers: Answers) -> _Ints:
    """The runs of rows whose text an earlier row of their run has."""
    order = sorted_by([answers.n_bytes, answers.run])
    run, size = answers.run[order], answers.n_bytes[order]
    same = np.append(False, (run[1:] == run[:-1]) & (size[1:] == size[:-1]))
    rows = order[same | np.append(same[1:], False)]
    seen, found = set(), []
    for key in zip(
        answers.run[rows].tolist(), answers.n_bytes[rows].tolist(), answers.words[rows].tolist(), strict=True
    ):
        if key in seen:
            found.append(key[0])
        seen.add(key)
    return np.array(found, np.int64)


def spoken(text: str | None) -> str | None:
    """A text that is the same for all spellings of a prompt: what its one user says, or else its id."""
    if text is None:
        return None
    turns = conversation(text)
    if isinstance(turns, Unusable):
        return text
    return turns[0]["content"] if len(turns) == 1 and turns[0]["role"] == "user" else prompt_id_of(turns)


def made_id(text: str) -> str:
    """The id of a prompt that came without one."""
    turns = conversation(text)
    return prompt_id_of(as_messages(text) if isinstance(turns, Unusable) else turns)


def identities(piece: Piece) -> tuple[pa.Array, pa.Array, _Flags]:
    """The id of each run as `scored_table` makes it, its prompt, and whether that is plain."""
    firsts = pa.array(piece.starts)
    prompts = piece.table["prompt"].chunk(0).take(firsts)
    _check_utf8(prompts)
    plain = plain_texts(prompts)
    if "prompt_id" in piece.table.column_names:
        given = piece.table["prompt_id"].chunk(0).take(firsts)
        if given.null_count:
            rest = np.flatnonzero(given.is_null().to_numpy(zero_copy_only=False))
            made = np.array(_made(prompts.take(pa.array(rest)), plain[rest]), object)
            every = np.array(given.to_pylist(), object)
            every[rest] = made
            given = pa.array(every, pa.string())
        ids = given
    else:
        ids = _hashed(prompts) if plain.all() else pa.array(_made(prompts, plain), pa.string())
    return ids, prompts, plain & (pc.binary_length(ids).to_numpy(zero_copy_only=False) > 0)


def _made(prompts: pa.Array, plain: _Flags) -> list[str]:
    hashed = iter(_hashed(prompts.filter(pa.array(plain))).to_pylist())
    texts = prompts.to_pylist()
    return [
        next(hashed) if simple else "" if text is None else made_id(text)
        for text, simple in zip(texts, plain.tolist(), strict=True)
    ]


def _hashed(texts: pa.Array) -> pa.Array:
    """SHA-256 of each text, in hex."""
    offsets, data = _buffers(texts)
    content, ends = memoryview(data.data), offsets.tolist()
    digests = b"".join([sha256(content[start:end]).digest() for start, end in pairwise(ends)])
    digits = _HEX[np.frombuffer(digests, np.uint8)]
    size = 2 * sha256().digest_size
    places = np.arange(0, size * len(texts) + 1, size, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(texts), [None, pa.py_buffer(places), pa.py_buffer(digits)])


def _buffers(texts: pa.Array) -> tuple[_Ints, NDArray[np.uint8]]:
    """Offsets of the texts, and the bytes they point into."""
    _, offsets, data = texts.buffers()
    every = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    return every, np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)


def _plainly_seen(data: NDArray[np.uint8], places: _Ints) -> _Flags:
    """Whether the byte at each place is an ASCII character that isn't white space."""
    byte = data[np.minimum(places, len(data) - 1)]
    return np.asarray((byte > 32) & (byte < 127))


def _check_utf8(texts: pa.Array) -> bool:
    """Whether all are ASCII; raises `pyarrow.ArrowInvalid` where one is no UTF-8."""
    offsets, data = _buffers(texts)
    part = data[offsets[0] : offsets[-1]]
    if not len(part) or part.max() < 128:
        return True
    texts.validate(full=True)
    return False


def measured(texts: pa.Array) -> tuple[_Ints, _Ints, _Flags]:
    """Bytes and code points of each text, and which are neither null nor blank."""
    offsets, data = _buffers(texts)
    n_bytes = np.diff(offsets)
    characters = n_bytes
    if not _check_utf8(texts):
        characters = pc.utf8_length(texts).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    readable = n_bytes > 0
    if len(data):
        doubtful = np.flatnonzero(readable & ~_plainly_seen(data, offsets[:-1]))
        # Most texts that begin with white space show themselves with their second byte.
        doubtful = doubtful[~((n_bytes[doubtful] > 1) & _plainly_seen(data, offsets[doubtful] + 1))]
        if len(doubtful):
            readable[doubtful] = [bool(text and text.strip()) for text in texts.take(pa.array(doubtful)).to_pylist()]
    if texts.null_count:
        readable &= texts.is_valid().to_numpy(zero_copy_only=False)
    return n_bytes, characters, readable
