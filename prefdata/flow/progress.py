"""Progress on stderr: what is done, the rate, the time left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefdata.errors import printable

__all__ = ["Progress", "say"]

_LINE = 10_000
"""Longest line that is printed."""


def say(line: str) -> None:
    """Prints one line on stderr, above the progress bar."""
    from tqdm import tqdm

    tqdm.write(printable(line, _LINE), file=sys.stderr)


class Progress:
    """Counts finished work of one stage and shows it: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._started = False

    @property
    def done(self) -> int:
        """How much is finished."""
        return int(self._bar.n)

    def advance(self, count: int, *, fresh: bool = True) -> None:
        """Counts more finished work.

        Args:
            count: how much.
            fresh: whether this run did it; what an earlier run had finished does not count for the rate.
        """
        if fresh and self._started:
            self._bar.update(count)
            return
        self._bar.initial += count
        self._bar.n += count
        if fresh:
            # The first result comes after the start of an engine, which says nothing of how fast the others come.
            self._started = True
            self._bar.unpause()
            self._bar.last_print_n = self._bar.n
            self._bar.refresh()

    @classmethod
    @contextmanager
    def of(cls, what: str, total: int, unit: str) -> Iterator[Progress]:
        """Shows the progress of a stage while the block runs.

        Args:
            what: the stage's name.
            total: how much there is to do.
            unit: what is counted.
        """
        from tqdm import tqdm

        label = printable(what, 80)
        interval = 0.2 if sys.stderr.isatty() else 10.0
        with tqdm(
            total=total,
            desc=label,
            unit=f" {unit}",
            file=sys.stderr,
            mininterval=interval,
            dynamic_ncols=True,
        ) as bar:
            yield cls(bar)
