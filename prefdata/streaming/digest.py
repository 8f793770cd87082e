"""One number for the candidates of a table, the same for any order of its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

__all__ = ["CandidateDigest", "text_words"]

_TEXTS = ("source", "model", "unscored", "finish_reason")
_NUMBERS = ("index", "score")
_NULL = np.uint64(0x9E3779B97F4A7C15)


class CandidateDigest:
    """Adds up a number for each prompt, made of its id and of its candidates.

    That is source, index, model, text, score, reason without a score and finish reason of each. The hashes are fast
    ones (XXH3 of the texts), of 64 bits and added up: they tell tables apart that differ by mistake, and keep nobody
    from making two that agree.
    """

    def __init__(self) -> None:
        self._lanes, self._count = [0, 0, 0, 0], 0

    def add(
        self,
        prompt_ids: Sequence[str],
        starts: NDArray[np.int64],
        columns: Mapping[str, pa.Array],
        texts: NDArray[np.uint64],
    ) -> None:
        """Adds prompts, each one run of rows from its start; no prompt may come in two calls.

        Args:
            prompt_ids: one a run.
            starts: where each run starts.
            columns: source, model, unscored, finish_reason, index, score; one left out is null throughout.
            texts: `text_words` of the rows.
        """
        if not len(starts):
            return
        marks = _mixed(texts)
        for number, name in enumerate((*_TEXTS, *_NUMBERS), 1):
            column = columns.get(name)
            words = _NULL if column is None else _text_words(column) if name in _TEXTS else _number_words(column)
            marks = _mixed(marks + words + np.uint64(number))
        prompts = _mixed(_id_words(prompt_ids) + np.add.reduceat(marks, starts))
        self._count += len(prompts)
        for lane in range(len(self._lanes)):
            self._lanes[lane] += int(_mixed(prompts + np.uint64(lane)).sum(dtype=np.uint64))

    def add_frame(self, candidates: pl.DataFrame) -> None:
        """Adds prompts as a frame: prompt_id, source, index, model, response, score, unscored, finish_reason."""
        frame = candidates.sort("prompt_id")
        runs = frame.select(pl.col("prompt_id").rle()).unnest("prompt_id")
        lengths = runs["len"].to_numpy().astype(np.int64)
        columns = {name: frame[name].to_arrow() for name in (*_TEXTS, *_NUMBERS)}
        texts = text_words(frame["response"].to_arrow().cast(pa.large_string()))
        self.add(runs["value"].to_list(), np.cumsum(lengths) - lengths, columns, texts)

    def hexdigest(self) -> str:
        """64 hex digits."""
        total = [self._count, *(lane % 2**64 for lane in self._lanes)]
        return hashlib.sha256(repr(total).encode()).hexdigest()


def text_words(texts: pa.Array, rows: NDArray[np.int64] | None = None) -> NDArray[np.uint64]:
    """A number for each text, or for each of some rows; nulls have one of their own.

    Args:
        texts: of type string or large_string.
        rows: places in `texts`; None is all of them.
    """
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, kind)[texts.offset : texts.offset + len(texts) + 1]
    places = np.arange(len(texts)) if rows is None else rows
    content = memoryview(data if data is not None else b"")
    spans = zip(ends[places].tolist(), ends[places + 1].tolist(), strict=True)
    words = np.array([xxhash.xxh3_64_intdigest(content[start:end]) for start, end in spans], np.uint64)
    if texts.null_count:
        words[texts.is_null().to_numpy(zero_copy_only=False)[places]] = _NULL
    return words


def _id_words(prompt_ids: Sequence[str]) -> NDArray[np.uint64]:
    """A number for each id; ids of 64 characters, which most are, all at once."""
    words = np.zeros(len(prompt_ids), np.uint64)
    usual = [number for number, name in enumerate(prompt_ids) if len(name) == 64 and name.isascii()]
    letters = "".join([prompt_ids[number] for number in usual]).encode()
    hashed = np.zeros(len(usual), np.uint64)
    for column in np.frombuffer(letters, "<u8").reshape(-1, 8).T:
        hashed = _mixed(hashed ^ column)
    words[np.array(usual, int)] = hashed
    if len(usual) < len(prompt_ids):
        others = np.setdiff1d(np.arange(len(prompt_ids)), usual)
        words[others] = [_word(prompt_ids[number]) for number in others.tolist()]
    return words


def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _text_words(column: pa.Array) -> NDArray[np.uint64]:
    encoded = column.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    names = encoded.dictionary.to_pylist()
    words = np.array([*map(_word, names), _NULL], np.uint64)
    return np.asarray(words[encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)])


def _number_words(column: pa.Array) -> NDArray[np.uint64]:
    numbers = column.fill_null(0).to_numpy(zero_copy_only=False)
    words = numbers.astype(np.int64 if numbers.dtype.kind in "iu" else np.float64).view(np.uint64)
    if column.null_count:
        words = np.where(column.is_null().to_numpy(zero_copy_only=False), _NULL, words)
    return np.asarray(words)


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
