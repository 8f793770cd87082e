"""A provider's batch API on loopback: /files and /batches as OpenAI has them, with scripted ends."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from email import message_from_bytes
from typing import Any
from urllib.parse import parse_qs, urlsplit

from chat_server import completion
from loopback import LoopbackHandler, LoopbackServer, running

Line = Callable[[str, int], dict[str, Any] | bytes | None]
"""(text of the last message, how often it was asked before) -> what a line says besides its id; None leaves it out."""


def answered(text: str, _: int) -> dict[str, Any]:
    return {"response": {"status_code": 200, "body": completion(text.upper())}, "error": None}


def refused(status: int, code: str = "", message: str = "no") -> dict[str, Any]:
    return {"response": {"status_code": status, "body": {"error": {"code": code, "message": message}}}, "error": None}


class Provider(LoopbackServer):
    """Batches end when they have been looked at `looks` times, with the status that `ends` says of each in turn."""

    def __init__(self, line: Line, looks: int = 1) -> None:
        super().__init__(_Handler)
        self.line, self.looks = line, looks
        self.ends: Callable[[int], str] = lambda _: "completed"
        self.fault: Callable[[str, str, int], int | None] = lambda _method, _path, _before: None
        """(method, path, how often) -> a status to fail with; 0 answers the call and then cuts the connection."""
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looked: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        """Text of the last message -> how often it was computed."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""

    def create(self, told: dict[str, Any]) -> dict[str, Any]:
        number = len(self.batches)
        batch = {
            "id": f"batch_{number}",
            "object": "batch",
            "status": "in_progress",
            "created_at": int(time.time()),
            "errors": None,
            "output_file_id": None,
            "error_file_id": None,
            **told,
        }
        self.batches[batch["id"]] = batch
        return batch

    def look(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.looked[batch["id"]] += 1
        if batch["status"] == "in_progress" and self.looked[batch["id"]] >= self.looks:
            self.end(batch)
        return batch

    def end(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.ends(int(batch["id"].removeprefix("batch_")))
        if batch["status"].startswith("failed"):
            code = batch["status"].partition(" ")[2] or "bad_line"
            batch |= {"status": "failed", "errors": {"object": "list", "data": [{"code": code, "message": "line 1"}]}}
            return
        good, bad = [], []
        for request in map(json.loads, self.files[batch["input_file_id"]].splitlines()):
            text = request["body"]["messages"][-1]["content"]
            told = self.line(text, self.asked[text])
            self.asked[text] += 1
            if isinstance(told, bytes):
                good.append(told)
            elif told is not None:
                response = told.get("response")
                ok = isinstance(response, dict) and response["status_code"] == 200
                self.paid[text] += ok
                line = json.dumps({"id": "x", "custom_id": request["custom_id"], **told}).encode()
                (good if ok else bad).append(line)
        # A provider's output is in no order.
        for what, lines in (("output", good[::-1]), ("error", bad)):
            if lines:
                self.files[f"{what}_{batch['id']}"] = b"\n".join(lines) + b"\n"
                batch[f"{what}_file_id"] = f"{what}_{batch['id']}"


class _Handler(LoopbackHandler):
    server: Provider

    def do_POST(self) -> None:
        self._answer(self.body())

    def do_GET(self) -> None:
        self._answer(b"")

    def _answer(self, content: bytes) -> None:
        server, where = self.server, urlsplit(self.path)
        path = where.path.removeprefix("/v1")
        with server.lock:
            call = f"{self.command} {path}"
            status = server.fault(self.command, path, server.calls[call])
            server.calls[call] += 1
            reply: Any = (
                {"error": {"message": f"status {status}"}} if status else self._reply(path, where.query, content)
            )
        if status == 0:
            self.close_connection = True
            self.connection.close()
            return
        self.send(reply, status or 200)

    def _reply(self, path: str, query: str, content: bytes) -> Any:
        server, parts = self.server, path.strip("/").split("/")
        if path == "/files":
            form = message_from_bytes(b"content-type: " + self.headers["content-type"].encode() + b"\n\n" + content)
            fields = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
            assert fields["purpose"].get_payload() == "batch"
            name = f"file_{len(server.files)}"
            server.files[name] = fields["file"].get_payload(decode=True)
            return {"id": name, "object": "file", "purpose": "batch"}
        if parts[0] == "files":
            return server.files[parts[1]]
        if path == "/batches" and self.command == "POST":
            return server.create(json.loads(content))
        if path == "/batches":
            newest = list(server.batches.values())[::-1]
            after = parse_qs(query).get("after")
            start = 1 + [batch["id"] for batch in newest].index(after[0]) if after else 0
            # Pages of two, so that there are several.
            page = newest[start : start + 2]
            return {"object": "list", "data": page, "has_more": start + 2 < len(newest)}
        return server.look(server.batches[parts[1]])


def providing(line: Line = answered, looks: int = 1) -> AbstractContextManager[Provider]:
    return running(Provider(line, looks))
