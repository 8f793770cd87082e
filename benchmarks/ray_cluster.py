"""Builds on a real Ray cluster of nodes on this machine: the same bytes, kills in every stage, and what Ray costs.

::

    python benchmarks/ray_cluster.py --kills       # nodes and drivers killed while sampling, judging and pairing
    python benchmarks/ray_cluster.py --overhead    # CPU seconds of a build, on this machine alone and through Ray

Both sides build `recipes/wpo_hybrid_v2.py` with its profile `cpu`: a real model samples and judges. CPU seconds are
those of the command and of every process of the cluster; `start-up` is what they were when the first stage began.
Prints a line for each build; the exit status is 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sampling_side import cpu_seconds_of

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from process_tree import descendants  # noqa: E402
from ray_nodes import Nodes, ray_nodes  # noqa: E402


@dataclass
class Run:
    """One command, watched to its end."""

    out: Path
    events: list[dict] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    code: int = 0
    seconds: float = 0.0
    start_up: float = 0.0
    """CPU seconds before the first stage began."""
    cpu: float = 0.0

    @property
    def asked(self) -> dict[str, int]:
        """Answers of each stage that this run has asked: those at its last event, less those at its first."""
        done: dict[str, list[int]] = {}
        for event in self.events:
            if event["event"] == "progress":
                done.setdefault(event["stage"], []).append(event["done"])
        return {stage: counts[-1] - counts[0] for stage, counts in done.items()}

    @property
    def lost(self) -> int:
        return sum(int(line.split(";")[1].split()[0]) for line in self.lines if "was lost with" in line)

    def digest(self) -> str:
        files = sorted(path for path in (self.out / "dataset").rglob("*") if path.is_file())
        named = "".join(f"{path.relative_to(self.out)} {_sha256(path)}\n" for path in files)
        return hashlib.sha256(named.encode()).hexdigest()[:12]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kept(out: Path, stage: str) -> int:
    """Counts the answers in the journals of a stage."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob(f"stages/{stage}-*/journal-*.jsonl"))


class Clock(threading.Thread):
    """Adds up the CPU seconds of all processes that this one has started and that are not in `before`."""

    def __init__(self, without: set[int]) -> None:
        super().__init__(daemon=True)
        self._without, self._used, self._going = without, {}, True

    def run(self) -> None:
        while self._going:
            self.look()
            time.sleep(0.2)

    def look(self) -> float:
        for pid in set(descendants(os.getpid())) - self._without:
            with contextlib.suppress(OSError):
                self._used[pid] = cpu_seconds_of(pid)
        return sum(self._used.values())

    def stop(self) -> float:
        self._going = False
        self.join()
        return sum(self._used.values())


def build(
    out: Path,
    limit: int,
    *given: str,
    shard_size: int | None = None,
    act: Callable[[dict, Run], str | None] | None = None,
) -> Run:
    """Runs a build. `act` sees each event, and may say "kill"."""
    run, before = Run(out), set(descendants(os.getpid()))
    code = "import sys; from prefdata.cli.main import main; sys.exit(main())"
    if shard_size is not None:
        code = f"import prefdata.flow.verbs as v; v.build.__kwdefaults__['shard_size'] = {shard_size}; {code}"
    words = ["build", str(ROOT / "recipes/wpo_hybrid_v2.py"), "--profile", "cpu", "--limit", str(limit)]
    words += ["--out", str(out), "--no-reuse", "--json-lines", *given]
    began, clock = time.monotonic(), Clock(before)
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)
    clock.start()
    assert process.stdout is not None
    for text in process.stdout:
        event = json.loads(text)
        run.events.append(event)
        if event["event"] == "line":
            run.lines.append(event["text"])
        if event["event"] == "progress" and not run.start_up:
            run.start_up = clock.look()
        if act is not None and act(event, run) == "kill":
            process.send_signal(signal.SIGKILL)
    run.code = process.wait()
    run.seconds, run.cpu = time.monotonic() - began, clock.stop()
    return run


