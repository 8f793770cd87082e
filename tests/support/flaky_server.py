"""A flaky chat endpoint in a process of its own: `python flaky_server.py PORT LOG FAULTY MOST`.

About FAULTY of the tries fail, in one of six ways. It honours idempotency keys, also those of an earlier process that
wrote to the same log, and appends one line to the log for each try: what became of it, and the seed that it bore.
When as many answers are computed as the file MOST says, it keeps silent about others, and logs nothing of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import struct
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Each that hangs costs the whole time-out of the client.
FAULTS = (*("429", "500", "cut", "reset", "429", "500", "503", "cut", "reset") * 7, "hang")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True
    # The port is kept by the one who starts this server.
    allow_reuse_port = True

    def __init__(self, port: int, log: Path, faulty: float, most: Path) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.faulty = faulty
        self.most = most
        self.lock = threading.Lock()
        self.computed: set[str] = set()
        self.tries: Counter[str] = Counter()
        for line in log.read_text().splitlines():
            what, name, _ = line.split()
            self.tries[name] += 1
            if what.startswith("computed"):
                self.computed.add(name)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""

    def fate(self, name: str, seed: int) -> str:
        """What becomes of a try; written to the log before it is told."""
        with self.lock:
            if name not in self.computed and len(self.computed) >= int(self.most.read_text()):
                return "hang"
            draw = hashlib.sha256(f"{name}/{self.tries[name]}".encode()).digest()
            self.tries[name] += 1
            fault = FAULTS[draw[2] % len(FAULTS)] if int.from_bytes(draw[:2], "big") < self.faulty * 65536 else "well"
            what = fault
            if fault in ("well", "hang", "cut"):
                # These are computed, whether or not the answer arrives; a key that is known is not paid again.
                what = f"{'repeated' if name in self.computed else 'computed'}-{fault}"
                self.computed.add(name)
            os.write(self.log, f"{what} {name} {seed}\n".encode())
        return fault


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small packets that wait for an acknowledgement cost 40 ms each.
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["messages"][-1]["content"]
        if text.startswith("forbidden"):
            self.send(400, b'{"error": {"message": "no", "code": "policy"}}')
            return
        fault = self.server.fate(self.headers["idempotency-key"], body["seed"])
        message = {"role": "assistant", "content": f"{text} {body['seed']}"}
        answer = {
            "model": "flaky",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        }
        payload = json.dumps(answer).encode()
        if fault == "hang":
            self.hang()
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif fault in ("429", "503", "500"):
            self.send(int(fault), b'{"error": {"message": "busy"}}')
        else:
            self.send(200, payload[: len(payload) // 2] if fault == "cut" else payload)

    def hang(self) -> None:
        """Waits until the client gives up."""
        self.close_connection = True
        with contextlib.suppress(ConnectionResetError):
            self.connection.recv(1)

    def send(self, status: int, payload: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)
        self.wfile.flush()


if __name__ == "__main__":
    Server(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])).serve_forever(poll_interval=0.05)
