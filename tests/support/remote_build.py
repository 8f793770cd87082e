"""A build of a folder on an object store, in a process of its own, that stops in the middle and waits to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

FLUSH_S = 0.2


@contextmanager
def stopped_build(
    work: Path, out: str, environment: Mapping[str, str], records: int, shard_size: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Builds `recipe.json` until its journals have a number of records; it flushes them, and does nothing more.

    The process is killed with SIGKILL at the end of the block.
    """
    command = [sys.executable, str(Path(__file__).resolve()), out, str(records), str(shard_size)]
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    with (work / "stderr.txt").open("wb") as errors:
        build = subprocess.Popen(command, cwd=work, env=env, stdout=subprocess.PIPE, stderr=errors)
    assert build.stdout is not None
    try:
        with build.stdout:
            said = build.stdout.readline()
            assert said == b"stopped\n", (work / "stderr.txt").read_text(errors="replace")[-2000:]
            yield build
    finally:
        build.send_signal(signal.SIGKILL)
        build.wait()


def main(out: str, records: int, shard_size: int) -> None:
    """The side that is killed."""
    from prefdata.flow import mirror
    from prefdata.flow.build import build
    from prefdata.flow.journal import Journal
    from prefdata.recipe import load_recipe
    from prefdata.spec import JSON

    write, left, lock = Journal.append, records, threading.Lock()

    def append(self: Journal, record: JSON) -> None:
        nonlocal left
        if self.path.name.startswith("journal-"):
            with lock:
                if left == 0:
                    sys.stdout.write("stopped\n")
                    sys.stdout.flush()
                    while True:
                        signal.pause()
                left -= 1
        write(self, record)

    Journal.append = append  # type: ignore[method-assign]  # in a process of its own
    mirror._FLUSH_S = FLUSH_S
    build(load_recipe("recipe.json"), out, shard_size=shard_size, reuse=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
