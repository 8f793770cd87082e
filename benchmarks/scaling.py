"""Does pairing grow in line with its table, and does a changed rule upload only what it changed?

::

    python benchmarks/scaling.py                             # 60,000 and 600,000 prompts x 6
    python benchmarks/scaling.py --prompts 60000,600000,2000000

Each size is the clustered table of `benchmarks/pairing.py`, paired in a process of its own. `slope` is that of log CPU
seconds over log prompts, between the smallest and the largest: 1 is linear. Memory is the peak of anonymous pages.
`shards` compares the largest and the smallest file of the pairs, the last of them left out. CPU seconds and memory of
10,000,000 prompts follow from the largest size and the slope.

Then the smallest dataset is pushed to a Hub on loopback with Xet (content-defined chunks), paired by another rule and
pushed again: the bytes that the store grew by, beside those of the files.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pairing import measured, versions, write_tables

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from minihub import MiniHub, User

from prefdata import diff

PUSH = "import sys; from prefdata.publish.pushing import push; push(sys.argv[1], 'bench/pairs')"
PAIR = "import sys; from prefdata import pair; pair(sys.argv[1], sys.argv[2], sys.argv[3], with_candidates=True)"
RULES = ("wpo_hybrid_v2", "best_vs_worst")
TOKEN = "token-of-the-benchmark"


def balance(dataset: Path) -> float:
    sizes = [file.stat().st_size for file in sorted((dataset / "data").glob("*.parquet"))][:-1]
    return max(sizes) / min(sizes) if sizes else 1.0


def grown(sizes: list[int], work: Path) -> list[dict[str, float]]:
    found = []
    for prompts in sizes:
        folder = work / str(prompts)
        folder.mkdir()
        table = write_tables(folder, prompts, ["clustered"])["clustered"]
        out = folder / "out"
        result = measured("ours", table, out, None)
        if "failed" in result:
            raise SystemExit(result["failed"])
        result |= {"prompts": prompts, "balance": balance(out / "dataset")}
        found.append(result)
        gigabytes = result["peak"] / 1e9
        print(
            f"{prompts:>10,} prompts: {result['cpu']:.1f} CPU s, {result['wall']:.1f} s, {gigabytes:.2f} GB, "
            f"shards {result['balance']:.2f}",
            flush=True,
        )
    return found


def uploaded(table: Path, work: Path) -> None:
    """Prints what a second push sends after a change of the rule."""
    hub = MiniHub(work / "hub", xet="shared").start()
    hub.users[TOKEN] = User("bench")
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(work / "home")}
    before = 0
    for rule in RULES:
        out = work / rule
        subprocess.run([sys.executable, "-c", PAIR, str(table), rule, str(out)], check=True, stderr=subprocess.DEVNULL)
        subprocess.run([sys.executable, "-c", PUSH, str(out)], check=True, env=environment, stderr=subprocess.DEVNULL)
        files = sum(file.stat().st_size for file in out.rglob("*.parquet"))
        pairs = sum(file.stat().st_size for file in (out / "data").glob("*.parquet"))
        stored = sum(file.stat().st_size for file in (work / "hub" / "cas").rglob("*") if file.is_file())
        print(
            f"{rule}: tables of {files / 1e6:.1f} MB, of which pairs {pairs / 1e6:.1f}; the store grew by "
            f"{(stored - before) / 1e6:.1f} MB, {(stored - before) / files:.0%}",
            flush=True,
        )
        before = stored
    found = diff(*(work / rule for rule in RULES))
    pairs, changed = found.counts["pairs"], found.changed
    print(
        f"pairs {pairs[0]:,} and {pairs[1]:,}; another chosen {changed['chosen']:,}, rejected {changed['rejected']:,}"
    )
    hub.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", default="60000,600000")
    sizes = sorted(map(int, parser.parse_args().prompts.split(",")))
    print(versions())
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        found = grown(sizes, work)
        first, last = found[0], found[-1]
        if len(found) > 1:
            slope = math.log(last["cpu"] / first["cpu"]) / math.log(last["prompts"] / first["prompts"])
            memory = max(each["peak"] for each in found) / min(each["peak"] for each in found)
            ahead = last["cpu"] * (1e7 / last["prompts"]) ** max(slope, 1)
            print(f"slope {slope:.3f}; memory {memory:.2f} x; 10,000,000 prompts: {ahead / 60:.0f} CPU minutes")
        uploaded(work / str(sizes[0]) / "clustered.parquet", work)


if __name__ == "__main__":
    main()
