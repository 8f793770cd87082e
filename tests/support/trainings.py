"""Runs trainings in processes of their own, from a tiny model and made-up pairs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tiny_model import pair_rows, write_dataset, write_model

SMALL = {
    "learning_rate": 1e-3,
    "per_device_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "devices": 1,
    "max_length": 256,
    "strategy": "none",
    "warmup": 0,
    "schedule": "constant",
}
"""Fields of a training that suit the tiny model."""


def environment(folder: Path) -> dict[str, str]:
    """The environment of the command, with a cache of its own."""
    root = Path(__file__).parents[2]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests" / "support")]),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }


def workshop(folder: Path, *, rows: int = 40, test: int = 6, seed: int = 0) -> Path:
    """A folder with `model` and `data`."""
    write_model(folder / "model", seed=seed)
    write_dataset(folder / "data", pair_rows(rows), pair_rows(test))
    return folder


def command(
    kind: str, out: str, *more: str, dataset: str = "data", model: str = "model", **fields: object
) -> list[str]:
    """The arguments of `prefdata train` for a small training."""
    settings = {"kind": kind, **SMALL, **fields}
    return [
        *(sys.executable, "-m", "prefdata", "train", dataset, "--model", model, "--out", out),
        *(word for name, value in settings.items() for word in ("--set", f"{name}={json.dumps(value)}")),
        *more,
    ]


def run(folder: Path, arguments: list[str], *, shared_cache: bool = False) -> subprocess.CompletedProcess:
    """Runs a command to its end."""
    variables = environment(folder)
    if shared_cache:
        variables.pop("XDG_CACHE_HOME")
    return subprocess.run(
        arguments, cwd=folder, env=variables, capture_output=True, text=True, timeout=500, check=False
    )


def start(folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Starts a command in a process group of its own, without its output."""
    return subprocess.Popen(
        arguments,
        cwd=folder,
        env=environment(folder),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a process group of `start` at once, and waits for its end."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_alone(process: subprocess.Popen[bytes]) -> None:
    """Kills a command of `start` and nothing else, and waits until the processes that it has started have ended too."""
    from process_tree import descendants, name_of

    tree = descendants(process.pid)
    process.kill()
    process.wait()
    until = time.monotonic() + 120
    while left := list(filter(None, map(name_of, tree))):
        assert time.monotonic() < until, f"outlived the command: {left}"
        time.sleep(0.02)


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in metrics(folder) if "loss" in entry]


def weights(folder: Path) -> dict:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def train_here(folder: Path, kind: str, out: str, **fields: object) -> dict:
    """Trains within this process, which has imported everything already; returns losses, metrics and result.

    Only for processes that run nothing else. What a process of its own would be told is a `UserError` here.
    """
    from pydantic import TypeAdapter

    from prefdata.training import AnyTraining, _trainer_worker
    from prefdata.training.prepare import prepare

    settings = {"model": str(folder / "model"), "kind": kind, **SMALL, **fields}
    training = TypeAdapter(AnyTraining).validate_python(settings)
    prepared = prepare(training, folder / "data", folder / out, cache=folder / "references")
    _trainer_worker._run(prepared.job)
    found = metrics(prepared.work)
    return {
        "losses": [entry["loss"] for entry in found if "loss" in entry],
        "rates": [entry["learning_rate"] for entry in found if "loss" in entry],
        "evaluated": [entry["eval_loss"] for entry in found if "eval_loss" in entry],
        "files": sorted(path.name for path in prepared.work.glob("checkpoints/checkpoint-*/*")),
        "keys": {split: told["key"] for split, told in prepared.job["references"].items()},
        **json.loads((prepared.work / "result.json").read_text()),
    }


def run_script(folder: Path, code: str) -> dict:
    """Runs a program in a process of its own; it prints a JSON object in its last line."""
    done = run(folder, [sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr[-6000:]
    found: dict = json.loads(done.stdout.splitlines()[-1])
    return found
