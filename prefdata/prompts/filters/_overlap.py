"""Runs of words that a text shares with texts of evaluation sets, exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from prefdata.prompts.filters._text import words

__all__ = ["Overlap"]


class Overlap:
    """An index of evaluation texts by their runs of `n` words."""

    def __init__(self, n: int, share: float, short: int) -> None:
        self._n, self._share, self._short = n, share, short
        self._names: list[str] = []
        self._words: list[list[str]] = []
        self._runs: dict[str, list[tuple[int, int]]] = defaultdict(list)
        """n words → the texts that hold them, and where."""
        self._starts: dict[str, list[int]] = defaultdict(list)
        """The first `short` words of texts with fewer than n → these texts."""
        self._whole: dict[str, int] = {}
        """The words of a text that has fewer than `short` → the first such text."""

    def add(self, name: str, text: str) -> bool:
        """Adds one text; False if there is no word in it."""
        found = words(text)
        if not found:
            return False
        place = len(self._names)
        self._names.append(name)
        self._words.append(found)
        if len(found) < self._short:
            self._whole.setdefault(" ".join(found), place)
        elif len(found) < self._n:
            self._starts[" ".join(found[: self._short])].append(place)
        else:
            for at, run in enumerate(_runs(found, self._n)):
                self._runs[run].append((place, at))
        return True

    def of(self, messages: Iterable[str]) -> str | None:
        """The evaluation text that the messages share most of, in words; None where they share too little.

        Of texts shared alike, the first that was added.
        """
        best: tuple[float, int, str] | None = None
        for covered, place, run in self._shared([words(message) for message in messages]):
            share = covered / len(self._words[place])
            if share >= self._share and (best is None or (-share, place) < (-best[0], best[1])):
                best = share, place, run
        if best is None:
            return None
        share, place, run = best
        return f"{self._names[place]}: {share:.0%} of its words, such as {run!r}"

    def _shared(self, messages: Sequence[list[str]]) -> Iterator[tuple[int, int, str]]:
        """For each text met: how many of its words stand in shared runs, the text, and the first run."""
        covered: dict[int, set[int]] = defaultdict(set)
        first: dict[int, str] = {}
        for message in messages:
            for run in _runs(message, self._n):
                for place, at in self._runs.get(run, ()):
                    covered[place].update(range(at, at + self._n))
                    first.setdefault(place, run)
            if self._starts:
                for at, start in enumerate(_runs(message, self._short)):
                    for place in self._starts.get(start, ()):
                        found = self._words[place]
                        if message[at : at + len(found)] == found:
                            covered[place].update(range(len(found)))
                            first.setdefault(place, " ".join(found))
            if len(message) < self._short and (whole := self._whole.get(" ".join(message))) is not None:
                covered[whole].update(range(len(message)))
                first.setdefault(whole, " ".join(message))
        for place, places in covered.items():
            yield len(places), place, first[place]


def _runs(found: Sequence[str], n: int) -> Iterator[str]:
    return (" ".join(found[at : at + n]) for at in range(len(found) - n + 1))
