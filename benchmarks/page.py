"""The page of 60,000 pairs against its bars: written, opened in Chromium, searched.

    python benchmarks/page.py                              # made-up texts
    python benchmarks/page.py --texts pairs.jsonl.gz       # texts of a real table, every copy altered

Prints each number with its bar, and exits with 1 where one is missed. CPU seconds are those of a process of its own
that writes the page. The list's time is the least of five openings, from the file; the other times in the browser are
those of one more.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

WORDS = 20_000
OPENINGS = 5
LENGTHS = {"prompt": 670, "chosen": 1_270, "rejected": 1_110}


def made_texts(number_of: int, seed: int):
    draw = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    vocabulary = ["".join(draw.choices(letters, range(26, 0, -1), k=draw.randint(2, 10))) for _ in range(WORDS)]
    weights = [1 / rank for rank in range(1, WORDS + 1)]
    pool = " ".join(draw.choices(vocabulary, weights, k=1_500_000))
    for number in range(number_of):
        row = {}
        for name, mean in LENGTHS.items():
            size = int(draw.lognormvariate(0, 0.6) * mean * 0.835)
            at = draw.randrange(len(pool) - size)
            row[name] = f"{pool[at : at + size]} {name} {number}"
        yield row


def real_texts(path: Path, number_of: int):
    from prefdata.inspection.pair_rows import shape_of
    from prefdata.tables import files

    rows = list(files.rows(path))
    shape = shape_of(str(path), list(rows[0]), rows[0], {})
    read = [shape.read(row) for row in rows]
    texts = [(row.prompt_text, row.chosen.text, row.rejected.text) for row in read if row.chosen and row.rejected]
    for number in range(number_of):
        draw = random.Random(number)
        row = {}
        for name, text in zip(LENGTHS, texts[number % len(texts)], strict=True):
            words = text.split(" ")
            for _ in range(max(1, len(words) // 12)):
                at, other = draw.randrange(len(words)), draw.randrange(len(words))
                words[at], words[other] = words[other], words[at]
            row[name] = f"{' '.join(words)} {name} {number}"
        yield row


def write_table(folder: Path, rows) -> Path:
    draw = random.Random(1)
    table = folder / "pairs.parquet"
    scores = ({"score_chosen": draw.randint(10, 20) / 2, "score_rejected": draw.randint(0, 12) / 2} for _ in count())
    numbered = ({"prompt_id": f"{n:06d}", **row, **next(scores)} for n, row in enumerate(rows))
    pq.write_table(pa.Table.from_pylist(list(numbered)), table, compression="zstd", row_group_size=1000)
    return table


WRITE = """
import sys, prefdata
page = prefdata.write_page(sys.argv[1], sys.argv[2])
with open("/proc/self/status") as status:
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(page.rows, page.text_bytes, page.size, peak)
"""
"""The usage that the system keeps of a child counts the memory of the process that started it."""


def write(table: Path, page: Path) -> dict[str, float]:
    start = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", WRITE, table, page], stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows, texts, size, peak = map(int, done.stdout.split())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "rows": rows,
        "texts": texts,
        "size": size,
        "cpu": cpu,
        "wall": time.monotonic() - start,
        "memory": peak / 1e3,
    }


def heaps(page) -> int:
    """Bytes that the page and its threads hold, each after a collection."""
    session = page.context.new_cdp_session(page)
    threads, used = [], []

    def take(event) -> None:
        usage = json.loads(event["message"]).get("result", {})
        if "usedSize" in usage:
            used.append(usage)

    session.on("Target.attachedToTarget", lambda event: threads.append(event["sessionId"]))
    session.on("Target.receivedMessageFromTarget", take)
    session.send("Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": False})
    for number, method in enumerate(("HeapProfiler.collectGarbage", "Runtime.getHeapUsage")):
        for thread in threads:
            message = json.dumps({"id": number, "method": method})
            session.send("Target.sendMessageToTarget", {"sessionId": thread, "message": message})
    session.send("HeapProfiler.collectGarbage")
    while len(used) < len(threads):
        page.wait_for_timeout(100)
    used.append(session.send("Runtime.getHeapUsage"))
    return sum(usage["usedSize"] + usage["backingStorageSize"] for usage in used)


def measure_page(path: Path) -> dict[str, float]:
    from browser import opened, started

    with started() as browser:
        openings = []
        for _ in range(OPENINGS):
            page = opened(browser, path, "#v=list")
            page.page.wait_for_function("() => performance.getEntriesByName('whole').length")
            marks = page.do("['ready', 'whole'].map((name) => performance.getEntriesByName(name)[0].startTime)")
            openings.append(marks)
            page.page.context.close()
        ready, whole = map(min, zip(*openings, strict=True))
        page = opened(browser, path, "#v=list")
        page.page.wait_for_load_state()
        parsed = page.do("performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart")
        pairs = []
        for _ in range(8):
            page.page.keyboard.press("j")
            page.wait_pair()
            pairs.append(page.do("performance.getEntriesByName('pair').at(-1).duration"))
        searches = []
        for words in ("chosen 31415 ", "rejected 27182 ", "prompt 16180"):
            start = time.monotonic()
            page.search(words.strip())
            searches.append(time.monotonic() - start)
        heap = heaps(page.page) / 1e6
        assert page.errors == [], page.errors
        assert len(page.requests) == 1, page.requests
    return {
        "ready": ready / 1e3,
        "whole": whole / 1e3,
        "parsed": parsed / 1e3,
        "pair": max(pairs) / 1e3,
        "first": searches[0],
        "later": max(searches[1:]),
        "heap": heap,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60_000)
    parser.add_argument("--texts", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prefdata-page-") as folder:
        texts = (
            made_texts(arguments.pairs, 7) if arguments.texts is None else real_texts(arguments.texts, arguments.pairs)
        )
        table = write_table(Path(folder), texts)
        page = Path(folder) / "page.html"
        written = write(table, page)
        seen = measure_page(page)
    share = (written["size"] - 3e6) / written["texts"]
    print(f"{written['rows']:,} pairs, {written['texts'] / 1e6:,.0f} MB of texts, page {written['size'] / 1e6:,.1f} MB")
    bars = [
        ("writing, CPU s", written["cpu"], 30),
        ("memory of writing, MB", written["memory"], 600),
        ("size less 3 MB, of the texts", share, 0.55),
        ("list usable, s", seen["ready"], 0.5),
        ("a pair, s", seen["pair"], 0.15),
        ("first search, s", seen["first"], 6),
        ("later search, s", seen["later"], 0.3),
        ("heap of page and threads, MB", seen["heap"], 500),
    ]
    for what, value, bar in bars:
        print(f"{what:<32}{value:>10.2f}   bar {bar:g}{'' if value <= bar else '   MISSED'}")
    print(f"{'texts of all lines there, s':<32}{seen['whole']:>10.2f}")
    print(f"{'whole file read, s':<32}{seen['parsed']:>10.2f}")
    sys.exit(any(value > bar for _, value, bar in bars))


if __name__ == "__main__":
    main()
