"""What `verify` found: each mismatch with its place, what was expected and what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from reprlib import Repr
from typing import TypeVar

from prefdata.spec import JSON

__all__ = ["ABSENT", "Mismatch", "Report", "differences"]

_WIDTH = 160
_REPR = Repr()
_REPR.maxlevel, _REPR.maxdict, _REPR.maxlist, _REPR.maxtuple = 4, 8, 8, 8
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _WIDTH


_Text = TypeVar("_Text", str, str | None)


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()
"""Stands for a value that is not there."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that is not what it should be."""

    what: str
    """Kind of mismatch: `pair`, `field`, `drop`, `split`, `ledger`, `manifest`, ..."""
    where: str
    """The file."""
    prompt_id: str | None
    field: str | None
    """The column, or the path within a JSON document."""
    expected: str
    """As Python shows it; of long texts the part around the first difference."""
    found: str
    """As Python shows it; of long texts the part around the first difference."""
    candidate: str | None = None
    """Source and index of the answer, or of the two that are compared, where the mismatch is about no pair."""


@dataclass
class Report:
    """What was checked, what was not, and every mismatch."""

    folder: str
    keep: int | None = 20
    """Mismatches that are kept; all are counted. None keeps all."""
    commit: str | None = None
    """Commit of the repository that was downloaded."""
    checked: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    """What could not be checked, each with the reason."""
    counts: Counter[str] = field(default_factory=Counter)
    """Kind of mismatch → how many."""
    mismatches: list[Mismatch] = field(default_factory=list)
    """The first `keep` ones."""

    @property
    def holds(self) -> bool:
        """Whether there is no mismatch at all."""
        return not self.counts

    def add(
        self,
        what: str,
        where: str,
        *,
        prompt_id: str | None = None,
        field: str | None = None,
        candidate: str | None = None,
        expected: object = ABSENT,
        found: object = ABSENT,
    ) -> None:
        """Counts a mismatch, and keeps it while there is room."""
        self.counts[what] += 1
        if self.keep is None or len(self.mismatches) < self.keep:
            shown = _shown(expected, found)
            self.mismatches.append(
                Mismatch(what, _plain(where), _plain(prompt_id), _plain(field), *shown, _plain(candidate))
            )

    def compare(self, what: str, where: str, expected: JSON, found: JSON, *, path: str = "") -> None:
        """Adds every difference of two JSON values."""
        for place, one, other in differences(expected, found, path):
            self.add(what, where, field=place, expected=one, found=other)

    @contextmanager
    def checking(self, what: str) -> Iterator[None]:
        """Notes that a check was carried out to its end."""
        yield
        self.checked.append(what)

    def as_json(self) -> JSON:
        """The report as a JSON value."""
        return {
            "folder": _plain(self.folder),
            "commit": self.commit,
            "holds": self.holds,
            "checked": self.checked,
            "not_checked": self.not_checked,
            "counts": dict(sorted(self.counts.items())),
            "mismatches": [asdict(mismatch) for mismatch in self.mismatches],
        }


def differences(expected: JSON, found: JSON, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Where two JSON values differ: path, value here, value there. 1, 1.0 and true are three different values."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            below = f"{path}.{key}" if path else str(key)
            yield from differences(expected.get(key, ABSENT), found.get(key, ABSENT), below)
    elif isinstance(expected, list) and isinstance(found, list):
        for place in range(max(len(expected), len(found))):
            one = expected[place] if place < len(expected) else ABSENT
            other = found[place] if place < len(found) else ABSENT
            yield from differences(one, other, f"{path}[{place}]")
    elif type(expected) is not type(found) or expected != found:
        yield path, expected, found


def _plain(text: _Text) -> _Text:
    """The text without what can't be written as UTF-8."""
    return text and text.encode("utf-8", "backslashreplace").decode("utf-8")


def _shown(expected: object, found: object) -> tuple[str, str]:
    if isinstance(expected, str) and isinstance(found, str) and max(len(expected), len(found)) > _WIDTH:
        return _around(expected, found)
    return _REPR.repr(expected), _REPR.repr(found)


def _around(expected: str, found: str) -> tuple[str, str]:
    """Both texts, cut to what is near the first character that differs."""
    shorter = min(len(expected), len(found))
    place = next((n for n in range(shorter) if expected[n] != found[n]), shorter)
    start = max(0, place - _WIDTH // 4)
    cut = [f"{text[start : start + _WIDTH // 2]!r}" for text in (expected, found)]
    note = f" (from character {start + 1} on)" if start else ""
    return f"{cut[0]}{note}", f"{cut[1]}{note}"
