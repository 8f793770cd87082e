"""Damages files of a build folder, one at a time, and counts what the next build makes of it.

::

    python benchmarks/damage.py --tries 1000

Each try copies a build folder (a finished one, or one that was stopped within a stage), flips one bit of one of its
files or cuts it off, and builds the recipe again. In every second try the file keeps its time, as when a disk rots, and
the build gets `--check`. It must give the same dataset, byte for byte, or one message (`StoreError`) after which
`--repair` gives it. Prints one line of counts; the exit status is 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SHARD = 5
STOPPED = ("candidates-replayed", "scores-scorers.0", "scores-scorers.1")
"""Stages within which a build is stopped."""


@dataclass
class Report:
    """Counts of a series of tries, and the promises that were broken."""

    tries: Counter[str] = field(default_factory=Counter)
    """Kind of file → tries."""
    unchanged: int = 0
    """Builds that gave the same dataset at once."""
    named: int = 0
    """Builds that ended with one message, after which `--repair` gave the same dataset."""
    broken: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Gives the summary."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.tries.items()))
        kept = "yes" if not self.broken else f"NO, {len(self.broken)}: {'; '.join(self.broken[:5])}"
        return (
            f"{self.tries.total()} tries ({kinds}): the same bytes at once {self.unchanged}, one message and the same "
            f"bytes after --repair {self.named}; promises kept {kept}"
        )


def write_recipe(work: Path, prompts: int = 24) -> dict[str, object]:
    """Writes the tables of a recipe with drops, an ensemble and comparisons; returns the recipe as data."""
    rows = [{"id": f"p{number:03d}", "prompt": f"Question {number}?"} for number in range(prompts)]
    rows += [rows[3], {"id": "blank", "prompt": " "}]
    (work / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    answers = [
        {"id": f"p{number:03d}", "response": f"{number}: {'because ' * (1 + score)}", "score": score}
        for number in range(prompts - 1)
        for score in (number % 3, 3, 4)
    ]
    (work / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
    table = {"kind": "existing", "name": "replayed", "path": "answers.jsonl"}
    return {
        "name": "damaged",
        "seed": 5,
        "prompts": {"kind": "file", "path": "prompts.jsonl", "prompt_id_column": "id"},
        "candidates": [{**table, "prompt_id_column": "id", "score_column": "score"}],
        "scores": {"kind": "ensemble", "scorers": [{"kind": "given"}, {"kind": "given"}], "combine_by": "mean"},
        "pairs": {"kind": "best_vs_worst", "label": {"kind": "comparison"}},
        "dataset": {"kind": "trl", "test_size": 5},
    }


def build(recipe: dict[str, object], out: Path, **options: bool) -> None:
    """Builds the recipe in the current folder, in this process, without a word."""
    from prefdata.flow.build import build as build_recipe
    from prefdata.recipe import Recipe

    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
        build_recipe(Recipe.model_validate(recipe), out, shard_size=SHARD, **options)


def build_until(recipe: dict[str, object], out: Path, stage: str, records: int) -> None:
    """Builds until a stage has journalled some records, and leaves the folder as a kill leaves it."""
    from prefdata.flow.journal import Journal

    class StopError(Exception):
        pass

    append, left = Journal.append, records

    def stopping(self: Journal, record: object) -> None:
        nonlocal left
        if self.path.name.startswith("journal-") and self.path.parent.name.startswith(f"{stage}-"):
            if left == 0:
                raise StopError
            left -= 1
        append(self, record)

    Journal.append = stopping  # type: ignore[method-assign]
    try:
        build(recipe, out)
    except StopError:
        pass
    finally:
        Journal.append = append  # type: ignore[method-assign]


def write_folders(work: Path, recipe: dict[str, object]) -> list[Path]:
    """Makes the build folders that are damaged: a finished one first, then those that were stopped."""
    from prefdata.models.endpoint.spending import Spending, Spent

    folders = [work / "whole", *(work / f"stopped-{number}" for number in range(len(STOPPED)))]
    build(recipe, folders[0])
    for folder, stage in zip(folders[1:], STOPPED, strict=True):
        build_until(recipe, folder, stage, 8)
    for folder in folders:
        spending = Spending(folder / "spending.jsonl")
        for number in range(5):
            spending.add("somewhere m", Spent(1, 10 + number, 5, 0.25, "USD"))
    return folders


def kind_of(path: Path) -> str:
    """Names the kind of a file of a build folder. Those of the dataset, which is made anew by every build, are one."""
    return "dataset" if "dataset" in path.parts else path.name.partition("-")[0]


def damage(path: Path, draw: random.Random) -> str:
    """Flips one bit of a file, or cuts it off; says what was done."""
    content = bytearray(path.read_bytes())
    if not content or draw.random() < 0.3:
        at = draw.randrange(len(content)) if content else 0
        path.write_bytes(content[:at])
        return f"cut to {at} bytes"
    at, bit = draw.randrange(len(content)), draw.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {at} flipped"


def digests(folder: Path) -> dict[str, str]:
    """Relative path → SHA-256 of every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def files_by_kind(folders: list[Path]) -> dict[str, list[Path]]:
    """Lists the files of the folders by kind."""
    kinds: dict[str, list[Path]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                kinds.setdefault(kind_of(path), []).append(path)
    return kinds


def tries(work: Path, recipe: dict[str, object], count: int, seed: int) -> Iterator[tuple[Report, str]]:
    """Carries tries out, over every kind of file in turn; yields the report so far and what was done."""
    from prefdata.errors import StoreError

    draw, report = random.Random(seed), Report()
    folders = write_folders(work, recipe)
    expected = digests(folders[0] / "dataset")
    kinds = files_by_kind(folders)
    for number in range(count):
        kind = sorted(kinds)[number % len(kinds)]
        chosen = draw.choice(kinds[kind])
        folder = next(folder for folder in folders if chosen.is_relative_to(folder))
        copy = work / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        path = copy / chosen.relative_to(folder)
        before, rotten = path.stat(), number % 2 == 1
        done = f"{path.relative_to(copy)}: {damage(path, draw)}"
        if rotten:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        report.tries[kind] += 1
        messages = []
        try:
            for options in ({"check": rotten}, {"repair": True}):
                try:
                    build(recipe, copy, **options)
                    break
                except StoreError as error:
                    messages.append(str(error))
            else:
                report.broken.append(f"{done}: --repair did not help: {messages[-1]}")
            if digests(copy / "dataset") != expected:
                report.broken.append(f"{done}: other bytes")
        except Exception:  # noqa: BLE001 - whatever it is, it is what must not be
            report.broken.append(f"{done}: {traceback.format_exc()}")
        if messages:
            report.named += 1
            # The message names the file, so that it can be put back.
            if path.name not in messages[0]:
                report.broken.append(f"{done}: the message names another file: {messages[0]}")
        else:
            report.unchanged += 1
        yield report, done


def main(say: Callable[[str], None] = print) -> None:
    """Carries the tries out in a folder of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            report = Report()
            for report, done in tries(Path(folder), write_recipe(Path(folder)), given.tries, given.seed):
                for broken in report.broken:
                    if broken.startswith(f"{done}: "):
                        say(broken)
        finally:
            os.chdir(before)
    say(report.line())
    sys.exit(1 if report.broken else 0)


if __name__ == "__main__":
    main()
