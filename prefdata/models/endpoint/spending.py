"""Defines `Spending`, which records what endpoints were paid, over all runs of a build."""

from __future__ import annotations

import json
import math
import os
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from prefdata.errors import StoreError
from prefdata.spec import JSON
from prefdata.tables.own_files import append_only, read_bytes

__all__ = ["Spending", "Spent"]

_PAUSE_S = 60.0
_BYTES = 1 << 31
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
        file: JSON lines, one for each answer that was paid, each with its checksum; read at the start, appended with
            each payment. None keeps the totals in memory only.

    Raises:
        StoreError: the file can't be read.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._totals: dict[str, Spent] = {}
        self._torn = False
        self._last: dict[str, float] = {}
        self._pace: dict[str, _Pace] = {}
        self.damaged = 0
        """Lines of the file that are not counted: each is a payment of an amount that is not known."""
        for line in _lines(file) if file is not None else ():
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
                record = {"account": account, "at": now, **asdict(spent)}
                line = json.dumps({**record, "crc": _crc(record)}, allow_nan=False).encode() + b"\n"
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

    def money(self) -> dict[str, float]:
        """Adds up what all accounts were paid, by currency; accounts without a price table are left out."""
        totals: dict[str, float] = {}
        for spent in self.accounts.values():
            if spent.currency:
                totals[spent.currency] = totals.get(spent.currency, 0.0) + spent.cost
        return totals

    def summary(self) -> list[str]:
        """Returns one line for each account, for people to read; empty if no account was paid."""
        lines = [f"{account}: {spent}" for account, spent in self.accounts.items()]
        if self.damaged:
            lines.append(f"{self._file}: {self.damaged:,} damaged lines are not counted, each of them one payment")
        return lines

    def _append(self, path: Path, line: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(append_only(path), "ab") as file:
                file.write(line)
        except OSError as error:
            raise StoreError(
                f"the payments can't be written to {str(path)!r}: {error.strerror or error}",
                hint="free some space, or choose another folder with --out, and run again: finished answers are kept",
            ) from error

    def _read(self, line: bytes) -> None:
        if line.isspace():
            return
        try:
            record = json.loads(line)
            # Earlier versions wrote no checksum.
            if "crc" in record and record.pop("crc") != _crc(record):
                raise ValueError("the checksum is another one")
            account, at = str(record.pop("account")), float(record.pop("at"))
            spent = Spent(**record)
            if not all(_is_sound(name, value) for name, value in {**asdict(spent), "at": at}.items()):
                raise ValueError("a value is not of its kind")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            # Also the torn line of an earlier crash, which a later run has ended.
            self.damaged += 1
            return
        self._count(account, spent, at)

    def _count(self, account: str, spent: Spent, at: float) -> None:
        self._totals[account] = self._totals.get(account, Spent()) + spent
        since = at - self._last.get(account, -math.inf)
        self._last[account] = at
        if 0 <= since <= _PAUSE_S:
            pace = self._pace.setdefault(account, _Pace())
            pace.answers += 1
            pace.tokens += spent.completion_tokens
            pace.seconds += since


def _lines(file: Path) -> list[bytes]:
    try:
        return (read_bytes(file, _BYTES) or b"").splitlines(keepends=True)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise StoreError(
            f"the payments in {str(file)!r} can't be read: {why}",
            valid="the file as it was written: budgets count what it says",
            hint="put it back, or remove it: payments so far are not counted then",
        ) from error


def _is_sound(name: str, value: object) -> bool:
    if name == "currency":
        return isinstance(value, str)
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _crc(record: Mapping[str, JSON]) -> str:
    return f"{zlib.crc32(json.dumps(record, sort_keys=True, allow_nan=False).encode()):08x}"
