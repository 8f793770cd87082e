"""`AdaptiveLimit`: how many requests may be under way, found out by trying."""

from __future__ import annotations

import asyncio
import time
from collections import deque

__all__ = ["AdaptiveLimit"]

_START = 4


class AdaptiveLimit:
    """Additive increase, multiplicative decrease, as TCP does it (RFC 5681). Lives in one event loop.

    The limit begins at 4 and grows by one for each answer, which doubles it in each round trip; after the endpoint
    has first been overloaded, it grows by one in each round trip. A sign of overload halves it: once for all requests
    that were under way together, since these tell of one overload.

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
        """Most requests that may be under way now."""
        return int(self._limit)

    async def enter(self) -> None:
        """Waits for a place, first come, first served. Each is followed by one `leave`."""
        if not self._waiting and self._under_way < self.limit:
            self._under_way += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                # It was given the place in the same moment, and gives it on.
                self.leave()
            elif place in self._waiting:
                self._waiting.remove(place)
            raise

    def leave(self) -> None:
        """Gives the place back."""
        self._under_way -= 1
        while self._waiting and self._under_way < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                self._under_way += 1
                place.set_result(None)

    def answered(self) -> None:
        """Takes note of an answer, before its place is given back."""
        # A limit that is not reached has not been tried.
        if self._under_way >= self.limit:
            grown = self._limit + (1 / self._limit if self._was_overloaded else 1)
            self._limit = min(float(self._most), grown)

    def overloaded(self, sent: float) -> None:
        """Takes note of a 429, a 503 or a time-out of a request that was sent at this time (`time.monotonic()`)."""
        self._was_overloaded = True
        if sent > self._halved:
            self._limit = max(1.0, self._limit / 2)
            self._halved = time.monotonic()
