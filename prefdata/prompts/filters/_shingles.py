"""Finds texts that are similar to an earlier one, by their word shingles. Computes with numpy."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import xxhash

from prefdata.lazy import np
from prefdata.prompts.filters._text import words

__all__ = ["Shingles"]

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Shingles:
    """The shingles of some texts, as ranks in ascending order of frequency: the rarest first.

    Shingles are compared by 64-bit hashes, so that millions fit in memory. Matches of hashes are checked with the
    shingles themselves, so a collision can't drop a text.

    Args:
        texts: the texts.
        n: words of a shingle.
    """

    def __init__(self, texts: Sequence[str], n: int) -> None:
        self._texts, self._n = texts, n
        word_hashes: dict[str, int] = {}
        hashed = [_hashes(_tokens(text), n, word_hashes) for text in texts]
        sizes = np.array([len(hashes) for hashes in hashed], np.int64)
        self._ends = np.cumsum(sizes)
        self._starts = self._ends - sizes
        together = np.concatenate([*hashed, np.empty(0, np.uint64)])
        _, number, counts = np.unique(together, return_inverse=True, return_counts=True)
        rank = np.empty(len(counts), np.int64)
        rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
        owner = np.repeat(np.arange(len(texts)), sizes)
        ranks = rank[number.reshape(-1)]
        self._ranks = ranks[np.lexsort((ranks, owner))]
        self._unique = int((counts == 1).sum())
        """Ranks below this belong to shingles of one text only, which can't be shared."""

    def near_earlier(self, threshold: float) -> Iterator[tuple[int, float] | None]:
        """Yields, for each text, the number of the first similar text and the exact similarity, or None.

        Only earlier texts for which None was yielded are compared.

        Args:
            threshold: least Jaccard similarity.
        """
        holders: dict[int, list[int]] = defaultdict(list)
        ends, starts = self._ends.tolist(), self._starts.tolist()
        for text, (start, end) in enumerate(zip(starts, ends, strict=True)):
            size = end - start
            # Two texts with this similarity share at least `least` shingles, hence one of the first size - least + 1.
            least = math.ceil(threshold * size - 1e-9)
            prefix = [rank for rank in self._ranks[start : start + size - least + 1].tolist() if rank >= self._unique]
            # In the order of the texts, so that the first similar one is returned.
            others = sorted({other for rank in prefix for other in holders[rank]})
            match = self._first_near(text, others, threshold)
            yield match
            if match is None:
                for rank in prefix:
                    holders[rank].append(text)

    def _first_near(self, text: int, others: Sequence[int], threshold: float) -> tuple[int, float] | None:
        if not others:
            return None
        own = self._of(text)
        for other in others:
            size = int(self._ends[other] - self._starts[other])
            if min(len(own), size) < threshold * max(len(own), size) - 1e-9:
                continue
            shared = len(own & self._of(other))
            if shared < threshold * (len(own) + size - shared) - 1e-9:
                continue
            similarity = self._similarity(text, other)
            if similarity >= threshold:
                return other, similarity
        return None

    def _of(self, text: int) -> set[int]:
        return set(self._ranks[self._starts[text] : self._ends[text]].tolist())

    def _similarity(self, first: int, second: int) -> float:
        own, other = (set(_shingles(_tokens(self._texts[text]), self._n)) for text in (first, second))
        return len(own & other) / len(own | other)


def _tokens(text: str) -> list[str]:
    """Returns the words and signs of a text; a text without any is a single token."""
    return words(text, symbols=True) or [" ".join(text.split())]


def _shingles(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + n]) for start in range(max(1, len(tokens) - n + 1))]


def _hashes(tokens: Sequence[str], n: int, word_hashes: dict[str, int]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Returns the distinct hashes of a text's shingles; caches those of words in `word_hashes`."""
    for token in tokens:
        if token not in word_hashes:
            word_hashes[token] = xxhash.xxh3_64_intdigest(token.encode())
    of_words = np.array([word_hashes[token] for token in tokens], np.uint64)
    length = min(n, len(tokens))
    count = len(tokens) - length + 1
    total = np.zeros(count, np.uint64)
    for offset in range(length):
        total = total * _MULTIPLIER + of_words[offset : offset + count]
        total ^= total >> np.uint64(29)
    return np.unique(total)
