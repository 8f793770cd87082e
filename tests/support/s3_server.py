"""An S3-compatible server on loopback, in a process of its own, that can be killed and started again, or cut off.

The server is moto's. It keeps its objects in memory, and a recording of all requests in a file: a new process that
replays it has the objects of the killed one, as a store has whose disk outlives it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BUCKET = "bucket"
SECRET = "very-secret-key-0123456789"
GUARD_S = 120.0
SERVE = """
import os, sys, time, urllib.request
from moto.server import ThreadedMotoServer

def serve(port):
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    return "http://%s:%s" % server.get_host_and_port()

# Nobody sees the objects of the killed process half replayed: they come through a port of their own.
inside = serve(0)
if os.path.exists(os.environ["MOTO_RECORDER_FILEPATH"]):
    urllib.request.urlopen(urllib.request.Request(inside + "/moto-api/recorder/replay-recording", method="POST"))
serve(int(sys.argv[1]))
time.sleep(1e6)
"""


class S3Server:
    """The server. Its port stays the same over all its processes."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._recording = folder / "recording"
        self._log = folder / "server.txt"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to find the server."""
        return client_environment(self.url)

    def start(self) -> None:
        env = {**os.environ, "MOTO_RECORDER_FILEPATH": str(self._recording), "MOTO_ENABLE_RECORDING": "1"}
        with self._log.open("ab") as log:
            command = [sys.executable, "-c", SERVE, str(self.port)]
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        until = time.monotonic() + GUARD_S
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < until, self._log.read_text()[-2000:]
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def post(self, path: str, body: bytes = b"") -> bytes:
        text = {"content-type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/moto-api/{path}", data=body, headers=text, method="POST")
        with urllib.request.urlopen(request, timeout=GUARD_S) as reply:
            return bytes(reply.read())

    def client(self, service: str = "s3") -> Any:
        import boto3

        keys = {"aws_access_key_id": "owner", "aws_secret_access_key": SECRET}
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1", **keys)

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Reads all objects whose names begin with something."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        names = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return {name: client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


def client_environment(url: str, key: str = "owner", secret: str = SECRET) -> dict[str, str]:
    names = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1"}
    # Nothing of this machine's own settings counts, and a server that is away is tried once by each layer.
    names["AWS_MAX_ATTEMPTS"] = "1"
    return {**names, "AWS_ENDPOINT_URL": url, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Runs a server with an empty bucket."""
    server = S3Server(folder)
    server.start()
    try:
        server.client().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        server.kill()


class CuttingProxy:
    """Stands between a client and the server; cuts the connection in the middle of the body of chosen puts.

    Args:
        port: of the server.
        part: of the name of an object whose puts are cut.
        times: how many are cut.
    """

    def __init__(self, port: int, part: bytes, times: int) -> None:
        self._port, self._part, self.left = port, part, times
        self.cut = 0
        """Puts that were cut."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        # Closing alone does not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(connection,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server, contextlib.suppress(OSError):
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()
            while data := client.recv(1 << 20):
                head, end, body = data.partition(b"\r\n\r\n")
                if end and head.startswith(b"PUT") and self._part in head.split(b"\r\n")[0] and self._take():
                    server.sendall(head + end + body[: len(body) // 2])
                    return
                server.sendall(data)

    def _take(self) -> bool:
        with self._lock:
            if self.left <= 0:
                return False
            self.left -= 1
            self.cut += 1
            return True


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 20):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
