"""Kills builds with SIGKILL at random moments, resumes them, and compares the result with an uninterrupted build.

::

    python benchmarks/kill.py --kills 50    # over replayed candidates: every byte of the build folder must be equal
    python benchmarks/kill.py --vllm 5      # while vLLM samples: what a journal held must be in the result verbatim

The build runs in a process of its own, which gets the signal without warning. In that process every step of the file
system is followed by a short sleep and every task is preceded by one, so that kills also land between two renames
and between two answers. Which tasks are asked is logged outside the build folder: an answer that a journal held when
the process died must not be asked for again. Prints one summary line; the exit status is 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from killed_build import Driven, still_there

VLLM_SEQUENCES = 4
"""Answers under way at once; vLLM's part pulls twice as many ahead."""


@dataclass
class Report:
    """Counts of a series of kills, and the promises that were broken."""

    kills: int = 0
    builds: int = 0
    """Builds that were run to their end and compared."""
    landed: Counter[str] = field(default_factory=Counter)
    """Stage that was under way, by what is on disk → kills."""
    half_written: int = 0
    """Kills that left a half-written file or folder."""
    kept: int = 0
    """Different answers that were in a journal when the process died."""
    asked_again: int = 0
    """Tasks that a killed process had taken and a later one was asked again: what was under way."""
    most_asked_again: int = 0
    """The largest number of these after one kill."""
    broken: list[str] = field(default_factory=list)
    """Promises that were not kept."""

    def line(self) -> str:
        """Gives the summary."""
        where = ", ".join(f"{stage} {count}" for stage, count in sorted(self.landed.items()))
        kept = "yes" if not self.broken else f"NO: {'; '.join(self.broken[:5])}"
        return (
            f"kills {self.kills} over {self.builds} builds ({where}; {self.half_written} left something half written); "
            f"journalled answers kept {self.kept}; asked again {self.asked_again}, "
            f"at most {self.most_asked_again} after one kill; identical {kept}"
        )


# What is on disk -----------------------------------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, str]:
    """Relative path → SHA-256 of every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def journalled(build: Path) -> dict[str, list[object]]:
    """Reads the candidates of every task that a journal or a written shard answers, by the task's key."""
    from prefdata.flow.journal import Journal
    from prefdata.tables.schemas import read_parquet

    found: dict[str, list[object]] = {}
    for stage in build.glob("stages/candidates-*"):
        for path in sorted(stage.glob("shard-*.parquet")):
            for row in read_parquet(path).to_pylist():
                found.setdefault(_task_of(row), []).append(row)
            drops = read_parquet(path.with_name(path.name.replace("shard", "candidate_drops")))
            for row in drops.to_pylist():
                found.setdefault(_task_of(row), [])
        for path in stage.glob("journal-*.jsonl"):
            with tempfile.TemporaryDirectory() as folder:
                # Reading cuts a torn end off, which is left to the build.
                copy = Path(shutil.copy(path, folder))
                # Reasoning lies in a table of its own.
                found |= {
                    record["key"]: [_without(candidate, "reasoning") for candidate in record["candidates"]]
                    for record in Journal(copy).read()
                }
    return found


def _without(candidate: dict[str, object], name: str) -> dict[str, object]:
    return {field: value for field, value in candidate.items() if field != name}


def _task_of(row: dict[str, object]) -> str:
    """A model is asked for each of a prompt's answers, a table for all of them at once."""
    return f"{row['prompt_id']}/{row['index'] if row.get('seed') is not None else 0}"


def landed(build: Path) -> str:
    """Gives the stage that was under way."""
    order = ("prompts", "candidates", "scores", "pairs")
    for name in reversed(order):
        for stage in build.glob(f"stages/{name}-*"):
            if (stage / "stage.json").exists():
                return (*order[1:], "dataset")[order.index(name)]
            return name
    return "start"


def leftovers(build: Path) -> bool:
    """Says whether anything half written is there."""
    return any(True for pattern in (".*.part", ".*.old") for _ in build.rglob(pattern))


# Killing -------------------------------------------------------------------------------------------------------------


