"""Kills `prefdata run` with SIGKILL at random moments, and compares what it leaves with a run that nothing stopped.

::

    python benchmarks/kill_run.py --kills 5 --limit 24

A recipe's iterations are carried out once undisturbed, and once killed: after a random part of the time that is left,
in turn the whole process tree, the command alone, and the process that samples or trains; then the same command again.
In the end the datasets and the ledger are the same bytes and the models have the same weights, no finished file was
written again, no answer that was kept was asked again, and no process has outlived its command.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from process_tree import descendants, name_of
from trainings import environment, weights

ROOT = Path(__file__).resolve().parents[1]
VICTIMS = ("tree", "command", "child")
_NEVER_AGAIN = ("iteration-*/stages/*/shard-*.parquet", "iteration-*/stages/*/stage.json", "models/*/*.safetensors")


class Run:
    """The command in a folder of its own; resumes."""

    def __init__(self, folder: Path, words: list[str]) -> None:
        folder.mkdir()
        self.folder, self._words = folder, words

    def start(self) -> subprocess.Popen[bytes]:
        variables = environment(self.folder) | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        # The embedded model is unpacked once, and not measured.
        variables["XDG_CACHE_HOME"] = str(self.folder.parent / "cache")
        log = (self.folder / "log.txt").open("ab")
        command = [sys.executable, "-m", "prefdata", "run", *self._words]
        return subprocess.Popen(command, cwd=self.folder, env=variables, start_new_session=True, stdout=log, stderr=log)

    def finish(self) -> float:
        """Runs to the end; returns seconds."""
        began = time.monotonic()
        if code := self.start().wait():
            raise SystemExit(f"ended with {code}: {(self.folder / 'log.txt').read_text()[-3000:]}")
        return time.monotonic() - began

    def kill(self, delay: float, victim: str) -> str | None:
        """Starts the command and kills after a delay; says where it was, or None if it had ended before."""
        process = self.start()
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            pass
        else:
            return None
        tree = descendants(process.pid)
        where, busy = self.progress(), " ".join(sorted({name_of(pid) for pid in tree})) or "no other process"
        # The last one that was started is the one that samples or trains.
        targets = {"tree": [process.pid, *tree], "command": [process.pid], "child": tree[-1:] or [process.pid]}[victim]
        for target in targets:
            try:
                os.kill(target, signal.SIGKILL)
            except ProcessLookupError:
                continue
        code = process.wait(60)
        if code not in (-signal.SIGKILL, 2):
            raise SystemExit(f"killed in {where}, it ended with {code}")
        _wait_for_the_end_of(tree)
        return f"{where}; beside it {busy}"

    def progress(self) -> str:
        """Says how far it is."""
        (root,) = (self.folder / "runs").glob("*") if (self.folder / "runs").is_dir() else (self.folder,)
        done = len(json.loads((root / "run.json").read_text())["iterations"]) if (root / "run.json").is_file() else 0
        here = root / f"iteration-{done + 1}"
        finished = sum(1 for _ in here.glob("stages/*/stage.json"))
        lines = sum(path.read_bytes().count(b"\n") for path in here.glob("stages/*/journal-*.jsonl"))
        trained = any(root.glob(f"models/*-iteration-{done + 1}"))
        return f"iteration {done + 1}, {finished} stages finished, {lines} lines journalled" + ", training" * trained

    def finished(self) -> dict[str, tuple[int, int]]:
        """Relative path → inode and time of every file that may not be written again."""
        root = self.folder / "runs"
        files = [path for pattern in _NEVER_AGAIN for path in root.glob(f"*/{pattern}")]
        whole = [path for path in files if path.parent.parent.name != "models" or _is_trained(path.parent)]
        return {str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in whole}

    def asked(self) -> Counter[tuple[str, str]]:
        """Shelf and key of every answer that was kept → how often it was."""
        kept: Counter[tuple[str, str]] = Counter()
        for path in self.folder.glob("runs/*/.cache/prefdata-answers/*/*.jsonl"):
            words = (line.split(b" ", 2) for line in path.read_bytes().splitlines(keepends=True) if line[-1:] == b"\n")
            kept.update((path.parent.name, word[1].decode()) for word in words if word[1] != b"packages")
        return kept


def _is_trained(folder: Path) -> bool:
    return (folder / "training.json").is_file()


def _wait_for_the_end_of(tree: list[int]) -> None:
    until = time.monotonic() + 60
    while left := [pid for pid in tree if name_of(pid)]:
        if time.monotonic() > until:
            raise SystemExit(f"outlived the command: {[name_of(pid) for pid in left]}")
        time.sleep(0.05)


def bytes_of(run: Run) -> dict[str, str]:
    """Relative path → SHA-256 of datasets and ledger."""
    root = run.folder / "runs"
    files = [*root.glob("*/run.json"), *(path for path in root.glob("*/iteration-*/dataset/**/*") if path.is_file())]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def apart(one: Run, other: Run) -> dict[str, float]:
    """Model → largest difference of two weights; infinite where one is missing."""
    models = sorted({path.name for run in (one, other) for path in run.folder.glob("runs/*/models/*")})
    found = {}
    for name in models:
        (mine,), (theirs,) = (list(run.folder.glob(f"runs/*/models/{name}")) for run in (one, other))
        loaded = weights(mine), weights(theirs)
        found[name] = max(float(np.abs(loaded[0][key] - loaded[1][key]).max()) for key in loaded[0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default=str(ROOT / "recipes" / "gpo_gpm_llama3.py"))
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="Left out, a temporary folder.")
    given = parser.parse_args()
    words = [given.recipe, "--profile", given.profile, "--limit", str(given.limit)]
    with tempfile.TemporaryDirectory(dir=given.work) as name:
        sys.exit(0 if measure(Path(name), words, given.kills, random.Random(given.seed)) else 1)


def measure(work: Path, words: list[str], kills: int, draw: random.Random) -> bool:
    straight, done, kept = Run(work / "straight", words), 0, True
    seconds = straight.finish()
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    while done < kills:
        # A run may end before its moment comes: then another one is killed.
        killed = Run(work / f"killed after {done}", words)
        broken, left, running = [], seconds, True
        while running and done < kills:
            before = killed.finished()
            # So that the moments lie all over the run, whatever a start costs.
            delay, victim = draw.uniform(0, 2 * left / (kills - done + 1)), VICTIMS[done % len(VICTIMS)]
            where = killed.kill(delay, victim)
            running = where is not None
            if running:
                done, left = done + 1, max(left - delay, seconds / 10)
                print(f"kill {done}, of the {victim}, after {delay:.1f} s: {where}", flush=True)
            broken += written_again(before, killed)
        before = killed.finished()
        print(f"the rest: {killed.finish():.0f} s", flush=True)
        kept = same(straight, killed, [*broken, *written_again(before, killed)]) and kept
    return kept


def written_again(before: dict[str, tuple[int, int]], run: Run) -> list[str]:
    """Lists the files that were finished and are others now."""
    now = run.finished()
    return [path for path, state in before.items() if now.get(path) != state]


def same(straight: Run, killed: Run, broken: list[str]) -> bool:
    """Compares a killed run with the undisturbed one, and prints what it finds."""
    twice = [key for key, count in killed.asked().items() if count > 1]
    difference, alike = apart(straight, killed), bytes_of(straight) == bytes_of(killed)
    print(f"answers kept {sum(straight.asked().values())} and {sum(killed.asked().values())}, twice {len(twice)}")
    print(f"finished files that were written again: {broken or 'none'}")
    print(f"datasets and ledger the same: {alike}, of {len(bytes_of(straight))} files")
    print(f"weights apart: {difference}", flush=True)
    return not broken and not twice and alike and not any(difference.values())


if __name__ == "__main__":
    main()
