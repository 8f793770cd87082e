"""`kill -9` at random moments of the reference's pass and of training: the same weights as an uninterrupted run.

    python benchmarks/kill_training.py --kills 20

A tiny model is trained by WPO through the command, in a process group that is killed after a random time and started
again, until the given number of kills is reached; then it may finish. Weights and losses must equal those of a run
that nothing stopped, to the last bit.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from trainings import command, kill, losses, run, start, weights, workshop

STEPS = 60


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folders = [workshop(Path(name) / which, rows=160) for which in ("straight", "killed")]
        words = command("wpo", "out", trl={"max_steps": STEPS, "save_steps": 5}, epochs=2, per_device_batch_size=2)
        began = time.monotonic()
        assert run(folders[0], words).returncode == 0
        whole = time.monotonic() - began
        work, kills, where = folders[1] / "out" / "training", 0, []
        while kills < given.kills:
            process = start(folders[1], words)
            begins = time.monotonic()
            # Not before the training process has something to lose: a new file in its folder or in the cache.
            known = {path for root in (work, folders[1] / "cache") for path in root.rglob("*")}
            while process.poll() is None and time.monotonic() < begins + whole:
                fresh = {path for root in (work, folders[1] / "cache") for path in root.rglob("*")} - known
                if any(path.suffix in (".parquet", ".jsonl", ".lock") or "checkpoint" in path.name for path in fresh):
                    break
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.5))
            if process.poll() is not None:
                break
            kill(process)
            kills += 1
            steps = [int(path.parent.name.rpartition("-")[2]) for path in work.glob("checkpoints/*/prefdata.complete")]
            where.append(max(steps, default=0))
        assert run(folders[1], words).returncode == 0
        one, other = (weights(folder / "out") for folder in folders)
        apart = max(abs(one[name] - other[name]).max() for name in one)
        same = losses(folders[0] / "out") == losses(folders[1] / "out")
        print(f"{kills} kills, after the checkpoints {where}: weights apart {apart}, losses the same: {same}")
        sys.exit(0 if apart == 0 and same else 1)


if __name__ == "__main__":
    main()