class _Watch:
    """Checks each new process against what the ones before it had finished."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.safe: dict[str, list[object]] = {}
        self.taken: set[str] = set()

    def died(self, driven: Driven) -> None:
        """A process was killed."""
        self.report.kills += 1
        self.report.landed[landed(driven.build)] += 1
        self.report.half_written += leftovers(driven.build)
        self._asked(driven)
        safe = journalled(driven.build)
        self.report.kept += len(safe.keys() - self.safe.keys())
        self.same(safe)
        self.safe |= safe

    def same(self, found: dict[str, list[object]]) -> None:
        """Checks that what was finished once is there, verbatim."""
        changed = [key for key, candidates in self.safe.items() if found.get(key) != candidates]
        if changed:
            self.report.broken.append(f"{len(changed)} journalled answers are gone or others, such as {changed[0]}")

    def finished(self, driven: Driven) -> None:
        """A build came to its end."""
        self._asked(driven)
        self.same(journalled(driven.build))

    def _asked(self, driven: Driven) -> None:
        asked = driven.asked()
        if again := self.safe.keys() & asked:
            self.report.broken.append(f"{len(again)} journalled answers were asked for again")
        if len(set(asked)) < len(asked):
            self.report.broken.append("a task was asked twice by one process")
        repeated = len(self.taken & set(asked))
        self.report.asked_again += repeated
        self.report.most_asked_again = max(self.report.most_asked_again, repeated)
        self.taken |= set(asked)


# Over replayed candidates --------------------------------------------------------------------------------------------


def write_replayed(work: Path, prompts: int, answers: int, draw: random.Random) -> None:
    """Writes a recipe over a table with ties, blanks, gaps, repeated prompts and repeated texts."""
    with (work / "prompts.jsonl").open("w", encoding="utf-8") as file:
        for number in range(prompts):
            text = f"Question {number}: " + " ".join(draw.choices(("why", "où", "什么", "how"), k=draw.randint(1, 30)))
            file.write(json.dumps({"prompt": "  " if number % 97 == 5 else text, "id": f"p{number:06d}"}) + "\n")
            if number % 50 == 7:
                file.write(json.dumps({"prompt": text, "id": f"p{number:06d}"}) + "\n")
    with (work / "answers.jsonl").open("w", encoding="utf-8") as file:
        for number in range(prompts):
            for _ in range(0 if number % 61 == 3 else answers):
                text = " ".join(draw.choices(("yes", "no", "peut-être", "因为", "\n"), k=draw.randint(1, 40)))
                response = draw.choices((text, "same text", "", None), (20, 3, 1, 1))[0]
                score = draw.choices((draw.randint(0, 3) / 2, None), (12, 1))[0]
                row = {"id": f"p{number:06d}", "response": response, "score": score, "model": draw.choice("ab")}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    recipe = {
        "name": "kill",
        "description": "Replayed answers, to be killed.",
        "seed": 3,
        "prompts": {"kind": "file", "path": "prompts.jsonl", "prompt_id_column": "id"},
        "candidates": [
            {
                "kind": "existing",
                "name": "replayed",
                "path": "answers.jsonl",
                "prompt_id_column": "id",
                "score_column": "score",
                "model_column": "model",
            }
        ],
        "scores": {"kind": "given"},
        "pairs": {"kind": "wpo_hybrid_v2"},
        "dataset": {"kind": "trl", "test_size": 0.1},
    }
    (work / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")


def kill_replayed(
    work: Path,
    kills: int,
    *,
    prompts: int = 3000,
    answers: int = 6,
    shard_size: int = 100,
    pause: float = 0.0007,
    stretch: float = 0.004,
    seed: int = 0,
    show: Callable[[str], None] = lambda _: None,
) -> Report:
    """Kills a build over replayed candidates; each moment is drawn evenly from the time that a whole build takes.

    A build that ends before its moment is compared, and the next one begins in a new folder.
    """
    draw = random.Random(seed)
    write_replayed(work, prompts, answers, draw)
    whole = Driven(work, "recipe.json", "whole", shard_size, pause, stretch)
    start = time.monotonic()
    whole.wait()
    seconds = time.monotonic() - start
    expected = tree(whole.build)
    show(f"an uninterrupted build takes {seconds:.1f} s and has {len(expected)} files")
    report = Report()
    watch = _Watch(report)
    driven: Driven | None = None
    while driven is None or report.kills < kills:
        driven = Driven(work, "recipe.json", f"build-{report.builds}", shard_size, pause, stretch)
        if driven.wait(draw.uniform(0, seconds)):
            watch.finished(driven)
            _compare(report, expected, driven.build)
            watch = _Watch(report)
        else:
            driven.kill()
            watch.died(driven)
            show(f"kill {report.kills}: {landed(driven.build)}")
    driven = Driven(work, "recipe.json", f"build-{report.builds}", shard_size, pause, stretch)
    driven.wait()
    watch.finished(driven)
    _compare(report, expected, driven.build)
    return report


def _compare(report: Report, expected: dict[str, str], build: Path) -> None:
    found = tree(build)
    report.builds += 1
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            report.broken.append(f"{build.name}/{name} differs")


# While vLLM samples --------------------------------------------------------------------------------------------------


def kill_vllm(
    work: Path,
    kills: int,
    *,
    prompts: int = 24,
    answers: int = 3,
    tokens: int = 48,
    shard_size: int = 10,
    compare: bool = True,
    seed: int = 0,
    show: Callable[[str], None] = lambda _: None,
) -> Report:
    """Kills a build while the embedded model answers in vLLM, each time after a random number of new answers.

    Args:
        compare: also runs one uninterrupted build. In float32 an answer depends on its seed only, so that one has
            the same bytes, too.
    """
    draw = random.Random(seed)
    _write_sampled(work, prompts, answers, tokens)
    report = Report()
    watch = _Watch(report)
    per_kill = prompts * answers // (kills + 1)
    while report.kills < kills:
        driven = Driven(work, "recipe.json", "build", shard_size, 0.0, 0.0)
        wanted = len(watch.safe) + draw.randint(1, max(1, 2 * per_kill - 1))
        wanted = min(wanted, prompts * answers - 1 - (kills - report.kills - 1))
        while answers_on_disk(driven.build) < wanted:
            if driven.wait(0.05):
                raise SystemExit("the build ended before it could be killed")
        started = driven.kill()
        watch.died(driven)
        if left := still_there(started):
            report.broken.append(f"kill {report.kills} left processes {left}")
        show(f"kill {report.kills}: {len(watch.safe)} answers in the journals, {len(started)} processes ended with it")
    driven = Driven(work, "recipe.json", "build", shard_size, 0.0, 0.0)
    driven.wait()
    watch.finished(driven)
    report.builds += 1
    if (found := len(journalled(driven.build))) != prompts * answers:
        report.broken.append(f"{found} answers in the result, not {prompts * answers}")
    if report.most_asked_again > 2 * VLLM_SEQUENCES:
        report.broken.append(f"{report.most_asked_again} answers were asked again after one kill")
    if compare:
        whole = Driven(work, "recipe.json", "whole", shard_size, 0.0, 0.0)
        whole.wait()
        _compare(report, tree(whole.build), driven.build)
    return report


def answers_on_disk(build: Path) -> int:
    """Counts the answers that journals and written shards hold; cheap enough to be called often."""
    import pyarrow.parquet as pq

    count = 0
    for path in build.glob("stages/candidates-*/*-*"):
        try:
            if path.suffix == ".jsonl":
                count += path.read_bytes().count(b"\n")
            elif path.name.startswith("shard-"):
                count += pq.read_metadata(path).num_rows
        except FileNotFoundError:
            # A journal goes when its shard is written.
            continue
    return count


def _write_sampled(work: Path, prompts: int, answers: int, tokens: int) -> None:
    generator = {
        "kind": "local",
        "model": "embedded:smollm2-135m-instruct",
        "dtype": "float32",
        "max_model_len": 1024,
        "concurrency": VLLM_SEQUENCES,
        "env": {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"},
    }
    sampler = {"kind": "samples", "name": "policy", "generator": generator, "n": answers, "max_tokens": tokens}
    recipe = {
        "name": "kill",
        "seed": 3,
        "limit": prompts,
        "prompts": {"kind": "sample"},
        "candidates": [sampler],
        "scores": {"kind": "given"},
        "pairs": {"kind": "best_vs_worst", "admit": ["cut_off"]},
        "dataset": {"kind": "trl", "test_size": 0.2},
    }
    (work / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")


def main() -> None:
    """One command for each form."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--kills", type=int, metavar="N", help="kill builds over replayed candidates N times")
    form.add_argument("--vllm", type=int, metavar="N", help="kill a build N times while vLLM samples")
    parser.add_argument("--prompts", type=int, help="prompts of a build (3000, with --vllm 24)")
    parser.add_argument("--seed", type=int, default=0, help="draws other moments (0)")
    options = parser.parse_args()
    kills, function = (options.vllm, kill_vllm) if options.kills is None else (options.kills, kill_replayed)
    more = {} if options.prompts is None else {"prompts": options.prompts}
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="prefdata-kill-") as folder:
        report = function(
            Path(folder), kills, seed=options.seed, show=lambda line: print(line, file=sys.stderr, flush=True), **more
        )
    print(f"{report.line()} ({time.monotonic() - start:.0f} s)")
    sys.exit(1 if report.broken else 0)


if __name__ == "__main__":
    main()
