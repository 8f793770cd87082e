"""2,000 requests through a server that fails 30 % of them and restarts; a build on it that is killed and goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from chat_server import GUARD_S, Watch

from prefdata.models import ChatEndpoint, Decoding, Prices
from prefdata.models.endpoint.spending import Spending
from prefdata.records import Message, Request

HERE = Path(__file__).parent
FAULTY = 0.3
CONCURRENCY = 32


class Flaky:
    """The server in a process of its own, and its log."""

    def __init__(self, folder: Path) -> None:
        # Bound and not listening: it keeps the port for the server while that is down, and refuses connections.
        self.kept = socket.socket()
        self.kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.kept.bind(("127.0.0.1", 0))
        self.port = self.kept.getsockname()[1]
        self.log = folder / "server.log"
        self.most = folder / "most.txt"
        self.compute(10**9)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def compute(self, most: int) -> None:
        """Lets it compute this many answers in all."""
        half = self.most.with_suffix(".part")
        half.write_text(str(most))
        half.replace(self.most)

    def start(self) -> None:
        command = [
            sys.executable,
            str(HERE.parent / "support" / "flaky_server.py"),
            str(self.port),
            str(self.log),
            str(FAULTY),
        ]
        self.process = subprocess.Popen([*command, str(self.most)])
        end = time.monotonic() + GUARD_S
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def lines(self) -> list[tuple[str, str, int]]:
        """(what became of it, idempotency key, seed) of every try."""
        return [(what, name, int(seed)) for what, name, seed in map(str.split, self.log.read_text().splitlines())]


@contextmanager
def flaky(folder: Path) -> Iterator[Flaky]:
    server = Flaky(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
        server.kept.close()


def options(server: Flaky, timeout_s: float) -> dict[str, object]:
    patient = {"max_retries": 40, "backoff_s": 0.002, "timeout_s": timeout_s, "give_up_after": 1000}
    prices = {"prompt": 1.0, "completion": 2.0}
    return {"model": "flaky", "base_url": server.url, "concurrency": CONCURRENCY, "prices": prices, **patient}


def test_two_thousand_requests_through_a_flaky_server_all_end_and_none_is_paid_twice(tmp_path: Path) -> None:
    texts = [f"forbidden {i}" if i % 100 == 7 else f"question {i}" for i in range(2000)]
    requests = [Request(f"key-{i}", (Message(role="user", content=text),), i) for i, text in enumerate(texts)]
    watch, found = Watch(spending=Spending(tmp_path / "spending.jsonl")), []
    with flaky(tmp_path) as server:
        part = ChatEndpoint.model_validate(options(server, timeout_s=1))
        for answer in part.generate(iter(requests), Decoding(max_tokens=20), watch.context):
            found.append(answer)
            if len(found) == 1000:
                server.kill()
                server.start()
        lines = server.lines()
    assert sorted(answer.key for answer in found) == sorted(request.key for request in requests)
    failed = Counter(answer.failure for answer in found if answer.text is None)
    assert failed == {"refused_by_endpoint": 20}
    by_key = {answer.key: answer.text for answer in found}
    assert all(by_key[f"key-{i}"] == f"{text} {i}" for i, text in enumerate(texts) if i % 100 != 7)
    computed = Counter(name for what, name, _ in lines if what.startswith("computed"))
    assert len(computed) == computed.total() == 1980
    tries = Counter(what.partition("-")[2] or what for what, _, _ in lines)
    faulty = sum(count for what, count in tries.items() if what != "well")
    assert set(tries) == {"well", "429", "500", "503", "hang", "cut", "reset"}
    assert 0.25 < faulty / tries.total() < 0.35
    assert watch.counts["retries"] >= faulty
    # An unreadable answer came with status 200, and is taken for one that costs as much as it can.
    spent = Spending(tmp_path / "spending.jsonl").of(part.account)
    assert 1980 < spent.requests <= 1980 + tries["cut"]


def recipe(server: Flaky, prompts: int) -> dict[str, object]:
    sampler = {
        "kind": "samples",
        "name": "policy",
        "n": 5,
        "max_tokens": 20,
        "generator": {"kind": "chat_endpoint", **options(server, timeout_s=3), "budget": 100.0},
    }
    return {
        "name": "chaos",
        "seed": 3,
        "limit": prompts,
        "prompts": {"kind": "sample"},
        "candidates": [sampler],
        "scores": {"kind": "given"},
        "pairs": {"kind": "best_vs_worst"},
        "dataset": {"kind": "trl", "test_size": 0},
    }


def start_build(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prefdata", "build", "recipe.json", "--out", "build"]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    with (folder / "stderr.txt").open("ab") as said:
        return subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, env=environment)


def journalled(build: Path) -> set[int]:
    """The seeds of all answers in journals and written shards."""
    seeds: set[int] = set()
    for path in build.glob("stages/candidates-*/*-*"):
        if path.suffix == ".jsonl":
            # The last line may be torn.
            whole = path.read_bytes().rpartition(b"\n")[0].splitlines()
            records = [json.loads(line.partition(b" ")[2]) for line in whole]
            seeds |= {candidate["seed"] for record in records for candidate in record["candidates"]}
        elif path.name.startswith("shard-"):
            seeds |= set(pl.read_parquet(path)["seed"].to_list())
    return seeds


def test_a_build_that_is_killed_asks_nothing_again_that_was_journalled(tmp_path: Path) -> None:
    prompts, asked = 60, 300
    # Requests that one build has under way at most.
    under_way = CONCURRENCY + 4
    with flaky(tmp_path) as server:
        (tmp_path / "recipe.json").write_text(json.dumps(recipe(server, prompts)))
        for wanted in (asked // 4, asked // 2):
            # However long it runs before it is killed, it can't come to its end.
            server.compute(wanted + under_way + 10)
            process, end = start_build(tmp_path), time.monotonic() + 2 * GUARD_S
            while len(safe := journalled(tmp_path / "build")) < wanted:
                assert process.poll() is None and time.monotonic() < end, (tmp_path / "stderr.txt").read_text()
                time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
            process.wait()
            safe, before = journalled(tmp_path / "build"), server.lines()
        # What the server had computed and no journal holds was on its way at one of the two kills.
        lost = {seed for what, _, seed in before if what.startswith("computed")} - safe
        assert len(lost) <= 2 * under_way
        server.compute(asked)
        process = start_build(tmp_path)
        # The answers bring no score along: the build itself ends at its rule, and what counts here is before it.
        process.wait(timeout=2 * GUARD_S)
        after = server.lines()[len(before) :]
        whole = journalled(tmp_path / "build")
    assert len(whole) == asked, (tmp_path / "stderr.txt").read_text()
    assert not {seed for _, _, seed in after} & safe
    computed = Counter(seed for what, _, seed in server.lines() if what.startswith("computed"))
    assert len(computed) == computed.total() == asked
    spent = Spending(tmp_path / "build" / "spending.jsonl")
    (account,) = spent.accounts
    # Beyond one payment for each answer there are those that could not be read, and those that were lost with a kill.
    cut = sum(what.endswith("cut") for what, _, _ in server.lines())
    assert asked <= spent.of(account).requests <= asked + cut + 2 * under_way
    assert Prices(prompt=1.0, completion=2.0).cost(10 * asked, 5 * asked) <= spent.of(account).cost
