"""Items that are made in a thread of their own while the ones before them are in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

_T = TypeVar("_T")


def ahead(items: Iterable[_T]) -> Iterator[_T]:
    """Yields the items, each made in a thread of its own while the one before it is in use."""
    with ThreadPoolExecutor(1) as thread:
        waiting = iter(items)
        result = thread.submit(next, waiting)
        while True:
            try:
                item = result.result()
            except StopIteration:
                return
            result = thread.submit(next, waiting)
            yield item
