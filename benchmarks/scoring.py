"""Compares a reward model in a whole prefdata build with plain loops over the same texts, in one run.

    python benchmarks/scoring.py                       # 40 prompts x 5 answers, one round
    python benchmarks/scoring.py --prompts 80 --rounds 3

The model is the embedded SmolLM2-135M with a random head, in float32; the texts are made up of words of its vocabulary,
with lengths as answers of chat models have them (lognormal). `naive` scores batches in input order, `sorted` tokenises
everything, sorts by length and scores in one process; both pad to the longest row of a batch, within the same budget of
tokens a batch as prefdata. `prefdata` is `prefdata.build`: prompts and answers from files, scores, pairs and dataset.

Each design runs in processes of its own and rounds are interleaved. CPU seconds are those of the whole process tree,
start and imports included. All designs must give the same scores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ANSWERS = 5
BATCH_TOKENS = 4096
TOLERANCE = 1e-4


# The texts, and the model that scores them.


def write_texts(folder: Path, prompts: int) -> None:
    """Writes prompts of about 100 tokens, and five answers to each, of about 230 tokens (30 to 1,000)."""
    draw = random.Random(11)
    words = [
        "".join(draw.choice("bcdfghlmnprstvw") + draw.choice("aeiou") for _ in range(draw.choice((1, 1, 2, 2, 3))))
        for _ in range(3000)
    ]

    def text(median: float, spread: float, least: int, most: int) -> str:
        n = min(most, max(least, round(draw.lognormvariate(math.log(median), spread))))
        return " ".join(draw.choices(words, k=n)).capitalize() + "."

    with (folder / "prompts.jsonl").open("w") as prompts_file, (folder / "answers.jsonl").open("w") as answers_file:
        for number in range(prompts):
            name = f"p{number:05}"
            prompts_file.write(json.dumps({"id": name, "prompt": text(45, 0.7, 8, 300)}) + "\n")
            for index in range(ANSWERS):
                row = {"id": name, "index": index, "response": text(95, 0.65, 12, 420)}
                answers_file.write(json.dumps(row) + "\n")


def write_model(folder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from prefdata.models.embedded import embedded_folder

    source = embedded_folder("smollm2-135m-instruct")
    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype="float32")
    torch.nn.init.normal_(model.score.weight, std=0.05)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


# The designs. Each returns the scores by prompt and index.


def loop(folder: Path, *, by_length: bool) -> dict[str, float]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model", dtype="float32").eval()
    prompts = {row["id"]: row["prompt"] for row in map(json.loads, (folder / "prompts.jsonl").open())}
    rows = []
    for row in map(json.loads, (folder / "answers.jsonl").open()):
        turns = [{"role": "user", "content": prompts[row["id"]]}, {"role": "assistant", "content": row["response"]}]
        ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
        rows.append((f"{row['id']}/{row['index']}", ids))
    if by_length:
        rows.sort(key=lambda row: -len(row[1]))
    batches: list[list] = [[]]
    for row in rows:
        longest = max(len(ids) for _, ids in [*batches[-1], row])
        if batches[-1] and (len(batches[-1]) + 1) * longest > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(row)
    scores = {}
    for batch in batches:
        lengths = torch.tensor([len(ids) for _, ids in batch])
        width = int(lengths.max())
        padded = torch.tensor([ids + [0] * (width - len(ids)) for _, ids in batch])
        mask = (torch.arange(width) < lengths[:, None]).long()
        with torch.inference_mode():
            states = model.model(input_ids=padded, attention_mask=mask, use_cache=False).last_hidden_state
            values = model.score(states[torch.arange(len(batch)), lengths - 1])[:, 0].tolist()
        scores |= {key: value for (key, _), value in zip(batch, values, strict=True)}
    return scores


def prefdata_build(folder: Path) -> dict[str, float]:
    import polars as pl

    from prefdata import build
    from prefdata.recipe import Recipe

    recipe = Recipe.model_validate(
        {
            "name": "scoring",
            "prompts": {"kind": "file", "path": str(folder / "prompts.jsonl"), "prompt_id_column": "id"},
            "candidates": [
                {
                    "kind": "existing",
                    "name": "policy",
                    "path": str(folder / "answers.jsonl"),
                    "prompt_id_column": "id",
                    "index_column": "index",
                }
            ],
            "scores": {"kind": "reward_model", "model": str(folder / "model"), "batch_tokens": BATCH_TOKENS},
            "pairs": {"kind": "best_vs_worst"},
            "dataset": {"kind": "trl", "test_size": 3},
        }
    )
    with tempfile.TemporaryDirectory() as out:
        build(recipe, Path(out) / "build")
        files = [path for path in Path(out).rglob("*.parquet") if "score" in pl.read_parquet_schema(path)]
        tables = [pl.read_parquet(path) for path in files]
        scores = next(table for table in tables if {"prompt_id", "index", "score", "unscored"} <= set(table.columns))
        return {f"{row['prompt_id']}/{row['index']}": row["score"] for row in scores.iter_rows(named=True)}


DESIGNS = {
    "naive": lambda folder: loop(folder, by_length=False),
    "sorted": lambda folder: loop(folder, by_length=True),
    "prefdata": prefdata_build,
}


def measured(design: str, folder: Path) -> tuple[float, float, dict[str, float]]:
    """Runs a design; returns CPU seconds of the process tree, wall seconds, scores."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--child", design, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={
            "OMP_NUM_THREADS": "1",
            **os.environ,
            "OMP_WAIT_POLICY": "PASSIVE",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        },
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall, json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--child", nargs=2, metavar=("DESIGN", "FOLDER"))
    options = parser.parse_args()
    if options.child:
        print(json.dumps(DESIGNS[options.child[0]](Path(options.child[1]))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder, options.prompts)
        write_model(folder / "model")
        runs: dict[str, list[tuple[float, float]]] = {design: [] for design in DESIGNS}
        scores: dict[str, dict[str, float]] = {}
        for _ in range(options.rounds):
            for design in DESIGNS:
                cpu, wall, scores[design] = measured(design, folder)
                runs[design].append((cpu, wall))
    report(runs, scores, options.prompts * ANSWERS)


def report(runs: dict[str, list[tuple[float, float]]], scores: dict[str, dict[str, float]], n: int) -> None:
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; {n} texts, float32\n")
    print("| design | CPU s | wall s | texts a CPU s | x naive | x sorted | largest difference |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    other: list[str] = []
    rate = {design: n / statistics.median(cpu for cpu, _ in rounds) for design, rounds in runs.items()}
    for design, rounds in runs.items():
        difference = max(abs(scores[design][key] - value) for key, value in scores["sorted"].items())
        cpu, wall = (statistics.median(values) for values in zip(*rounds, strict=True))
        ratios = " | ".join(f"{rate[design] / rate[base]:.2f}" for base in ("naive", "sorted"))
        print(f"| {design} | {cpu:.1f} | {wall:.1f} | {rate[design]:.2f} | {ratios} | {difference:.1e} |")
        if scores[design].keys() != scores["sorted"].keys() or difference > TOLERANCE:
            other.append(design)
    if other:
        raise SystemExit(f"other scores than the sorted loop's: {', '.join(other)}")


if __name__ == "__main__":
    main()
