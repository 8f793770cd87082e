"""DeepSpeed ZeRO-3 over two processes on the CPU: the numbers of one process, resumed after `kill -9`."""

from __future__ import annotations

import math
import os
import time

import numpy as np
import pytest
from tiny_model import write_model
from trainings import command, kill_alone, losses, metrics, run, start, weights, workshop

pytestmark = pytest.mark.model

SHARDED = {"strategy": "zero3", "per_device_batch_size": 2, "devices": 2}


def test_zero3_equals_one_process_also_when_killed_and_never_takes_another_models_reference(tmp_path):
    workshop(tmp_path, rows=24, test=4)
    fields = {"trl": {"max_steps": 6, "save_steps": 3}}
    one = run(tmp_path, command("wpo", "one", **fields))
    assert one.returncode == 0, one.stderr[-4000:]
    sharded = command("wpo", "sharded", "--processes", "2", **SHARDED, **fields)
    process = start(tmp_path, sharded)
    saved = tmp_path / "sharded" / "training" / "checkpoints" / "checkpoint-3" / "prefdata.complete"
    while not saved.exists() and process.poll() is None:
        time.sleep(0.02)
    # The command alone: torchrun's processes may not outlive it.
    kill_alone(process)
    assert saved.exists()
    assert not (tmp_path / "sharded" / "training.json").exists()
    resumed = run(tmp_path, sharded)
    assert resumed.returncode == 0, resumed.stderr[-6000:]
    assert losses(tmp_path / "sharded") == pytest.approx(losses(tmp_path / "one"), abs=1e-6)
    assert [entry["step"] for entry in metrics(tmp_path / "sharded") if "loss" in entry] == list(range(1, 7))
    whole, gathered = weights(tmp_path / "one"), weights(tmp_path / "sharded")
    assert {name: array.shape for name, array in whole.items()} == {name: a.shape for name, a in gathered.items()}
    assert max(float(np.abs(whole[name] - gathered[name]).max()) for name in whole) < 1e-5
    # Sharded parameters are empty when they are hashed: other weights under the same path, in a file as old.
    file = tmp_path / "model" / "model.safetensors"
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    write_model(tmp_path / "model", seed=5)
    os.utime(file, ns=times)
    other = command("dpo", "other", "--processes", "2", **SHARDED, beta=0.1, trl={"max_steps": 1})
    done = run(tmp_path, other)
    assert done.returncode == 0, done.stderr[-6000:]
    assert losses(tmp_path / "other") == pytest.approx([math.log(2)], abs=1e-5)
