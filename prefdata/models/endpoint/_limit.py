"""Defines `AdaptiveLimit`, which finds by trying how many requests an endpoint takes at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque

__all__ = ["AdaptiveLimit"]

_START = 4


class AdaptiveLimit:
    """Limits the requests under way by additive increase and multiplicative decrease, as TCP does (RFC 5681).

    The limit begins at 4 and grows by one for each answer, which doubles it in each round trip. After the first
    overload it grows by one in each round trip. A sign of overload halves it, once for all requests that were under
    way together, since these report one overload. Used in one event loop.

    Args:
        most: the limit never exceeds this.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(min(_START, most))
        self._under_way = 0
        self._was_overloaded = False
        self._halved = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """Number of requests that may be under way now."""
        return int(self._limit)

    async def enter(self) -> None:
        """Waits until one more request may be sent, first come, first served. Each call is followed by one `leave`."""
        if not self._waiting and self._under_way < self.limit:
            self._under_way += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # Its turn came in the same moment: it passes on to the next one.
                self.leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Takes note that a request has ended."""
        self._under_way -= 1
        while self._waiting and self._under_way < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._under_way += 1
                turn.set_result(None)

    def answered(self) -> None:
        """Takes note of an answer; to be called before `leave`."""
        # A limit that is not reached has not been tried, so it does not grow.
        if self._under_way >= self.limit:
            grown = self._limit + (1 / self._limit if self._was_overloaded else 1)
            self._limit = min(float(self._most), grown)

    def overloaded(self, sent: float) -> None:
        """Takes note of a 429, a 503 or a time-out of a request that was sent at this time (`time.monotonic()`)."""
        self._was_overloaded = True
        if sent > self._halved:
            self._limit = max(1.0, self._limit / 2)
            self._halved = time.monotonic()
