"""`Lease`: the right to write a folder of an object store, which ends when its holder no longer renews it.

Leases are objects with numbers: `.writing/000004.json` holds the folder until there is a `000005.json`, which only one
of two builders can make, since the store puts it only where there is none.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from prefdata.errors import StoreError, printable
from prefdata.hub import ObjectStore
from prefdata.spec import JSON

__all__ = ["LEASES", "Lease", "leased"]

LEASES = ".writing"
"""Folder of the leases."""
_FILE = re.compile(rf"{re.escape(LEASES)}/(\d{{6}})\.json")
_RENEW_S = 30.0
_OLD_S = 300.0
"""Age from which on a lease that was not renewed may be taken over."""


class Lease:
    """A lease that this process holds.

    Args:
        store: the folder.
        owner: names the working folder on this machine, which one process at a time holds: its own lease of before is
            free for it.
        log: receives what a user should know.
    """

    def __init__(self, store: ObjectStore, owner: str, log: Callable[[str], None]) -> None:
        self._store, self._owner, self._log = store, owner, log
        self._nonce = secrets.token_hex(8)
        self._number = 0
        self._renewed = 0.0
        self.lost: StoreError | None = None
        """Why the lease is no longer held; None while it is."""

    def take(self) -> None:
        """Takes the lease.

        Raises:
            StoreError: another build holds it.
        """
        number, holder = self._newest()
        if holder is not None and not self._free(holder):
            raise self._in_use(holder)
        if not self._store.conditional:
            self._log(f"{self._store.url}: this kind of store can't keep two builds apart that start at once")
        self._number = number + 1
        # The answer to a put that went well may be lost: what is there then is ours.
        self._store.create(self._name(self._number), self._content())
        newest, holder = self._newest()
        if newest != self._number or holder is None or holder.get("nonce") != self._nonce:
            raise self._in_use(holder or {})
        self._renewed = time.monotonic()
        self._store.delete(self._name(old) for old in self._numbers() if old < self._number)

    def renew(self) -> None:
        """Says that this process is still at work.

        Raises:
            StoreError: the lease was taken over, or the store can't be written.
        """
        try:
            self._check()
            self._store.put_bytes({self._name(self._number): self._content()})
        except StoreError as error:
            self.lost = error
            raise
        self._renewed = time.monotonic()

    def check(self) -> None:
        """Makes sure, before something is written, that the lease is held.

        Raises:
            StoreError: it is not.
        """
        if self.lost is not None:
            raise self.lost
        # A machine that was asleep has renewed nothing, and may have been taken for dead.
        if time.monotonic() - self._renewed > _OLD_S / 2:
            self.renew()

    def release(self) -> None:
        """Frees the folder for the next build at once."""
        with suppress(StoreError):
            self._check()
            self._store.put_bytes({self._name(self._number): self._content(released=True)})

    def _check(self) -> None:
        newest, holder = self._newest()
        if newest > self._number:
            raise StoreError(
                f"{self._store.url!r} was taken over by another build ({_described(holder or {})})",
                hint="wait for it to end; what this one has finished is kept, and goes on with the same command",
            )

    def _numbers(self) -> list[int]:
        return sorted(int(match[1]) for name in self._store.files(LEASES) if (match := _FILE.fullmatch(name)))

    def _newest(self) -> tuple[int, dict[str, JSON] | None]:
        number = max(self._numbers(), default=0)
        content = self._store.read(self._name(number)) if number else None
        with suppress(ValueError, RecursionError):
            holder = json.loads(content or b"")
            return number, holder if isinstance(holder, dict) else None
        return number, None

    def _free(self, holder: dict[str, JSON]) -> bool:
        if holder.get("released") is True or holder.get("owner") == self._owner:
            return True
        at = holder.get("at")
        age = time.time() - at if isinstance(at, int | float) else _OLD_S + 1
        if age > _OLD_S:
            self._log(f"{self._store.url}: takes over from {_described(holder)}, not heard of for {age / 60:,.0f} min")
        return age > _OLD_S

    def _in_use(self, holder: dict[str, JSON]) -> StoreError:
        return StoreError(
            f"{self._store.url!r} is in use by another build ({_described(holder)})",
            hint=f"wait for it to end, or choose another folder with --out; if it runs no more, it is free "
            f"{_OLD_S / 60:.0f} minutes after its last sign of life",
        )

    def _content(self, *, released: bool = False) -> bytes:
        holder: dict[str, JSON] = {"owner": self._owner, "nonce": self._nonce, "at": round(time.time(), 1)}
        holder |= {"host": socket.gethostname(), "process": os.getpid(), "released": released}
        return json.dumps(holder, sort_keys=True, allow_nan=False).encode()

    @staticmethod
    def _name(number: int) -> str:
        return f"{LEASES}/{number:06d}.json"


@contextmanager
def leased(store: ObjectStore, owner: str, log: Callable[[str], None]) -> Iterator[Lease]:
    """Holds a folder of an object store while the block runs, and renews the lease in a thread.

    Args:
        store: the folder.
        owner: see `Lease`.
        log: receives what a user should know.

    Raises:
        StoreError: another build holds it.
    """
    lease, ended = Lease(store, owner, log), threading.Event()
    lease.take()

    def renewing() -> None:
        with suppress(StoreError):
            while not ended.wait(_RENEW_S):
                lease.renew()

    thread = threading.Thread(target=renewing, name="prefdata-lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join()
        lease.release()


def _described(holder: dict[str, JSON]) -> str:
    return printable(f"process {holder.get('process', '?')} of {holder.get('host', 'an unknown machine')!r}", 100)
