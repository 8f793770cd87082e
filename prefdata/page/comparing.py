"""Compares two datasets row by row: gained, lost, flipped, re-scored. Memory holds digests, never texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prefdata.page.flows import flow
from prefdata.page.rows import PageRow
from prefdata.page.sources import Overview, Source

__all__ = ["ComparedSource"]

_BEFORE = "before"
"""The change of a row that shows the other dataset's pair of a prompt whose pair has changed."""


class _Seen(NamedTuple):
    texts: tuple[bytes, bytes]
    scores: tuple[object, object]
    outcome: str


class ComparedSource:
    """A dataset, with what differs from another one: its rows, then the other's that were lost or changed.

    Args:
        source: the dataset.
        other: the one before.
        label: what the page calls it.
    """

    def __init__(self, source: Source, other: Source, label: str) -> None:
        self._source, self._other, self._label = source, other, label
        self.kind, self.title, self.sides, self.titles = source.kind, source.title, source.sides, source.titles
        self._counts: Counter[str] = Counter()

    def text_bytes(self) -> int:
        """Says about how many bytes of text there are."""
        return self._source.text_bytes()

    def rows(self) -> Iterator[PageRow]:
        """Yields every row of the dataset with its change, then those of the other one."""
        self._counts = Counter()
        before = {row.match_key(): _seen(row) for row in self._other.rows()}
        left = set(before)
        changed: dict[bytes, str] = {}
        for row in self._source.rows():
            key = row.match_key()
            row.values["change"] = change = _change(before.get(key), _seen(row))
            left.discard(key)
            if change not in ("same", "gained"):
                changed[key] = row.prompt_id
            self._counts[change] += 1
            yield row
        for row in self._other.rows():
            key = row.match_key()
            if key in left:
                left.discard(key)
                self._counts["lost"] += 1
                row.values["change"] = "lost"
                yield row
            elif key in changed:
                # The page finds it by the id of the row that took its place.
                row.prompt_id = changed.pop(key)
                row.values["change"] = _BEFORE
                yield row

    def overview(self) -> Overview:
        """Describes the dataset, with a picture of the changes first."""
        overview = self._source.overview()
        overview.facts.append(("Compared with", self._label))
        links = [(f"{self.title} and {self._label}", change, count, ["change", change])
                 for change, count in sorted(self._counts.items())]  # fmt: skip
        overview.flows.insert(0, flow(f"What differs from {self._label}", "prompts", links))
        return overview


def _seen(row: PageRow) -> _Seen:
    values: Mapping[str, object] = row.values
    return _Seen(row.texts_key(), (values.get("score_chosen"), values.get("score_rejected")), row.outcome)


def _change(before: _Seen | None, now: _Seen) -> str:
    if before is None:
        return "gained"
    if before.outcome != now.outcome:
        return f"{before.outcome} → {now.outcome}"
    if before.texts == now.texts:
        return "same" if before.scores == now.scores else "re-scored"
    if before.texts == now.texts[::-1]:
        return "flipped"
    return "other answers"
