"""`Report`: the result of a verification, with every mismatch: where it is, what was expected and what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from reprlib import Repr
from typing import TypeVar

from prefdata.spec import JSON
from prefdata.tables.documents import ABSENT, json_differences

__all__ = ["Mismatch", "Report"]

_WIDTH = 160
_REPR = Repr()
_REPR.maxlevel, _REPR.maxdict, _REPR.maxlist, _REPR.maxtuple = 4, 8, 8, 8
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _WIDTH


_Text = TypeVar("_Text", str, str | None)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference between the dataset and its rebuilt form."""

    what: str
    """Kind of mismatch: `pair`, `field`, `drop`, `split`, `ledger`, `manifest`, ..."""
    where: str
    """The file."""
    prompt_id: str | None
    field: str | None
    """The column, or the path within a JSON document."""
    expected: str
    """`repr` of the expected value; for long texts, of the part around the first difference."""
    found: str
    """The same for the value in the folder."""
    candidate: str | None = None
    """Source and index of the answer, or of the two compared answers, where the mismatch is not about a pair."""


@dataclass
class Report:
    """The result of a verification: what was checked, what was not, and every mismatch."""

    folder: str
    keep: int | None = 20
    """Number of mismatches that are kept; all are counted. None keeps all."""
    commit: str | None = None
    """Commit of the downloaded repository; None for a local folder."""
    checked: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    """Checks that were not possible, each with the reason."""
    counts: Counter[str] = field(default_factory=Counter)
    """Kind of mismatch → number."""
    mismatches: list[Mismatch] = field(default_factory=list)
    """The first `keep` ones."""

    @property
    def holds(self) -> bool:
        """Whether the dataset has no mismatch."""
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
        """Counts a mismatch, and keeps it if fewer than `keep` are kept."""
        self.counts[what] += 1
        if self.keep is None or len(self.mismatches) < self.keep:
            shown = _shown(expected, found)
            self.mismatches.append(
                Mismatch(what, _plain(where), _plain(prompt_id), _plain(field), *shown, _plain(candidate))
            )

    def compare(self, what: str, where: str, expected: JSON, found: JSON, *, path: str = "") -> None:
        """Adds a mismatch for every difference of two JSON values."""
        for inner, one, other in json_differences(expected, found, path):
            self.add(what, where, field=inner, expected=one, found=other)

    @contextmanager
    def checking(self, what: str) -> Iterator[None]:
        """Records a check that ran to its end."""
        yield
        self.checked.append(what)

    def as_json(self) -> JSON:
        """Returns the report as a JSON value."""
        return {
            "folder": _plain(self.folder),
            "commit": self.commit,
            "holds": self.holds,
            "checked": self.checked,
            "not_checked": self.not_checked,
            "counts": dict(sorted(self.counts.items())),
            "mismatches": [asdict(mismatch) for mismatch in self.mismatches],
        }


def _plain(text: _Text) -> _Text:
    """Escapes characters that can't be written as UTF-8."""
    return text and text.encode("utf-8", "backslashreplace").decode("utf-8")


def _shown(expected: object, found: object) -> tuple[str, str]:
    if isinstance(expected, str) and isinstance(found, str) and max(len(expected), len(found)) > _WIDTH:
        return _around(expected, found)
    return _REPR.repr(expected), _REPR.repr(found)


def _around(expected: str, found: str) -> tuple[str, str]:
    """Cuts both texts to the part around the first different character."""
    shorter = min(len(expected), len(found))
    position = next((n for n in range(shorter) if expected[n] != found[n]), shorter)
    start = max(0, position - _WIDTH // 4)
    cut = [f"{text[start : start + _WIDTH // 2]!r}" for text in (expected, found)]
    note = f" (from character {start + 1} on)" if start else ""
    return f"{cut[0]}{note}", f"{cut[1]}{note}"