def kills(limit: int, nodes: Nodes, work: Path) -> bool:
    """Kills a node and a driver in each stage; every build must end with the bytes of the local one."""
    local = build(work / "local", limit)
    print(f"local: {local.seconds:.0f} s, dataset {local.digest()}", flush=True)
    cluster, sound = ("--engine", "ray", "--address", nodes.address, "--actors", "2"), True

    def at(stage: str, done: int, kill: str) -> Callable[[dict, Run], str | None]:
        state = {"done": False}

        def act(event: dict, run: Run) -> str | None:
            if state["done"] or event.get("stage") != stage or event.get("done", 0) < done:
                return None
            state["done"] = True
            if kill == "driver":
                return "kill"
            nodes.kill(nodes.workers[0])
            return None

        return act

    def paired(run_out: Path) -> Callable[[dict, Run], str | None]:
        # The pairs stage reports no progress: a node dies as soon as its first shard is there.
        def watch() -> None:
            while not list(run_out.glob("stages/pairs-*/shard-*.parquet")):
                time.sleep(0.005)
            nodes.kill(nodes.workers[0])

        threading.Thread(target=watch, daemon=True).start()
        return lambda event, run: None

    n_answers = limit * 5
    plans = [
        ("nothing", None, None),
        ("a node while sampling", "candidates-policy", ("node", n_answers // 3)),
        ("the driver while sampling", "candidates-policy", ("driver", n_answers // 2)),
        ("a node while judging", "scores", ("node", max(1, limit // 3))),
        ("the driver while judging", "scores", ("driver", max(1, limit // 2))),
        ("a node while pairing", "pairs", None),
    ]
    for name, stage, plan in plans:
        out = work / name.replace(" ", "-")
        size = 1 if stage == "pairs" else None
        act = paired(out) if stage == "pairs" else None if plan is None else at(stage, plan[1], plan[0])
        first = build(out, limit, *cluster, shard_size=size, act=act)
        said = f"{first.lost} items of lost workers asked again"
        last = first
        if plan is not None and plan[0] == "driver":
            journalled = kept(out, stage)
            last = build(out, limit, *cluster, shard_size=size)
            total = n_answers if stage.startswith("candidates") else limit
            said = f"{journalled} of {total} kept, {last.asked.get(stage, 0)} asked by the second run"
            sound &= last.asked.get(stage, 0) <= total - journalled
        if len(nodes.workers) < 1:
            nodes.add()
        same = last.code == 0 and last.digest() == local.digest()
        sound &= same
        print(
            f"killed {name}: exit {first.code}, {last.code}; {said}; same bytes: {'yes' if same else 'NO'}", flush=True
        )
    return sound


def overhead(limit: int, rounds: int, work: Path) -> bool:
    """Compares CPU seconds of local and Ray builds, in turns."""
    digests = set()
    for number in range(rounds):
        runs = {}
        for name, words in (("local", ()), ("ray", ("--engine", "ray", "--actors", "1")))[:: 1 if number % 2 else -1]:
            runs[name] = build(work / f"{name}-{number}", limit, *words)
            digests.add(runs[name].digest())
        local, ray = (runs[name].cpu - runs[name].start_up for name in ("local", "ray"))
        print(
            f"round {number + 1}: local {local:.1f} CPU s (start-up {runs['local'].start_up:.1f}), "
            f"ray {ray:.1f} (start-up {runs['ray'].start_up:.1f}), ratio {ray / local:.3f}; "
            f"wall {runs['local'].seconds:.0f} s and {runs['ray'].seconds:.0f} s",
            flush=True,
        )
    print(f"the same bytes: {'yes' if len(digests) == 1 else 'NO'}")
    return len(digests) == 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", action="store_true")
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--limit", type=int, default=8, help="prompts of a build, each with five answers")
    parser.add_argument("--rounds", type=int, default=1, help="of --overhead")
    given, sound = parser.parse_args(), True
    with tempfile.TemporaryDirectory() as work:
        if given.kills:
            with ray_nodes(1) as nodes:
                sound &= kills(given.limit, nodes, Path(work))
        if given.overhead:
            sound &= overhead(given.limit, given.rounds, Path(work))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
