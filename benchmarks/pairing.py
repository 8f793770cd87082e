"""Pairs from Parquet to Parquet by several designs on the same made-up tables, side by side in one run.

    python benchmarks/pairing.py                        # 60,000 prompts, every design, 3 rounds
    python benchmarks/pairing.py --prompts 600000 --rounds 1 --only limit,ours

Each design runs in a process of its own; rounds are interleaved. CPU seconds are those of the work, imports left out;
they and wall seconds are the least of the rounds, since whatever else the machine does only adds to them. Memory is the
peak of anonymous pages (RssAnon), sampled. `limit` decodes every input column once and encodes prefdata's output once,
with the same codec. All designs are the WPO hybrid-v2 rule, so all must give the same pairs.

Tables of plain prompts hold texts. Tables of chat prompts hold the same prompts as lists of messages, of which 15 %
have a system turn or several turns. `ours on one core` runs on one processor, for its wall time against that of `ours`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PER_PROMPT = 6
SOURCES = [*["policy"] * 5, "teacher"]
INDEXES = [0, 1, 2, 3, 4, 0]


# The tables.


def words(rng: np.random.Generator, n_words: int = 4_000_000) -> str:
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    weight = 1 / np.arange(1, 27) ** 0.6
    vocabulary = ["".join(rng.choice(letters, n, p=weight / weight.sum())) for n in rng.integers(2, 11, 20_000)]
    rank = 1 / np.arange(1, 20_001)
    return " ".join(map(vocabulary.__getitem__, rng.choice(20_000, n_words, p=rank / rank.sum()).tolist()))


def pieces(prompts: int, step: int = 2_000):
    rng = np.random.default_rng(7)
    pool = words(rng)
    last = len(pool) - 20_000
    for start in range(0, prompts, step):
        n = min(step, prompts - start)
        lengths = np.clip(rng.lognormal(np.log(1_000), 0.6, (n, PER_PROMPT)), 20, 12_000).astype(int)
        offsets = rng.integers(0, last, (n, PER_PROMPT))
        scores = np.round(np.clip(rng.normal(7, 1.5, (n, PER_PROMPT)), 0, 10) * 2) / 2
        repeated, equal = rng.random(n) < 0.05, rng.random(n) < 0.01
        for column in (offsets, lengths, scores):
            column[repeated, 1] = column[repeated, 0]
        scores[equal] = scores[equal][:, :1]
        spans = zip(rng.integers(0, last, n).tolist(), rng.lognormal(np.log(550), 0.7, n).astype(int), strict=True)
        asked = [f"{start + number}: {pool[at : at + 20 + size]}" for number, (at, size) in enumerate(spans)]
        texts = [pool[at : at + size] for at, size in zip(offsets.ravel().tolist(), lengths.ravel(), strict=True)]
        yield asked, texts, scores


def long_table(asked, texts, scores) -> pa.Table:
    return pa.table(
        {
            "prompt": pa.array(asked).take(pa.array(np.repeat(np.arange(len(asked)), PER_PROMPT))),
            "response": texts,
            "score": scores.ravel(),
            "source": SOURCES * len(asked),
            "index": INDEXES * len(asked),
        }
    )


def conversations(asked: list[str]) -> list[list[dict[str, str]]]:
    """The prompts as messages: one of 20 with several turns, two with a system turn."""
    found = []
    for text in asked:
        turn = {"role": "user", "content": text}
        number = int(text.partition(":")[0]) % 20
        if number == 0:
            half = len(text) // 2
            found.append(
                [
                    {"role": "user", "content": text[:half]},
                    {"role": "assistant", "content": "Go on."},
                    {"role": "user", "content": text[half:]},
                ]
            )
        else:
            found.append([{"role": "system", "content": "Be brief and exact."}, turn] if number < 3 else [turn])
    return found


def as_chat(table: pa.Table, asked: list[str]) -> pa.Table:
    """The table with its prompts as lists of messages."""
    prompts = table["prompt"].combine_chunks()
    messages = pa.array(conversations(asked), pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
    rows = pa.compute.index_in(prompts, value_set=pa.array(asked))
    return table.set_column(table.column_names.index("prompt"), "prompt", messages.take(rows))


def wide_table(asked, texts, scores) -> pa.Table:
    offsets = pa.array(np.arange(0, len(texts) + 1, PER_PROMPT, dtype=np.int32))
    lists = (pa.ListArray.from_arrays(offsets, pa.array(values)) for values in (texts, scores.ravel()))
    return pa.table(dict(zip(("prompt", "all_generated_responses", "all_rm_scores"), (asked, *lists), strict=True)))


def write_tables(folder: Path, prompts: int, layouts: list[str], *, chat: bool = False) -> dict[str, Path]:  # noqa: C901 - one pass, three layouts
    """Clustered, wide, and shuffled: rows in random order over the whole table."""
    paths = {layout: folder / f"{layout}.parquet" for layout in layouts}
    writers: dict[str, pq.ParquetWriter] = {}

    def write(layout: str, table: pa.Table) -> None:
        if layout not in writers:
            options = {"compression": "zstd", "compression_level": 3}
            writers[layout] = pq.ParquetWriter(paths[layout], table.schema, **options)
        writers[layout].write_table(table)

    parts = folder / "parts"
    parts.mkdir()
    n_parts = max(1, prompts // 20_000)
    rng = np.random.default_rng(8)
    files = [parts / f"{number}.arrow" for number in range(n_parts)]
    streams: list = [None] * n_parts
    for asked, texts, scores in pieces(prompts):
        table = long_table(asked, texts, scores)
        if chat:
            table = as_chat(table, asked)
        if "clustered" in paths:
            write("clustered", table)
        if "wide" in paths:
            wide = wide_table(asked, texts, scores)
            write("wide", as_chat(wide, asked) if chat else wide)
        if "shuffled" in paths:
            of = rng.integers(0, n_parts, table.num_rows)
            for number in range(n_parts):
                if streams[number] is None:
                    streams[number] = pa.ipc.new_stream(str(files[number]), table.schema)
                streams[number].write_table(table.filter(pa.array(of == number)))
    if "shuffled" in paths:
        for stream, file in zip(streams, files, strict=True):
            stream.close()
            with pa.ipc.open_stream(str(file)) as reader:
                part = reader.read_all()
            order = rng.permutation(part.num_rows)
            for start in range(0, len(order), 12_000):
                write("shuffled", part.take(pa.array(order[start : start + 12_000])).combine_chunks())
            file.unlink()
    for writer in writers.values():
        writer.close()
    shutil.rmtree(parts)
    return paths


# The designs. Each gets the table and a place for its output, and returns the Parquet files with its pairs.


def limit(table: Path, out: Path, reference: Path | None) -> list[Path]:
    from prefdata.tables.schemas import parquet_writer

    for _ in pq.ParquetFile(table, pre_buffer=False).iter_batches(6_000, use_threads=False):
        pass
    if reference is None:
        return []
    work = 0.0
    for folder in ("data", "candidates"):
        files = sorted((reference / folder).glob("*.parquet"))
        if files:
            work += encoded(files, out / f"{folder}.parquet", parquet_writer)
    LIMIT_WORK.append(work)
    return []


def encoded(files: list[Path], out: Path, parquet_writer) -> float:
    """CPU seconds of encoding the rows of some files; reading them back is no part of it."""
    work, writer = 0.0, None
    for file in files:
        for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(10_000, use_threads=False):
            began = time.process_time()
            rows = pa.Table.from_batches([batch])
            writer = writer or parquet_writer(out, rows.schema)
            for start in range(0, rows.num_rows, 1_000):
                writer.write_table(rows.slice(start, 1_000))
            work += time.process_time() - began
    writer.close()
    return work


LIMIT_WORK: list[float] = []


def ours(table: Path, out: Path, reference: Path | None) -> list[Path]:
    from prefdata import pair

    pair(table, "wpo_hybrid_v2", out / "dataset")
    return sorted((out / "dataset" / "data").glob("*.parquet"))


def ours_with_answers(table: Path, out: Path, reference: Path | None) -> list[Path]:
    from prefdata import pair

    pair(table, "wpo_hybrid_v2", out / "dataset", with_candidates=True)
    return sorted((out / "dataset" / "data").glob("*.parquet"))


def ours_on_one_core(table: Path, out: Path, reference: Path | None) -> list[Path]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return ours(table, out, reference)


def best_and_worst(rows) -> tuple | None:
    """The rule in plain Python over (score, response) in total order."""
    top = min(rows, key=lambda row: (-row[0], len(row[1])))
    rest = [row for row in rows if row[0] < top[0] and row[1] != top[1]]
    if not rest:
        return None
    return top, min(rest, key=lambda row: (row[0], abs(len(row[1]) - len(top[1]))))


def as_row(prompt: str, pair: tuple) -> dict:
    (score_chosen, chosen), (score_rejected, rejected) = pair
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "score_chosen": score_chosen,
        "score_rejected": score_rejected,
    }


def datasets_map(table: Path, out: Path, reference: Path | None) -> list[Path]:
    """As the published scripts: one row a prompt with its lists, `filter`, then `map` row by row, then Parquet."""
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset("parquet", data_files=str(table), cache_dir=str(out / "cache"), split="train")

    def scored(row: dict) -> list:
        return list(zip(row["all_rm_scores"], row["all_generated_responses"], strict=True))

    kept = rows.filter(lambda row: best_and_worst(scored(row)) is not None)
    pairs = kept.map(lambda row: as_row(row["prompt"], best_and_worst(scored(row))), remove_columns=rows.column_names)
    pairs.to_parquet(out / "pairs.parquet")
    return [out / "pairs.parquet"]


def plain_stream(table: Path, out: Path, reference: Path | None) -> list[Path]:
    from itertools import groupby

    writer, waiting = None, []

    def flush() -> None:
        nonlocal writer, waiting
        part = pa.Table.from_pylist(waiting)
        writer = writer or pq.ParquetWriter(out / "pairs.parquet", part.schema, compression="zstd", compression_level=3)
        writer.write_table(part)
        waiting = []

    batches = pq.ParquetFile(table, pre_buffer=False).iter_batches(6_000, use_threads=False)
    rows = (row for batch in batches for row in batch.to_pylist())
    for prompt, group in groupby(rows, key=lambda row: row["prompt"]):
        pair = best_and_worst([(row["score"], row["response"]) for row in group])
        if pair:
            waiting.append(as_row(prompt, pair))
        if len(waiting) == 1_000:
            flush()
    if waiting:
        flush()
    writer.close()
    return [out / "pairs.parquet"]


def pandas_vectorised(table: Path, out: Path, reference: Path | None) -> list[Path]:
    import pandas as pd

    rows = pd.read_parquet(table)
    rows["length"] = rows["response"].str.len()
    rows["place"] = np.arange(len(rows))
    order = ["prompt", "score", "length", "place"]
    top = rows.sort_values(order, ascending=[True, False, True, True]).drop_duplicates("prompt").set_index("prompt")
    rest = rows.join(top[["score", "length", "response"]].add_suffix("_chosen"), on="prompt")
    rest = rest[(rest["score"] < rest["score_chosen"]) & (rest["response"] != rest["response_chosen"])]
    rest = rest.assign(apart=(rest["length"] - rest["length_chosen"]).abs())
    low = rest.sort_values(["prompt", "score", "apart", "place"]).drop_duplicates("prompt").set_index("prompt")
    pairs = top.join(low[["response", "score"]], how="inner", rsuffix="_low")
    found = [
        as_row(prompt, ((score, text), (score_low, text_low)))
        for prompt, text, score, text_low, score_low in zip(
            pairs.index, pairs["response"], pairs["score"], pairs["response_low"], pairs["score_low"], strict=True
        )
    ]
    pd.DataFrame(found).to_parquet(out / "pairs.parquet", compression="zstd", compression_level=3)
    return [out / "pairs.parquet"]


def duckdb_sql(table: Path, out: Path, reference: Path | None) -> list[Path]:
    import duckdb

    duckdb.sql(
        f"""
        COPY (
          WITH rows AS (SELECT *, length(response) AS n, file_row_number AS place FROM
                          read_parquet('{table}', file_row_number = true)),
               top AS (SELECT prompt, arg_min(place, (-score, n, place)) AS place FROM rows GROUP BY prompt),
               best AS (SELECT rows.* FROM rows JOIN top USING (place)),
               low AS (SELECT rows.prompt, arg_min(rows.place, (rows.score, abs(rows.n - best.n), rows.place)) AS place
                       FROM rows JOIN best USING (prompt)
                       WHERE rows.score < best.score AND rows.response <> best.response GROUP BY rows.prompt)
          SELECT [{{'role': 'user', 'content': best.prompt}}] AS prompt,
                 [{{'role': 'assistant', 'content': best.response}}] AS chosen,
                 [{{'role': 'assistant', 'content': rows.response}}] AS rejected,
                 best.score AS score_chosen, rows.score AS score_rejected
          FROM low JOIN rows USING (place) JOIN best ON best.prompt = low.prompt ORDER BY best.place
        ) TO '{out / "pairs.parquet"}' (FORMAT parquet, CODEC 'zstd', COMPRESSION_LEVEL 3)
        """
    )
    return [out / "pairs.parquet"]


def distilabel_step(table: Path, out: Path, reference: Path | None) -> list[Path]:
    """Its step called on batches, in one process; a pipeline of it also sends every batch through queues."""
    from distilabel.steps import FormatTextGenerationDPO

    step, writer = FormatTextGenerationDPO(), None
    step.load()
    for batch in pq.ParquetFile(table, pre_buffer=False).iter_batches(1_000, use_threads=False):
        rows = [
            {"instruction": prompt, "generations": texts, "ratings": scores}
            for prompt, texts, scores in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        ]
        found = [
            as_row(
                row["instruction"], tuple((row[f"{s}_rating"], row[s][-1]["content"]) for s in ("chosen", "rejected"))
            )
            for done in step.process(rows)
            for row in done
        ]
        part = pa.Table.from_pylist(found)
        writer = writer or pq.ParquetWriter(out / "pairs.parquet", part.schema, compression="zstd", compression_level=3)
        writer.write_table(part)
    writer.close()
    return [out / "pairs.parquet"]


def distilabel_pipeline(table: Path, out: Path, reference: Path | None) -> list[Path]:
    """The whole of it: a pipeline that loads, formats and keeps columns, each step a process of its own."""
    from distilabel.pipeline import Pipeline
    from distilabel.steps import FormatTextGenerationDPO, KeepColumns, LoadDataFromFileSystem

    names = {"instruction": "prompt", "generations": "all_generated_responses", "ratings": "all_rm_scores"}
    with Pipeline("pairs", cache_dir=out / "cache") as pipeline:
        load = LoadDataFromFileSystem(data_files=str(table), filetype="parquet", batch_size=1_000)
        pairs = FormatTextGenerationDPO(input_mappings=names, input_batch_size=1_000)
        kept = ["prompt", "chosen", "rejected", "chosen_rating", "rejected_rating"]
        _ = load >> pairs >> KeepColumns(columns=kept, input_batch_size=1_000)
    found = pipeline.run(use_cache=False)["default"]["train"]
    renamed = {"chosen_rating": "score_chosen", "rejected_rating": "score_rejected"}
    found.rename_columns(renamed).to_parquet(out / "pairs.parquet")
    return [out / "pairs.parquet"]


LAYOUTS = ("clustered", "shuffled", "wide", "clustered chat", "shuffled chat", "wide chat")
DESIGNS = {
    "limit": (limit, LAYOUTS, None),
    "ours": (ours, LAYOUTS, None),
    "ours on one core": (ours_on_one_core, LAYOUTS, None),
    "limit with candidates": (limit, ("clustered", "clustered chat"), None),
    "ours --with-candidates": (ours_with_answers, ("clustered", "clustered chat"), None),
    "datasets.map": (datasets_map, ("wide",), "datasets"),
    "plain Python": (plain_stream, ("clustered",), None),
    "pandas": (pandas_vectorised, ("clustered",), "pandas"),
    "DuckDB": (duckdb_sql, ("clustered",), "duckdb"),
    "distilabel step": (distilabel_step, ("wide",), "distilabel"),
    "distilabel pipeline": (distilabel_pipeline, ("wide",), "distilabel"),
}


# One process a design.


def digest(files: list[Path]) -> str | None:
    """Order-free: over prompt, chosen, rejected and scores of every pair."""
    if not files:
        return None
    total, count = 0, 0
    names = ["prompt", "chosen", "rejected", "score_chosen", "score_rejected"]
    for file in files:
        for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(2_000, columns=names, use_threads=False):
            for row in batch.to_pylist():
                count += 1
                total += int(hashlib.sha256(repr([row[name] for name in names]).encode()).hexdigest(), 16)
    return f"{count}:{total % 2**256:064x}"


def anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def cpu_seconds() -> float:
    """Of this process and of all its children that have ended."""
    used = os.times()
    return time.process_time() + used.children_user + used.children_system


def child(design: str, table: Path, out: Path, reference: str) -> None:
    function = DESIGNS[design][0]
    # Imports are no part of the work; pyarrow imports pandas at the first array that it is given.
    importlib.import_module("pyarrow.acero")
    if importlib.util.find_spec("pandas"):
        importlib.import_module("pandas")
    if design.startswith(("ours", "limit")):
        importlib.import_module("prefdata.flow.from_table")
    elif DESIGNS[design][2]:
        importlib.import_module(DESIGNS[design][2])
    peak, running = 0, True

    def watch() -> None:
        nonlocal peak
        while running:
            peak = max(peak, anonymous_bytes())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, wall = cpu_seconds(), time.perf_counter()
    try:
        files = function(table, out, Path(reference) if reference else None)
        cpu, wall = cpu_seconds() - began, time.perf_counter() - wall
    finally:
        running = False
        watcher.join()
    if LIMIT_WORK:
        cpu = read_only(table) + LIMIT_WORK[0]
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak, "digest": digest(files)}))


def read_only(table: Path) -> float:
    began = time.process_time()
    for _ in pq.ParquetFile(table, pre_buffer=False).iter_batches(6_000, use_threads=False):
        pass
    return time.process_time() - began


def measured(design: str, table: Path, out: Path, reference: Path | None) -> dict:
    out.mkdir()
    arguments = [sys.executable, __file__, "--child", design, str(table), str(out), str(reference or "")]
    # For every design what `prefdata pair` sets for itself.
    environment = {
        **os.environ,
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "jemalloc",
    }
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def versions() -> str:
    names = ("prefdata", "pyarrow", "polars", "numpy", "datasets", "pandas", "duckdb", "distilabel")
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join([f"Python {platform.python_version()}", *found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(DESIGNS))
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    parser.add_argument("--child", nargs=4, metavar=("DESIGN", "TABLE", "OUT", "REFERENCE"))
    options = parser.parse_args()
    if options.child:
        design, table, out, reference = options.child
        child(design, Path(table), Path(out), reference)
        return
    asked = options.only.split(",")
    layouts = options.layouts.split(",")
    print(f"{os.cpu_count()} cores, {platform.machine()}; {versions()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = {}
        for chat in (False, True):
            forms = [layout.partition(" ")[0] for layout in layouts if layout.endswith(" chat") == chat]
            if forms:
                place = folder / ("chat" if chat else "plain")
                place.mkdir()
                written = write_tables(place, options.prompts, forms, chat=chat)
                tables |= {f"{form} chat" if chat else form: path for form, path in written.items()}
        sizes = ", ".join(f"{layout} {path.stat().st_size / 1e6:,.0f} MB" for layout, path in tables.items())
        print(f"{options.prompts:,} prompts x {PER_PROMPT}: {sizes}\n")
        references = {}
        for layout, table in tables.items():
            measured("ours", table, folder / f"reference-{layout}", None)
            references[layout] = folder / f"reference-{layout}" / "dataset"
            if layout in DESIGNS["limit with candidates"][1] and "limit with candidates" in asked:
                measured("ours --with-candidates", table, folder / f"answers-{layout}", None)
                references["with candidates", layout] = folder / f"answers-{layout}" / "dataset"
        runs: dict[tuple[str, str], list[dict]] = {}
        for number in range(options.rounds):
            # All designs of a table one after the other, since a machine's speed changes within minutes.
            for layout, table in tables.items():
                for design in asked:
                    function, of, needs = DESIGNS[design]
                    if layout in of and function and (not needs or importlib.util.find_spec(needs)):
                        out = folder / f"out{number}"
                        kind = ("with candidates", layout) if design.startswith("limit with") else layout
                        run = measured(design, table, out, references[kind])
                        runs.setdefault((design, layout), []).append(run)
                        shutil.rmtree(out)
        report(runs, asked)


def report(runs: dict, asked: list[str]) -> None:
    print(
        "| design | input | CPU s | x limit | wall s | peak anonymous GB | the same pairs |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    )
    good = {key: [run for run in found if "cpu" in run] for key, found in runs.items()}
    least = {key: min(run["cpu"] for run in found) for key, found in good.items() if found}
    walls = {key: min(run["wall"] for run in found) for key, found in good.items() if found}
    digests = {key: {run["digest"] for run in found} for key, found in good.items() if not key[0].startswith("limit")}
    # Shuffled rows and wide lists hold the same candidates, so one digest is expected of all tables of one kind.
    expected = {}
    for chat in (False, True):
        ours = sorted(key for key in digests if key[0].startswith("ours") and key[1].endswith(" chat") == chat)
        expected[chat] = next(iter(digests[ours[0]])) if ours else None
    for design in asked:
        if not any(key[0] == design for key in runs):
            print(f"| {design} | | not installed | | | | |")
    for (design, layout), found in sorted(runs.items(), key=lambda run: asked.index(run[0][0])):
        if (design, layout) not in least:
            print(f"| {design} | {layout} | failed: {found[0]['failed'][:80]} | | | | |")
            continue
        base = least.get(("limit with candidates" if design.endswith("candidates") else "limit", layout))
        ratio = f"{least[design, layout] / base:.2f}" if base else ""
        peak = max(run["peak"] for run in good[design, layout]) / 1e9
        one = expected[layout.endswith(" chat")]
        same = "" if design.startswith("limit") or one is None else "yes" if digests[design, layout] == {one} else "NO"
        seconds = f"{least[design, layout]:.2f} | {ratio} | {walls[design, layout]:.2f}"
        print(f"| {design} | {layout} | {seconds} | {peak:.2f} | {same} |")


if __name__ == "__main__":
    main()
