"""Finds the runs of words that a prompt shares with texts of evaluation sets, exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from prefdata.prompts.filters._text import words

__all__ = ["Overlap"]


class Overlap:
    """An index of evaluation texts by their runs of `n` words.

    Args:
        n: words of a run.
        share: least share of a text's words that must be in shared runs.
        short: a text of fewer words must be a whole message.
    """

    def __init__(self, n: int, share: float, short: int) -> None:
        self._n, self._share, self._short = n, share, short
        self._names: list[str] = []
        self._words: list[list[str]] = []
        self._runs: dict[str, list[tuple[int, int]]] = defaultdict(list)
        """Run of n words → the numbers of the texts that hold it, and the position there."""
        self._starts: dict[str, list[int]] = defaultdict(list)
        """The first `short` words of texts with fewer than n words → the numbers of these texts."""
        self._whole: dict[str, int] = {}
        """All words of a text with fewer than `short` words → the number of the first such text."""

    def add(self, name: str, text: str) -> bool:
        """Adds one text; returns False if it has no word."""
        text_words = words(text)
        if not text_words:
            return False
        number = len(self._names)
        self._names.append(name)
        self._words.append(text_words)
        if len(text_words) < self._short:
            self._whole.setdefault(" ".join(text_words), number)
        elif len(text_words) < self._n:
            self._starts[" ".join(text_words[: self._short])].append(number)
        else:
            for position, run in enumerate(_runs(text_words, self._n)):
                self._runs[run].append((number, position))
        return True

    def of(self, messages: Iterable[str]) -> str | None:
        """Describes the evaluation text that shares most of its words with the messages; None if none shares enough.

        Of texts with equal shares, takes the first that was added.
        """
        best: tuple[float, int, str] | None = None
        for n_shared, number, run in self._shared([words(message) for message in messages]):
            share = n_shared / len(self._words[number])
            if share >= self._share and (best is None or (-share, number) < (-best[0], best[1])):
                best = share, number, run
        if best is None:
            return None
        share, number, run = best
        return f"{self._names[number]}: {share:.0%} of its words, such as {run!r}"

    def _shared(self, messages: Sequence[list[str]]) -> Iterator[tuple[int, int, str]]:
        """Yields, for each text with a shared run: its number of words in shared runs, its number, its first run."""
        shared: dict[int, set[int]] = defaultdict(set)
        first: dict[int, str] = {}
        for message in messages:
            for run in _runs(message, self._n):
                for number, position in self._runs.get(run, ()):
                    shared[number].update(range(position, position + self._n))
                    first.setdefault(number, run)
            if self._starts:
                for position, start in enumerate(_runs(message, self._short)):
                    for number in self._starts.get(start, ()):
                        text_words = self._words[number]
                        if message[position : position + len(text_words)] == text_words:
                            shared[number].update(range(len(text_words)))
                            first.setdefault(number, " ".join(text_words))
            if len(message) < self._short and (whole := self._whole.get(" ".join(message))) is not None:
                shared[whole].update(range(len(message)))
                first.setdefault(whole, " ".join(message))
        for number, positions in shared.items():
            yield len(positions), number, first[number]


def _runs(text_words: Sequence[str], n: int) -> Iterator[str]:
    return (" ".join(text_words[start : start + n]) for start in range(len(text_words) - n + 1))
