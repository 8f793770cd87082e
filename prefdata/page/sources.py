"""What the page takes in, whatever the kind of the dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from prefdata.page.rows import PageRow
from prefdata.spec import JSON

__all__ = ["Overview", "Source", "turns_of"]


@dataclass
class Overview:
    """The first view of the page."""

    facts: list[tuple[str, str]]
    """Label and value."""
    rule: str | None = None
    """The pair rule in words."""
    verdict: tuple[str, str] | None = None
    """`good`, `bad` or `open`, and a sentence."""
    flows: list[JSON] = field(default_factory=list)
    """Pictures of what became of every row: see `prefdata.page.flows`."""
    measures: list[JSON] = field(default_factory=list)
    """Numbers with their limits and a sentence each: see `prefdata.inspection.meanings`."""
    tables: list[JSON] = field(default_factory=list)
    """Further tables: `title`, `head`, `rows`."""
    models: dict[str, str] = field(default_factory=dict)
    """Source of answers → its model with its revision, as the lock pins it."""


class Source(Protocol):
    """A dataset that can be shown."""

    kind: str
    """`dataset`, `build`, `table` or `evaluation`."""
    title: str
    sides: tuple[str, str]
    """Names of the two sides of a pair."""
    titles: Mapping[str, str]
    """Column → its title, where that is not the usual one."""

    def text_bytes(self) -> int:
        """Says about how many bytes of text there are, before they are read."""

    def rows(self) -> Iterator[PageRow]:
        """Yields every pair and dropped prompt, each time in the same order."""

    def overview(self) -> Overview:
        """Describes the dataset; called after the rows were read."""


def turns_of(messages: Sequence[Mapping[str, Any]] | None) -> list[tuple[str, str]]:
    """Gives role and text of each message."""
    return [(str(turn.get("role") or ""), str(turn.get("content") or "")) for turn in messages or ()]
