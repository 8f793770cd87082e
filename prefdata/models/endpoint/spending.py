"""Defines `Spending`, which records what endpoints were paid, over all runs of a build."""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from prefdata.errors import StoreError

__all__ = ["Spending", "Spent"]

_PAUSE_S = 60.0
_ENOUGH = 20
"""Fewest answers from which a speed is computed."""


@dataclass(frozen=True, slots=True)
class Spent:
    """The tokens and money that one account was paid for."""

    requests: int = 0
    """Number of responses that were paid."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    """Money, in the currency of the recipe's price table; 0 without a price table."""
    currency: str = ""
    """Empty without a price table."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost + other.cost,
            self.currency or other.currency,
        )

    def __str__(self) -> str:
        tokens = f"{self.prompt_tokens:,} prompt tokens, {self.completion_tokens:,} completion tokens"
        money = f", {self.cost:,.4f} {self.currency}" if self.currency else ""
        return f"{self.requests:,} requests, {tokens}{money}"


@dataclass(slots=True)
class _Pace:
    """Answers that came at most `_PAUSE_S` after another one of their account."""

    answers: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Spending:
    """Running totals by account. Safe to use from several threads.

    Args:
        file: JSON lines, one for each answer that was paid; read at the start, appended with each payment. None keeps
            the totals in memory only.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._totals: dict[str, Spent] = {}
        self._torn = False
        self._last: dict[str, float] = {}
        self._pace: dict[str, _Pace] = {}
        if file is not None and file.exists():
            for line in file.read_bytes().splitlines(keepends=True):
                # A line without its end was torn by a crash; the next line must not become a part of it.
                self._torn = not line.endswith(b"\n")
                if not self._torn:
                    self._read(line)

    def add(self, account: str, spent: Spent) -> None:
        """Adds a payment, and appends it to the file.

        Raises:
            StoreError: the file can't be written.
        """
        now = round(time.time(), 3)
        with self._lock:
            self._count(account, spent, now)
            if self._file is not None:
                line = json.dumps({"account": account, "at": now, **asdict(spent)}, allow_nan=False).encode() + b"\n"
                self._append(self._file, b"\n" + line if self._torn else line)
                self._torn = False

    def of(self, account: str) -> Spent:
        """Returns what an account was paid so far."""
        with self._lock:
            return self._totals.get(account, Spent())

    def speed(self, account: str) -> float | None:
        """Returns the completion tokens a second while requests were under way; None before 20 answers.

        Pauses of more than a minute count as time between two runs.
        """
        with self._lock:
            pace = self._pace.get(account, _Pace())
            return pace.tokens / pace.seconds if pace.answers >= _ENOUGH and pace.seconds > 0 else None

    @property
    def accounts(self) -> dict[str, Spent]:
        """All accounts, sorted by name."""
        with self._lock:
            return dict(sorted(self._totals.items()))

    def summary(self) -> list[str]:
        """Returns one line for each account, for people to read; empty if no account was paid."""
        return [f"{account}: {spent}" for account, spent in self.accounts.items()]

    def _append(self, path: Path, line: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(line)
        except OSError as error:
            raise StoreError(
                f"the payments can't be written to {str(path)!r}: {error.strerror or error}",
                hint="free some space, or choose another folder with --out, and run again: finished answers are kept",
            ) from error

    def _read(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            # The torn line of an earlier crash, which a later run has ended.
            return
        account, at = record.pop("account"), record.pop("at")
        self._count(account, Spent(**record), at)

    def _count(self, account: str, spent: Spent, at: float) -> None:
        self._totals[account] = self._totals.get(account, Spent()) + spent
        since = at - self._last.get(account, -math.inf)
        self._last[account] = at
        if 0 <= since <= _PAUSE_S:
            pace = self._pace.setdefault(account, _Pace())
            pace.answers += 1
            pace.tokens += spent.completion_tokens
            pace.seconds += since
