"""Safe defaults for every test, and the command line as a fixture."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Set before anything reads them: no test talks to a Hub out there, asks with somebody's token, or spins on two cores.
os.environ.update(
    HF_ENDPOINT="http://127.0.0.1:9",
    HF_HUB_DISABLE_TELEMETRY="1",
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE",
    TOKENIZERS_PARALLELISM="false",
)
for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
    os.environ.pop(name, None)

# How long an example takes depends on what else the machine does, and is no reason to fail.
settings.register_profile(
    "patient",
    settings(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("patient")


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def prefdata(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """The command line in this process: `prefdata("pair", table, ...)`. An unexpected exception comes through."""
    from prefdata.cli.main import main

    def run(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["prefdata", *map(str, arguments)])
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        return Said(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def fresh() -> Callable[..., Said]:
    """The command line, or with `code=` a program, in a process of its own."""

    def run(*arguments: str | Path, code: str | None = None, cwd: Path | None = None, **environment: str) -> Said:
        command = ["-m", "prefdata", *map(str, arguments)] if code is None else ["-c", code, *map(str, arguments)]
        done = subprocess.run(
            [sys.executable, *command],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return run
