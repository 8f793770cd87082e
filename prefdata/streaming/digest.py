"""One number for the candidates of a table, the same for any order of its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import pairwise

import xxhash
from numpy.typing import NDArray

from prefdata.lazy import np, pa, pl
from prefdata.streaming.places import Labels, Numbers

__all__ = ["CandidateDigest", "text_words"]

_TEXTS = ("source", "model", "unscored", "finish_reason")
_NULL = np.uint64(0x9E3779B97F4A7C15)
_NO_TEXT = -1

_Ints = NDArray[np.int64]
_Words = NDArray[np.uint64]


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
        prompts: _Words,
        starts: _Ints,
        labels: Mapping[str, Labels],
        index: Numbers | None,
        score: NDArray[np.float64],
        n_bytes: _Ints,
        texts: _Words,
    ) -> None:
        """Adds prompts, each one run of rows from its start; no prompt may come in two calls.

        Args:
            prompts: `text_words` of the id of each run.
            starts: where each run starts.
            labels: source, model, unscored, finish_reason; one left out is null throughout.
            index: None is null throughout.
            score: NaN is null.
            n_bytes: of the texts; -1 is null.
            texts: `text_words` of the texts.
        """
        if not len(starts):
            return
        marks = _mixed(texts + n_bytes.astype(np.uint64))
        for number, name in enumerate(_TEXTS, 1):
            marks = _mixed(marks + _label_words(labels.get(name)) + np.uint64(number))
        place = _NULL if index is None else index.values.astype(np.uint64)
        if index is not None and index.valid is not None:
            place = np.where(index.valid, place, _NULL)
        marks = _mixed(_mixed(marks + place) + np.where(np.isnan(score), _NULL, (score + 0.0).view(np.uint64)))
        prompts = _mixed(prompts + _mixed(np.add.reduceat(marks, starts)))
        self._count += len(prompts)
        for lane in range(len(self._lanes)):
            self._lanes[lane] += int(_mixed(prompts + np.uint64(lane)).sum(dtype=np.uint64))

    def add_frame(self, candidates: pl.DataFrame) -> None:
        """Adds prompts as a frame: prompt_id, source, index, model, response, score, unscored, finish_reason."""
        frame = candidates.sort("prompt_id")
        starts = np.flatnonzero((frame["prompt_id"] != frame["prompt_id"].shift()).fill_null(True).to_numpy())
        n_bytes = frame["response"].str.len_bytes().cast(pl.Int64).fill_null(_NO_TEXT).to_numpy()
        self.add(
            text_words(frame["prompt_id"].gather(starts).to_arrow().cast(pa.large_string())),
            starts,
            {name: Labels.of(frame[name].to_arrow()) for name in _TEXTS},
            Numbers.of(frame["index"].to_arrow()),
            frame["score"].fill_null(np.nan).to_numpy(),
            n_bytes,
            text_words(frame["response"].fill_null("").to_arrow().cast(pa.large_string())),
        )

    def hexdigest(self) -> str:
        """64 hex digits."""
        total = [self._count, *(lane % 2**64 for lane in self._lanes)]
        return hashlib.sha256(repr(total).encode()).hexdigest()


def _content(texts: pa.Array) -> tuple[_Ints, memoryview]:
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, kind)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    return places, memoryview(data if data is not None else b"")


def text_words(texts: pa.Array) -> _Words:
    """XXH3 of each text, of 64 bits; that of a null means nothing."""
    places, content = _content(texts)
    ends = places.tolist()
    return np.array([xxhash.xxh3_64_intdigest(content[start:end]) for start, end in pairwise(ends)], np.uint64)


def _label_words(labels: Labels | None) -> _Words | np.uint64:
    if labels is None:
        return _NULL
    # The last one is for rows with the code -1.
    return np.array([*map(_word, labels.names), _NULL], np.uint64)[labels.codes]


def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
