"""Progress on stderr: what is done, shards, tokens a second, money, failures, time left; or events for a program."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from prefdata.errors import printable
from prefdata.flow.fitting import on_terminal
from prefdata.spec import JSON

__all__ = ["Progress", "reporting_to", "say"]

_LINE = 10_000
"""Longest line that is printed."""
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
"""As tqdm draws a bar, but slow work has a rate like all other, and not seconds for each item."""
_FAILURES = 3
"""Most reasons of failures that a bar names."""
_SECONDS = 1.0
"""Least time between two events of a stage."""
_listeners: list[Callable[[JSON], None]] = []


@contextmanager
def reporting_to(listener: Callable[[JSON], None]) -> Iterator[None]:
    """Gives progress to a program within the block, as events, in place of lines and bars on stderr.

    Args:
        listener: takes an event at a time: `{"event": "line", "text": ...}`, or `{"event": "progress", "stage": ...,
            "done": ..., "total": ..., "unit": ..., ...}`; called from any thread.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def say(line: str) -> None:
    """Prints one line on stderr, above the progress bar."""
    if _listeners:
        _listeners[-1]({"event": "line", "text": printable(line, _LINE)})
        return
    from tqdm import tqdm

    tqdm.write("\n".join(on_terminal(printable(line, _LINE), sys.stderr)), file=sys.stderr)


class Progress:
    """Counts finished work of one stage and shows it: a bar on a terminal, a line now and then elsewhere.

    Args:
        what: the stage's name.
        total: how much there is to do.
        unit: what is counted.
        bar: shows it; None where a program is told.
        details: a line below the bar, for what does not fit beside it; None shows that beside the bar.
        spent: gives the money that was paid so far, by currency.
    """

    def __init__(
        self,
        what: str,
        total: int,
        unit: str,
        bar: Any = None,
        details: Any = None,
        spent: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._what, self._total, self._unit, self._spent = what, total, unit, spent
        self._bar, self._below = bar, details
        self.done = 0
        """How much is finished."""
        self._since: float | None = None
        """When the first result of this run came."""
        self._shown = 0.0
        self._tokens = self._n_fresh = 0
        self._failures: Counter[str] = Counter()
        self._shards = (0, 0)

    def advance(
        self, count: int, *, fresh: bool = True, tokens: int = 0, failures: Mapping[str, int] | None = None
    ) -> None:
        """Counts more finished work.

        Args:
            count: how much.
            fresh: whether this run did it; what an earlier run had finished does not count for the rate.
            tokens: that models have written for it.
            failures: reason → answers that failed, or could not be scored.
        """
        self.done += count
        self._failures.update(failures or {})
        if fresh and self._since is not None:
            self._tokens += tokens
            self._n_fresh += count
            self._show()
            if self._bar is not None:
                self._bar.update(count)
            return
        if self._bar is not None:
            self._bar.initial += count
            self._bar.n += count
        if fresh:
            # The first result comes after the start of an engine, which says nothing of how fast the others come.
            self._since = time.monotonic()
            if self._bar is not None:
                self._bar.unpause()
                self._bar.last_print_n = self._bar.n
                self._bar.refresh()
        self._show()

    def shards(self, done: int, total: int) -> None:
        """Says how many shards are finished."""
        self._shards = (done, total)

    def _show(self, *, last: bool = False) -> None:
        """Renews what a bar says besides count, rate and time left, or gives the program an event; not too often."""
        now = time.monotonic()
        if now - self._shown < _SECONDS and not last:
            return
        self._shown = now
        if self._below is not None:
            self._below.set_description_str(_fitting(self._details()))
        elif self._bar is not None:
            self._bar.set_postfix_str(", ".join(self._details()), refresh=last)
        elif _listeners:
            _listeners[-1](self._event())

    def _rates(self) -> tuple[float | None, float | None]:
        """Returns work and tokens a second since the first result; None where nothing is known."""
        seconds = 0.0 if self._since is None else time.monotonic() - self._since
        if not seconds:
            return None, None
        return (self._n_fresh / seconds if self._n_fresh else None), (self._tokens / seconds if self._tokens else None)

    def _details(self) -> list[str]:
        parts = [f"shard {self._shards[0]:,}/{self._shards[1]:,}"] if self._shards[1] > 1 else []
        if (speed := self._rates()[1]) is not None:
            parts.append(f"{speed:,.0f} tokens/s")
        parts += [f"{cost:,.2f} {currency}" for currency, cost in self._spent().items()]
        return parts + [f"{printable(reason, 30)} {count:,}" for reason, count in self._failures.most_common(_FAILURES)]

    def _event(self) -> JSON:
        rate, speed = self._rates()
        return {
            **{"event": "progress", "stage": self._what, "unit": self._unit, "done": self.done, "total": self._total},
            "shards": {"done": self._shards[0], "total": self._shards[1]},
            "tokens_per_second": None if speed is None else round(speed, 1),
            "seconds_left": None if rate is None else round(max(0, self._total - self.done) / rate, 1),
            "spent": {currency: round(cost, 6) for currency, cost in self._spent().items()},
            "failures": dict(sorted(self._failures.items())),
        }

    @classmethod
    @contextmanager
    def of(
        cls, what: str, total: int, unit: str, spent: Callable[[], Mapping[str, float]] = dict
    ) -> Iterator[Progress]:
        """Shows the progress of a stage while the block runs.

        Args:
            what: the stage's name.
            total: how much there is to do.
            unit: what is counted.
            spent: gives the money that was paid so far, by currency.
        """
        if _listeners:
            progress = cls(what, total, unit, spent=spent)
            yield progress
            progress._show(last=True)
            return
        from tqdm import tqdm

        watched = sys.stderr.isatty()
        common: dict[str, Any] = {"file": sys.stderr, "mininterval": 0.2 if watched else 10.0, "dynamic_ncols": True}
        with ExitStack() as stack:
            bar = tqdm(total=total, desc=printable(what, 80), unit=f" {unit}", bar_format=_BAR, **common)
            stack.enter_context(bar)
            below = None
            if watched:
                below = stack.enter_context(tqdm(total=0, bar_format="{desc}", position=1, leave=False, **common))
            progress = cls(what, total, unit, bar, below, spent)
            yield progress
            progress._show(last=True)


def _fitting(parts: list[str]) -> str:
    """Joins what has room on one line of the terminal."""
    width, line = shutil.get_terminal_size().columns - 1, ""
    for part in parts:
        longer = f"{line}, {part}" if line else f"  {part}"
        if len(longer) > width:
            break
        line = longer
    return line
