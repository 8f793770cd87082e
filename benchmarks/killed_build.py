"""A build in a process of its own, which `kill.py` kills: both sides of it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


class Driven:
    """A build in a process of its own."""

    def __init__(self, work: Path, recipe: str, out: str, shard_size: int, pause: float, stretch: float) -> None:
        self.build = work / out
        number = len(list(work.glob("asked-*")))
        self._log = work / f"asked-{number:04d}.txt"
        command = [sys.executable, str(Path(__file__).resolve()), recipe, out]
        command += [str(shard_size), str(pause), str(stretch), str(self._log)]
        root = str(Path(__file__).resolve().parent.parent)
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
        self._errors = (work / "stderr.txt").open("wb")
        self.process = subprocess.Popen(
            command, cwd=work, env=env, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits; says whether the build ended by itself, and well, in this time."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._close()
        if status:
            words = Path(self._errors.name).read_text(errors="replace")[-2000:]
            raise SystemExit(f"the build ended with status {status}:\n{words}")
        return True

    def kill(self) -> list[tuple[int, str]]:
        """Kills the process, alone; returns the processes that it had started."""
        started = descendants(self.process.pid)
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()
        return started

    def asked(self) -> list[str]:
        """Reads the keys of the tasks that its sampler took."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def _close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()


def descendants(pid: int) -> list[tuple[int, str]]:
    """Lists (process id, start time) of everything that a process has started."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append((int(stat.parent.name), fields[19]))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += [number for number, _ in children]
    return found


def still_there(processes: list[tuple[int, str]], patience: float = 60.0) -> list[int]:
    """Lists those of the processes that still live after a while."""
    end = time.monotonic() + patience
    while True:
        alive = [pid for pid, started in processes if _lives(pid, started)]
        if not alive or time.monotonic() > end:
            return alive
        time.sleep(0.05)


def _lives(pid: int, started: str) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[19] == started and fields[0] != "Z"


def child(recipe: str, out: str, shard_size: int, pause: float, stretch: float, asked: str) -> None:
    """Builds a recipe slowly, and logs what it asks."""
    from prefdata.flow.build import build
    from prefdata.recipe import load_recipe

    loaded = load_recipe(recipe)
    _stretch_file_system(stretch)
    log = os.open(asked, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for sampler in {type(sampler) for sampler in loaded.candidates}:
        _log_and_slow(sampler, "sample", log, pause)
    _score_texts(type(loaded.scores), pause)
    print("ready", flush=True)
    build(loaded, out, shard_size=shard_size, reuse=False)


def _stretch_file_system(seconds: float) -> None:
    for name in ("replace", "rename", "unlink", "mkdir"):
        real = getattr(Path, name)

        def slow(self: Path, *args: object, _real: Callable[..., object] = real, **options: object) -> object:
            result = _real(self, *args, **options)
            time.sleep(seconds)
            return result

        setattr(Path, name, slow)


def _log_and_slow(sampler: type, method: str, log: int, pause: float) -> None:
    real = getattr(sampler, method)

    def logged(tasks: Iterable[object]) -> Iterator[object]:
        for task in tasks:
            os.write(log, f"{task.key}\n".encode())
            time.sleep(pause)
            yield task

    setattr(sampler, method, lambda self, tasks, context: real(self, logged(tasks), context))


def _score_texts(scorer: type, pause: float) -> None:
    """Answers that were sampled here bring no score along: theirs is a small hash of the text, with many ties."""
    from prefdata.spec import derive_seed

    real = scorer.score

    def slow(self: object, tasks: Iterable[object], context: object) -> Iterator[object]:
        for answers in tasks:
            time.sleep(pause)
            candidates = [
                candidate
                if candidate.seed is None
                else dataclasses.replace(candidate, given_score=float(derive_seed("score", candidate.response) % 5))
                for candidate in answers.candidates
            ]
            yield from real(self, [dataclasses.replace(answers, candidates=tuple(candidates))], context)

    scorer.score = slow


if __name__ == "__main__":
    recipe, out, shard_size, pause, stretch, asked = sys.argv[1:]
    child(recipe, out, int(shard_size), float(pause), float(stretch), asked)
