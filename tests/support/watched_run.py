"""Runs a command, and writes down which processes are there, and which weights the command holds, engine by engine.

`python watched_run.py LOOKS.json run rounds.json`
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from process_tree import descendants, mapped_bytes, marked, name_of

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt")
MARK = "PREFDATA_WATCHED_RUN"
"""Name of a variable that every process of the run gets."""


def main(file: str, *words: str) -> None:
    from prefdata.cli.main import main as command
    from prefdata.models import worker_process
    from prefdata.training import launch

    os.environ[MARK] = f"{os.getpid()}"
    mark, looks = f"{MARK}={os.getpid()}", []

    def look(engine: str, *, beside: tuple[int, ...] = ()) -> None:
        ours = {os.getpid(), *beside, *(pid for one in beside for pid in descendants(one))}
        others = [name for pid in marked(mark) if pid not in ours and (name := name_of(pid))]
        looks.append({"engine": engine, "others": others, "mapped": mapped_bytes(os.getpid(), WEIGHTS)})

    class Watched(worker_process.WorkerProcess):
        def __init__(self, module: str, env: Any, name: str) -> None:
            look(module)
            super().__init__(module, env, name)

    def train(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        look("training")
        process = subprocess.Popen(arguments, **options)
        while process.poll() is None:
            look("training", beside=(process.pid,))
            time.sleep(1)
        return subprocess.CompletedProcess(arguments, process.returncode)

    import prefdata.models.pool

    prefdata.models.pool.WorkerProcess = Watched  # type: ignore[misc]
    launch.subprocess = SimpleNamespace(run=train)  # type: ignore[assignment]
    sys.argv = ["prefdata", *words]
    try:
        command()
    finally:
        Path(file).write_text(json.dumps(looks))


if __name__ == "__main__":
    main(*sys.argv[1:])
