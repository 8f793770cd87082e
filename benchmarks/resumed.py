"""Measures what it costs to check a build: a resumed build and `verify`, before and after a change.

::

    python benchmarks/resumed.py --before ../earlier --prompts 4000 --rounds 7

`--before` is the root of an earlier source tree, which builds a folder of its own. In each round every command runs
once, in turn, in a process of its own; the table has the smallest and the median CPU seconds of each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def write_tables(work: Path, prompts: int) -> None:
    """Writes prompts, four scored answers to each, and a recipe over them."""
    with (work / "prompts.jsonl").open("w") as file:
        for number in range(prompts):
            file.write(json.dumps({"id": f"p{number:06d}", "prompt": f"Question {number}? " + "why " * 40}) + "\n")
    with (work / "answers.jsonl").open("w") as file:
        for number in range(prompts):
            for answer in range(4):
                text = f"{number} {answer}: " + " ".join(str(number * word % 9973) for word in range(150 + 40 * answer))
                file.write(
                    json.dumps({"id": f"p{number:06d}", "response": text, "score": (number + answer) % 5}) + "\n"
                )
    table = {"kind": "existing", "name": "replayed", "path": "answers.jsonl", "prompt_id_column": "id"}
    recipe = {
        "name": "resumed",
        "prompts": {"kind": "file", "path": "prompts.jsonl", "prompt_id_column": "id"},
        "candidates": [{**table, "score_column": "score"}],
        "scores": {"kind": "given"},
        "pairs": {"kind": "best_vs_worst"},
        "dataset": {"kind": "trl", "test_size": 100},
    }
    (work / "recipe.json").write_text(json.dumps(recipe))


def cpu_seconds(tree: Path, work: Path, *command: str) -> float:
    """Runs a command of a source tree; returns the CPU seconds of its process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run([sys.executable, "-m", "prefdata", *command], cwd=work, env=environment, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{tree}: {' '.join(command)}: {done.stderr.decode(errors='replace')[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    old, times = given.before.resolve(), dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_tables(work, given.prompts)
        build = ("build", "recipe.json", "--out")
        commands = {
            "resumed build, before": (old, *build, "old"),
            "resumed build": (HERE, *build, "new"),
            "resumed build --check": (HERE, *build, "new", "--check"),
            "verify, before": (old, "verify", "old"),
            "verify": (HERE, "verify", "new"),
        }
        first = {name: cpu_seconds(tree, work, *build, out) for name, tree, out in _first(old)}
        for _ in range(given.rounds):
            for name, (tree, *command) in commands.items():
                times.setdefault(name, []).append(cpu_seconds(tree, work, *command))
        size = sum(path.stat().st_size for path in (work / "new" / "stages").rglob("*") if path.is_file())
    print(f"{given.prompts:,} prompts, {size / 1e6:.1f} MB of stages, {given.rounds} rounds, CPU seconds")
    for name, seconds in first.items():
        print(f"| {name} | {seconds:.2f} | |")
    for name, each in times.items():
        print(f"| {name} | {min(each):.2f} | {statistics.median(each):.2f} |")


def _first(old: Path) -> tuple[tuple[str, Path, str], ...]:
    return ("first build, before", old, "old"), ("first build", HERE, "new")


if __name__ == "__main__":
    main()
