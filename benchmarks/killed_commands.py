"""Kills `prefdata pair` and `prefdata push` with SIGKILL at random moments, and looks at what is there afterwards.

::

    python benchmarks/killed_commands.py --pair 40 --push 40

A killed `pair` leaves the dataset folder as it was before: none, or the whole one of another rule. A killed `push`
leaves the repository as it was, or with the whole new commit. The same command again gives what an uninterrupted one
gives, byte for byte, and leaves nothing of the killed one. Each moment is drawn evenly from the time that an
uninterrupted command takes. Prints one line for each command; the exit status is 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from minihub import MiniHub, User

TOKEN = "token-of-the-benchmark"


@dataclass
class Report:
    """What a series of kills left."""

    command: str
    kills: int = 0
    too_late: int = 0
    """Commands that ended before their moment."""
    left: Counter[str] = field(default_factory=Counter)
    """What was there after a kill → kills."""
    broken: list[str] = field(default_factory=list)

    def line(self) -> str:
        left = ", ".join(f"{what} {count}" for what, count in sorted(self.left.items()))
        kept = "kept" if not self.broken else f"BROKEN: {'; '.join(self.broken[:5])}"
        return f"{self.command}: kills {self.kills} ({left}; {self.too_late} ended first); promises {kept}"


def tree(folder: Path) -> dict[str, str]:
    """Relative path → SHA-256 of every file below a folder; empty where there is none."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Command:
    """`prefdata` in a process of its own, with its own folder for temporary files."""

    def __init__(self, work: Path, **env: str) -> None:
        self._work = work
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **env}

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        log = (self._work / "output.txt").open("wb")
        command = [sys.executable, "-m", "prefdata", *words]
        return subprocess.Popen(command, cwd=self._work, env=self._env, stdout=log, stderr=log)

    def run(self, *words: str) -> float:
        """Runs a command to its end; returns seconds."""
        begin = time.perf_counter()
        if status := self.start(*words).wait():
            raise SystemExit(f"{words} ended with {status}: {(self._work / 'output.txt').read_text()}")
        return time.perf_counter() - begin

    def killed(self, delay: float, *words: str) -> bool:
        """Starts a command and kills it; returns False if it ended before."""
        process = self.start(*words)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True
        return False


def write_table(path: Path, prompts: int, draw: random.Random) -> None:
    """Writes scored answers in any order."""
    rows = [
        {
            "prompt": f"Question {number}: " + "why " * (number % 30),
            "response": " ".join(draw.choices(("yes", "no", "peut-être", "因为"), k=draw.randint(1, 60))),
            "score": draw.randint(0, 6) / 2,
            "source": f"m{answer % 2}",
            "index": answer // 2,
        }
        for number in range(prompts)
        for answer in range(6)
    ]
    draw.shuffle(rows)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def kill_pair(work: Path, kills: int, draw: random.Random, prompts: int = 6000) -> Report:
    """Kills `prefdata pair`, half of the time over a dataset of another rule."""
    report = Report("pair")
    write_table(work / "table.jsonl", prompts, draw)
    temporary = work / "temporary"
    temporary.mkdir()
    command = Command(work, TMPDIR=str(temporary))
    words = ("pair", "table.jsonl", "--rule", "wpo_hybrid_v2", "--with-candidates", "--out")
    command.run("pair", "table.jsonl", "--rule", "best_vs_worst", "--out", "other")
    seconds = command.run(*words, "whole")
    other, whole = tree(work / "other"), tree(work / "whole")
    while report.kills < kills:
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        before = draw.random() < 0.5
        if before:
            shutil.copytree(work / "other", out)
        if not command.killed(draw.uniform(0.1, seconds), *words, "out"):
            report.too_late += 1
            continue
        report.kills += 1
        there = tree(out)
        # The rename of the old folder and that of the new one are two steps; between them there is none.
        state = "none" if not there else "old" if there == other else "new" if there == whole else "PART"
        report.left[state] += 1
        if state == "PART":
            report.broken.append("a part of a dataset")
        command.run(*words, "out")
        if tree(out) != whole:
            report.broken.append("other bytes after the next run")
        if left := [path.name for path in work.iterdir() if path.name.startswith(".out")]:
            report.broken.append(f"left beside it: {left}")
    shutil.rmtree(temporary)
    return report


def kill_push(work: Path, kills: int, draw: random.Random) -> Report:
    """Kills `prefdata push`, half of the time of a second version of a dataset."""
    report = Report("push")
    hub = MiniHub(work / "hub").start()
    hub.users[TOKEN] = User("bench")
    names = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(work / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = Command(work, HF_HUB_DISABLE_TELEMETRY="1", **names)
    write_table(work / "table.jsonl", 3000, draw)
    command.run("pair", "table.jsonl", "--rule", "best_vs_worst", "--with-candidates", "--out", "old")
    command.run("pair", "table.jsonl", "--rule", "wpo_hybrid_v2", "--with-candidates", "--out", "new")
    seconds = command.run("push", "new", "bench/whole")
    command.run("push", "old", "bench/other")
    whole, other = (hub_tree(hub, name) for name in ("bench/whole", "bench/other"))
    while report.kills < kills:
        name = f"bench/killed-{report.kills + report.too_late}"
        before = draw.random() < 0.5
        if before:
            command.run("push", "old", name)
        if not command.killed(draw.uniform(0.3, seconds), "push", "new", name):
            report.too_late += 1
            continue
        report.kills += 1
        time.sleep(0.2)
        there = hub_tree(hub, name)
        old = other if before else {}
        state = "none" if not there else "old" if same(there, old) else "new" if same(there, whole) else "PART"
        report.left[state] += 1
        if state == "PART" or (before and state == "none"):
            report.broken.append(f"{name} holds a part")
        command.run("push", "new", name)
        commits = len(hub.repos["dataset", name].commits)
        if not same(hub_tree(hub, name), whole):
            report.broken.append(f"{name} is another dataset after the next push")
        command.run("push", "new", name)
        if len(hub.repos["dataset", name].commits) != commits:
            report.broken.append(f"{name} got a commit although nothing was new")
    hub.stop()
    return report


def hub_tree(hub: MiniHub, name: str) -> dict[str, str]:
    """Path → hash of what the newest commit of a repository holds besides the Hub's own file."""
    repo = hub.repos.get(("dataset", name))
    files = {} if repo is None else repo.commits[repo.refs["main"]].tree
    return {path: str(entry) for path, entry in files.items() if path != ".gitattributes"}


def same(found: dict[str, str], expected: dict[str, str]) -> bool:
    """Compares all files but the card, which names its repository."""
    cards = {"README.md"}
    return {path: found[path] for path in found.keys() - cards} == {
        path: expected[path] for path in expected.keys() - cards
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", type=int, default=40, help="kills of `prefdata pair`")
    parser.add_argument("--push", type=int, default=40, help="kills of `prefdata push`")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    broken = False
    for kill, kills in ((kill_pair, options.pair), (kill_push, options.push)):
        with tempfile.TemporaryDirectory() as folder:
            report = kill(Path(folder), kills, random.Random(options.seed))
        print(report.line(), flush=True)
        broken = broken or bool(report.broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
