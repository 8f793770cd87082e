"""Prints the plans of docs/reproduce.md where the Hub can't be reached.

::

    python benchmarks/reproduce_plans.py --texts ultrafeedback.jsonl.gz

A loopback Hub serves the recipes' datasets, with the published numbers of rows. The texts are those of a sample of
UltraFeedback (rows of prompt, chosen, rejected), each with a number behind it; of the models there are only names. So
requests and pairs are the published ones, and tokens are those of the sample, estimated from bytes.
"""

from __future__ import annotations

import argparse
import gzip
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import pyarrow as pa
import pyarrow.parquet as pq
from minihub import MiniHub

ROOT = Path(__file__).resolve().parents[1]
UCLA = "UCLA-AGI/data-mistral-7b-instruct-sppo-iter{}"
ROWS = {UCLA.format(1): 19766, UCLA.format(2): 19958, UCLA.format(3): 19996}
"""Those of Snorkel's splits, with which the sizes of these datasets agree."""
BINARIZED, TRAIN_ROWS = "HuggingFaceH4/ultrafeedback_binarized", 61135
MODELS = ("meta-llama/Meta-Llama-3-8B-Instruct", "general-preference/GPM-Gemma-2B")
CONFIG = json.dumps({"model_type": "llama", "max_position_embeddings": 8192}).encode()
TOKENIZER = json.dumps({"chat_template": "{{ messages }}"}).encode()
CARD = b"""---
configs:
- config_name: default
  data_files:
  - {split: train_prefs, path: data/train_prefs.parquet}
---
"""
SCORES = {"score_chosen": 8.0, "score_rejected": 5.0}
SPEED = 2500
COPY = """
from prefdata import load_recipe

recipe = load_recipe("{name}")
policy, *others = recipe.candidates
generator = policy.generator.replace(tokens_per_second={speed})
recipe = recipe.replace(candidates=(policy.replace(generator=generator), *others))
"""


def parquet(rows: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def numbered(texts: list[dict[str, str]], count: int, word: str) -> list[dict[str, object]]:
    """As many rows as asked for, no two with one prompt."""
    rows = []
    for number, row in zip(range(count), itertools.cycle(texts), strict=False):
        prompt = f"{row['prompt']}\n({word} {number})"
        ask = [{"role": "user", "content": prompt}]
        sides = {side: [*ask, {"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
        rows.append({"prompt": prompt, "prompt_id": f"{word}{number}", **sides, **SCORES})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    given = parser.parse_args()
    content = given.texts.read_bytes()
    lines = (gzip.decompress(content) if given.texts.suffix == ".gz" else content).decode().splitlines()
    texts = [json.loads(line) for line in lines]
    with tempfile.TemporaryDirectory() as name:
        hub = MiniHub(Path(name) / "hub").start()
        for repo, count in ROWS.items():
            rows = [{"prompt": row["prompt"]} for row in numbered(texts, count, repo[-5:])]
            hub.put("dataset", repo, {"data/train-00000-of-00001.parquet": parquet(rows)})
        rows = numbered(texts, TRAIN_ROWS, "row")
        hub.put("dataset", BINARIZED, {"README.md": CARD, "data/train_prefs.parquet": parquet(rows)})
        for model in MODELS:
            hub.put("model", model, {"config.json": CONFIG, "tokenizer_config.json": TOKENIZER})
        try:
            for words in (("check", "wpo_hybrid_v2"), ("run", "gpo_gpm_llama3", "--plan")):
                show(Path(name), hub.url, *words)
        finally:
            hub.stop()


def show(work: Path, address: str, verb: str, recipe: str, *more: str) -> None:
    """Runs a command on a copy of a shipped recipe with a speed, and prints what it prints."""
    (work / f"{recipe}.py").write_text(COPY.format(name=recipe, speed=SPEED))
    variables = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(work / "home"), "PYTHONPATH": str(ROOT)}
    variables |= {"OPENAI_API_KEY": "not-asked", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-m", "prefdata", verb, f"{recipe}.py", *more]
    done = subprocess.run(command, cwd=work, env=variables, capture_output=True, text=True)
    print(f"$ prefdata {verb} {recipe}.py {' '.join(more)}\n{done.stdout}{done.stderr}", flush=True)


if __name__ == "__main__":
    main()
