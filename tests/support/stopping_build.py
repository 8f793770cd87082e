"""A build in a process of its own that stops in the middle of its scoring and waits there to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path


def build_until(work: Path, out: str, shard_size: int, stage: str = "", records: int = 0) -> bool:
    """Builds `recipe.json`, and kills the build with SIGKILL while the worker of its scorer is at work.

    Args:
        work: the folder that the build stands in.
        out: the build folder.
        shard_size: prompts a shard.
        stage: how the name of the stage's folder begins; empty to build to the end.
        records: records that the stage journals before it stops; the next one is known and not written.

    Returns:
        Whether it was killed: False when the stage was finished before.
    """
    command = [sys.executable, str(Path(__file__).resolve()), out, str(shard_size), stage, str(records)]
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    with (work / "stderr.txt").open("wb") as errors:
        build = subprocess.Popen(command, cwd=work, env=env, stdout=subprocess.PIPE, stderr=errors)
        assert build.stdout is not None
        with build.stdout:
            said = build.stdout.readline()
            if said == b"stopped\n":
                build.kill()
        status = build.wait()
    if said == b"stopped\n":
        return True
    assert (said, status) == (b"finished\n", 0), (work / "stderr.txt").read_text(errors="replace")[-2000:]
    return False


def stop_after(records: int, counted: Callable[[Path], bool]) -> None:
    """Stops this process, to be killed, when a number of records are in the journals that count; says "stopped"."""
    from prefdata.flow.journal import Journal
    from prefdata.spec import JSON

    write, left, lock = Journal.append, records, threading.Lock()

    def append(self: Journal, record: JSON) -> None:
        nonlocal left
        if counted(self.path):
            with lock:
                if left == 0:
                    sys.stdout.write("stopped\n")
                    sys.stdout.flush()
                    while True:
                        signal.pause()
                left -= 1
        write(self, record)

    # Stopping here is the one moment that is neither before nor after the scoring on a machine of any speed.
    Journal.append = append  # type: ignore[method-assign]  # in a process of its own


def main(out: str, shard_size: int, stage: str, records: int) -> None:
    """The side that is killed."""
    from prefdata.flow.build import build
    from prefdata.recipe import load_recipe

    stop_after(records, lambda path: bool(stage) and path.parent.name.startswith(stage))
    # What another build has kept would hide what this one makes of its journals.
    build(load_recipe("recipe.json"), out, shard_size=shard_size, reuse=False)
    sys.stdout.write("finished\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
