"""A chat endpoint on loopback whose answers and faults are scripted, and a context that counts."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from loopback import LoopbackHandler, LoopbackServer, running

from prefdata.models.endpoint.spending import Spending
from prefdata.records import Message, Request
from prefdata.spec import Context

KEY = "sk-very-secret-0123456789"
CUT = -1
"""As a status: cut the connection."""
HANG = -2
"""As a status: never answer, and wait until the client hangs up."""
GUARD_S = 120.0
"""What a test waits for has come long before this, or never will."""


def completion(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "served-model",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }


@dataclass
class Reply:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    """Makes it likely, and no more than that, that requests overlap."""


Script = Callable[[str, int, dict[str, Any]], Reply]
"""(text of the last message, how often it was asked before, request body) -> reply."""


class Endpoint(LoopbackServer):
    def __init__(self, script: Script) -> None:
        super().__init__(_Handler)
        self.script = script
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: set[str | None] = set()
        self.names: dict[str, set[str | None]] = {}
        """Text of the last message -> idempotency keys of its tries."""
        self.arrivals: list[float] = []
        self.under_way = 0
        """Requests whose answer, or silence, is not decided yet."""
        self.most_under_way = 0
        self.hung_up = threading.Semaphore(0)
        """Released by each client that gave up waiting for an answer that never comes."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(LoopbackHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.body())
        text = body["messages"][-1]["content"]
        server = self.server
        with server.lock:
            before = server.asked[text]
            server.asked[text] += 1
            server.bodies.append(body)
            server.authorizations.add(self.headers["authorization"])
            server.names.setdefault(text, set()).add(self.headers["idempotency-key"])
            server.arrivals.append(time.monotonic())
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            reply = server.script(text, before, body)
            time.sleep(reply.delay_s)
        finally:
            with server.lock:
                server.under_way -= 1
        if reply.status == HANG:
            self._hang()
        else:
            self._reply(reply)

    def _hang(self) -> None:
        self.close_connection = True
        self.connection.settimeout(GUARD_S)
        with contextlib.suppress(ConnectionResetError):
            assert self.connection.recv(1) == b""
        self.server.hung_up.release()

    def _reply(self, reply: Reply) -> None:
        if reply.status == CUT:
            # Linger 0 makes the kernel reset the connection, as a dying server does.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        self.send(reply.body, reply.status, reply.headers)


def serving(script: Script) -> AbstractContextManager[Endpoint]:
    return running(Endpoint(script))


@dataclass
class Watch:
    """A context and what was reported to it."""

    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    spending: Spending = field(default_factory=Spending)

    @property
    def context(self) -> Context:
        return Context(seed=7, counted=self._count, log=self.lines.append, spending=self.spending)

    def _count(self, what: str, n: int) -> None:
        self.counts[what] += n


def asks(n: int, schema: dict[str, Any] | None = None) -> list[Request]:
    return [Request(f"key-{i}", (Message(role="user", content=f"text {i}"),), i, schema) for i in range(n)]
