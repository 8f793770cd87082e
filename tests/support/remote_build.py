"""A build of a folder on an object store, in a process of its own, that stops in the middle and waits to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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
    from stopping_build import stop_after

    from prefdata.flow import mirror
    from prefdata.flow.build import build
    from prefdata.recipe import load_recipe

    stop_after(records, lambda path: path.name.startswith("journal-"))
    mirror._FLUSH_S = FLUSH_S
    build(load_recipe("recipe.json"), out, shard_size=shard_size, reuse=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
