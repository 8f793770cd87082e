"""Digests of texts, and one number for all candidates of a table, the same in any order of its rows."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import xxhash

from prefdata.lazy import np, pa, pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MEASURES",
    "NAMED_FROM",
    "CandidateDigest",
    "bare_digest_series",
    "digest_series",
    "measured",
    "mixed",
    "same_but_white_space",
    "table_digest",
    "text_digests",
    "visible_marks",
]

_Words: TypeAlias = "NDArray[np.uint64]"

_LABELS = ("source", "model", "unscored", "finish_reason")
_NULL = 0x9E3779B97F4A7C15
_LANES = 4
NAMED_FROM = 1 << 62
"""An `index` of this much or more is made of the answer's text, and is no place in a list."""
MEASURES = ("digest", "visible")
"""What readers of Arrow data say of each answer: see `text_digests` and `visible_marks`."""
_ASCII = 128
_SUMMED = 100
"""Texts whose bytes fit the cache of a processor, and memory that the allocator does not map anew each time."""
_SPACE = b" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"
_WIDE_SPACE = (
    "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


def mixed(words: _Words) -> _Words:
    """Applies the finaliser of SplitMix64 (Steele, Lea and Flood, 2014) to each word."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def text_digests(texts: pa.Array) -> _Words:
    """Hashes each text to 64 bits (XXH3, the same on every machine); the entry of a null is undefined.

    Args:
        texts: `string` or `large_string`.
    """
    content, ends = _content(texts)
    hash_of = xxhash.xxh3_64_intdigest
    return np.fromiter((hash_of(content[start:end]) for start, end in pairwise(ends)), np.uint64, len(texts))


def _content(texts: pa.Array) -> tuple[memoryview, list[int]]:
    """Returns the bytes of all texts, and where each begins; the end of the last one too."""
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    _, offsets, data = texts.buffers()
    content = memoryview(data if data is not None else b"")
    if offsets is None:
        return content, [0] * (len(texts) + 1)
    return content, np.frombuffer(offsets, width)[texts.offset : texts.offset + len(texts) + 1].tolist()


def measured(texts: pa.Array, sums: int = 1) -> dict[str, pa.Array]:
    """Measures each text of a column, or of its lists, where it is; null for a null.

    Args:
        texts: texts, or lists of texts.
        sums: of the marks: see `visible_marks`.

    Returns:
        `MEASURES`, each `uint64` or `uint32`, or lists of them; none of a column of another type.
    """
    kind = texts.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        of_lists = pa.ListArray if pa.types.is_list(kind) else pa.LargeListArray
        nulls = texts.is_null()
        inner = measured(texts.values, sums)
        return {name: of_lists.from_arrays(texts.offsets, values, mask=nulls) for name, values in inner.items()}
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return {}
    nulls = texts.is_null().to_numpy(zero_copy_only=False) if texts.null_count else None
    found = (text_digests(texts), _visible_marks(texts, sums))
    return {name: pa.array(values, mask=nulls) for name, values in zip(MEASURES, found, strict=True)}


def digest_series(texts: pl.Series) -> pl.Series:
    """Hashes each text as `text_digests` does; null for a null."""
    return _nulled(text_digests(_arrow(texts)), texts)


def bare_digest_series(texts: pl.Series) -> pl.Series:
    """Hashes each text without its white space: equal for texts that differ in nothing else; null for a null."""
    content, ends = _content(_narrow_space(_arrow(texts)))
    hash_of = xxhash.xxh3_64_intdigest
    # No byte of a longer character is one of ASCII.
    words = (hash_of(bytes(content[start:end]).translate(None, _SPACE)) for start, end in pairwise(ends))
    return _nulled(np.fromiter(words, np.uint64, len(texts)), texts)


def visible_marks(texts: pl.Series, sums: int = 1) -> pl.Series:
    """Gives each text a number that texts share which differ in white space only; see `_visible_marks`.

    Args:
        texts: the texts; a null has the mark of an empty one.
        sums: how many, at most 4.
    """
    return pl.Series(_visible_marks(_arrow(texts), sums))


def _visible_marks(texts: pa.Array, sums: int) -> NDArray[np.uint32]:
    """Sums up the bytes of each text that are no white space and no control character of ASCII, in 8 bits each.

    The first sum is their number; texts without them have the mark 0. One sum, which two texts in 256 share by chance,
    takes a thirtieth of the time of a hash without white space, and four take a quarter.
    """
    narrow = _narrow_space(texts)
    content, ends = _content(narrow)
    data, places = np.frombuffer(content, np.uint8), np.array(ends)
    found = np.zeros((len(texts), 4), np.uint8)
    for start in range(0, len(texts), _SUMMED):
        at = places[start : start + _SUMMED + 1]
        filled = np.flatnonzero(at[1:] > at[:-1])
        if len(filled):
            some = data[at[0] : at[-1]]
            marks = (some > ord(" ")).view(np.uint8)
            values = [marks]
            if sums > 1:
                shown = some * marks
                values += [shown, shown * (shown >> np.uint8(2)), shown ^ (shown >> np.uint8(1))]
            for number, each in enumerate(values[:sums]):
                # In 8 bits, as sums of bytes are quick and those of longer numbers are not.
                found[start + filled, number] = np.add.reduceat(each, at[filled] - at[0], dtype=np.uint8)
    return found.view(np.uint32).ravel()


def _arrow(texts: pl.Series) -> pa.Array:
    return texts.fill_null("").to_arrow().cast(pa.large_string())


def _narrow_space(texts: pa.Array) -> pa.Array:
    """Drops all white space that is not in ASCII."""
    content, ends = _content(texts)
    if np.frombuffer(content, np.uint8)[ends[0] : ends[-1]].max(initial=0) < _ASCII:
        return texts
    series = pl.Series(pl.from_arrow(texts))
    if not (wide := series.str.contains(f"[{_WIDE_SPACE}]")).any():
        return texts
    return _arrow(series.zip_with(~wide, series.str.replace_all(f"[{_WIDE_SPACE}]", "")))


def same_but_white_space(one: str, other: str) -> bool:
    """Checks whether two texts differ in no more than white space."""
    # Most differ in their first letter, which costs nothing to see.
    return one.lstrip()[:1] == other.lstrip()[:1] and "".join(one.split()) == "".join(other.split())


def _nulled(words: _Words, texts: pl.Series) -> pl.Series:
    digests = pl.Series(words, dtype=pl.UInt64)
    if not texts.null_count():
        return digests
    return digests.zip_with(texts.is_not_null(), pl.Series([None], dtype=pl.UInt64))


class CandidateDigest:
    """Adds up a number for each prompt, made of its id and of its candidates.

    A candidate counts with source, index, model, digest and bytes of its text, score, reason without a score and finish
    reason. The sums of 64-bit hashes detect tables that differ by mistake; they do not resist somebody who makes two
    tables agree on purpose.
    """

    def __init__(self) -> None:
        self._lanes, self._count = [0] * _LANES, 0
        self._words: dict[str, int] = {}

    def add(self, candidates: pl.DataFrame) -> None:
        """Adds prompts with all their candidates; no prompt may come in two calls.

        Args:
            candidates: `prompt_id`, `source`, `index`, `model`, `score`, `unscored`, `finish_reason`, and of the text
                `digest` (see `text_digests`) and `n_bytes`, both null without a text.
        """
        if not candidates.height:
            return
        frame = candidates if candidates["prompt_id"].is_sorted() else candidates.sort("prompt_id")
        starts = np.flatnonzero(frame["prompt_id"].ne_missing(frame["prompt_id"].shift()).to_numpy())
        starts[0] = 0
        n_bytes = frame["n_bytes"].cast(pl.Int64).fill_null(-1).to_numpy()
        empty = text_digests(pa.array([""], pa.string()))[0]
        marks = mixed(frame["digest"].fill_null(int(empty)).to_numpy() + n_bytes.astype(np.uint64))
        for number, name in enumerate(_LABELS, 1):
            marks = mixed(marks + self._label_words(frame[name]) + np.uint64(number))
        index = frame["index"].cast(pl.Int64)
        place = np.where(index.is_null().to_numpy(), np.uint64(_NULL), index.fill_null(0).to_numpy().astype(np.uint64))
        score = frame["score"].fill_null(np.nan).to_numpy()
        score_words = np.where(np.isnan(score), np.uint64(_NULL), (score + 0.0).view(np.uint64))
        marks = mixed(mixed(marks + place) + score_words)
        ids = text_digests(frame["prompt_id"].gather(starts).to_arrow().cast(pa.large_string()))
        prompts = mixed(ids + mixed(np.add.reduceat(marks, starts)))
        self._count += len(prompts)
        for lane in range(_LANES):
            self._lanes[lane] += int(mixed(prompts + np.uint64(lane)).sum(dtype=np.uint64))

    def hexdigest(self) -> str:
        """Returns 64 hex digits."""
        total = [self._count, *(lane % 2**64 for lane in self._lanes)]
        return hashlib.sha256(repr(total).encode()).hexdigest()

    def _label_words(self, labels: pl.Series) -> _Words | np.uint64:
        if labels.null_count() == len(labels):
            return np.uint64(_NULL)
        names = labels.drop_nulls().unique().to_list()
        for name in names:
            if name not in self._words:
                self._words[name] = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
        words = pl.Series([self._words[name] for name in names], dtype=pl.UInt64)
        found: _Words = labels.replace_strict(names, words, default=None).fill_null(_NULL).to_numpy()
        return found


def table_digest(candidates: pl.DataFrame) -> str:
    """Returns the digest of candidates that have `response`: see `CandidateDigest`."""
    texts, digest = candidates["response"], CandidateDigest()
    digest.add(candidates.with_columns(digest=digest_series(texts), n_bytes=texts.str.len_bytes().cast(pl.Int64)))
    return digest.hexdigest()
