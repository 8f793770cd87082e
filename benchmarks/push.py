"""Pushes synthetic datasets to a Hub on loopback: seconds, memory, and what a killed push sends again.

For every size: a dataset of incompressible answers is written, a push is killed (SIGKILL) when half of its large files
are there, and pushed again. The Hub is the one of the tests, in this process; the pusher is a process of its own.

    python benchmarks/push.py --sizes 0.25,1 --file-mb 64 [--xet]
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from minihub import MiniHub, User

from prefdata.dataset import TRLPairs
from prefdata.publish import Publish, folder
from prefdata.publish.card.text import CardFacts
from prefdata.publish.folder import DatasetFolder, write_dataset_folder
from prefdata.tables.schemas import CANDIDATE_DROPS, DROPS, PAIRS, PROMPTS

ROW_BYTES = 20_000
TOKEN = "token-of-the-benchmark"
PUSHER = """
import json, re, sys, time
from pathlib import Path
import huggingface_hub.hf_api
from prefdata.publish.pushing import push

def memory(which):
    # Of this program alone; what the system tells of children's peaks includes the parent's at the fork.
    return int(re.search(which + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before, start = memory("VmRSS"), time.perf_counter()
done = push(sys.argv[1], "bench/pairs")
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "before": before, "peak": memory("VmHWM"), "new": done.new}))
"""


def rows(size: int) -> Iterator[pa.Table]:
    """Pairs of random text, `size` bytes of it in all."""
    draw = random.Random(1)
    count = size // ROW_BYTES
    for start in range(0, count, 500):
        ids = [f"p{number:08d}" for number in range(start, min(start + 500, count))]
        texts = [base64.b64encode(draw.randbytes(ROW_BYTES * 3 // 8)).decode() for _ in range(2 * len(ids))]
        prompts = [{"prompt_id": i, "messages": [{"role": "user", "content": i}], "origin": ""} for i in ids]
        pairs = [
            {"prompt_id": i, "response_chosen": texts[2 * n], "response_rejected": texts[2 * n + 1]}
            for n, i in enumerate(ids)
        ]
        yield TRLPairs().rows(pa.Table.from_pylist(pairs, PAIRS), pa.Table.from_pylist(prompts, PROMPTS))


def make(where: Path, size: int, file_bytes: int) -> int:
    """Writes a dataset folder; returns its bytes."""
    where.mkdir()
    folder._FILE_BYTES = file_bytes
    pairs = size // ROW_BYTES
    write_dataset_folder(
        where,
        DatasetFolder(
            rows=rows(size),
            test_ids=(),
            drops=DROPS.empty_table(),
            candidate_drops=CANDIDATE_DROPS.empty_table(),
            ledger={"prompts": pairs, "pairs": pairs, "drops": {}, "ineligible": {}, "stages": []},
            recipe={"name": "bench"},
            lock={},
            card=CardFacts(name="bench", description="", publish=Publish(), steps={}),
        ),
    )
    return sum(path.stat().st_size for path in where.rglob("*") if path.is_file())


def pusher(hub: MiniHub, where: Path, home: Path, xet: bool) -> subprocess.Popen[str]:
    """A push in a process of its own."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    env |= {"HF_HUB_DISABLE_TELEMETRY": "1"} | ({} if xet else {"HF_HUB_DISABLE_XET": "1"})
    return subprocess.Popen(
        [sys.executable, "-c", PUSHER, str(where)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def sent(hub: MiniHub) -> list[str]:
    """Hashes of the files that arrived whole, one for each time."""
    return [path.rpartition("/")[2] for method, path, status, _ in hub.log if method == "PUT" and status == 200]


def settled(blobs: Path) -> set[str]:
    """Hashes of the large files that the Hub has, once what was on its way when the pusher died has arrived."""
    found: set[str] = set()
    while (now := {path.name for path in blobs.rglob("*") if len(path.name) == 64}) != found:
        found = now
        time.sleep(1)
    return found


def measure(gigabytes: float, file_mb: float, xet: bool) -> dict[str, object]:
    """One dataset: pushed until half is there, killed, pushed again, and pushed once more."""
    with tempfile.TemporaryDirectory() as folder_name:
        root = Path(folder_name)
        size = make(root / "dataset", int(gigabytes * 1e9), int(file_mb * 1e6))
        files = len(list((root / "dataset").rglob("*.parquet")))
        hub = MiniHub(root / "hub", xet="write" if xet else False).start()
        hub.users[TOKEN] = User("bench")
        killed = pusher(hub, root / "dataset", root / "home", xet)
        while killed.poll() is None and len(sent(hub)) < files // 2:
            time.sleep(0.01)
        killed.kill()
        killed.wait()
        before = settled(root / "hub" / "blobs")
        commits = [len(repo.commits) for repo in hub.repos.values()]
        hub.log.clear()
        out, _ = (again := pusher(hub, root / "dataset", root / "home", xet)).communicate()
        assert again.returncode == 0
        told, resent = json.loads(out), len(before & set(sent(hub)))
        assert [len(repo.commits) for repo in hub.repos.values()] == [count + 1 for count in commits]
        third = pusher(hub, root / "dataset", root / "home", xet)
        assert not json.loads(third.communicate()[0])["new"]
        hub.stop()
    return {
        "GB": size / 1e9,
        "files": files,
        "sent before the kill": len(before),
        "sent again": resent,
        "seconds of the rest": told["seconds"],
        "MB before": told["before"] / 1024,
        "MB at most": told["peak"] / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="0.25,1", help="gigabytes, separated by commas")
    parser.add_argument("--file-mb", type=float, default=64, help="size of a Parquet file")
    parser.add_argument("--xet", action="store_true", help="through hf_xet's own store on disk")
    options = parser.parse_args()
    found = [measure(float(size), options.file_mb, options.xet) for size in options.sizes.split(",")]
    print(" | ".join(found[0]))
    for row in found:
        print(" | ".join(f"{value:,.1f}" if isinstance(value, float) else str(value) for value in row.values()))


if __name__ == "__main__":
    main()
