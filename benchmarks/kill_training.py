"""`kill -9` at random moments of the reference's pass and of training: the same weights as an uninterrupted run.

    python benchmarks/kill_training.py --kills 20

A tiny model is trained by WPO through the command, in a process group that is killed after a random time and started
again, until it is done; then another training begins, until the given number of kills is reached. Weights and losses of
each must equal those of a run that nothing stopped, to the last bit.
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
WORDS = command("wpo", "out", trl={"max_steps": STEPS, "save_steps": 5}, epochs=2, per_device_batch_size=2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw, kills, same = random.Random(given.seed), 0, True
    with tempfile.TemporaryDirectory() as name:
        straight = workshop(Path(name) / "straight", rows=160)
        began = time.monotonic()
        assert run(straight, WORDS).returncode == 0
        whole = time.monotonic() - began
        while kills < given.kills:
            folder = workshop(Path(name) / f"killed after {kills}", rows=160)
            where = kill_again_and_again(folder, given.kills - kills, whole, draw)
            assert run(folder, WORDS).returncode == 0
            one, other = (weights(place / "out") for place in (straight, folder))
            apart = max(abs(one[name] - other[name]).max() for name in one)
            alike = losses(straight / "out") == losses(folder / "out")
            print(f"{len(where)} kills, after the checkpoints {where}: weights apart {apart}, losses the same: {alike}")
            kills, same = kills + len(where), same and apart == 0 and alike
    print(f"{kills} kills")
    sys.exit(0 if same else 1)


def kill_again_and_again(folder: Path, most: int, whole: float, draw: random.Random) -> list[int]:
    """Kills a training until it is done; returns, for each kill, the last checkpoint before it."""
    work, where = folder / "out" / "training", []
    while len(where) < most:
        process = start(folder, WORDS)
        begins = time.monotonic()
        # Not before the training process has something to lose: a new file in its folder or in the cache.
        known = {path for root in (work, folder / "cache") for path in root.rglob("*")}
        while process.poll() is None and time.monotonic() < begins + whole:
            fresh = {path for root in (work, folder / "cache") for path in root.rglob("*")} - known
            if any(path.suffix in (".parquet", ".jsonl", ".lock") or "checkpoint" in path.name for path in fresh):
                break
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        if process.poll() is not None:
            break
        kill(process)
        steps = [int(path.parent.name.rpartition("-")[2]) for path in work.glob("checkpoints/*/prefdata.complete")]
        where.append(max(steps, default=0))
    return where


if __name__ == "__main__":
    main()
