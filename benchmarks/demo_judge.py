"""Makes what `make demo-all` judges with, from a build on the embedded model: a baseline's outputs and a reward model.

::

    python benchmarks/demo_judge.py builds/demo builds/demo-judge

`baseline.json` has the teacher's answers to some prompts. `reward-model` is the embedded model with one linear head in
place of its own, fitted to the build's pairs: a chosen answer scores 1 more than a rejected one, as nearly as a ridge
regression on the difference of their last hidden states has it. It says next to nothing about other answers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import polars as pl
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from prefdata.models.embedded import embedded_folder

MODEL = "smollm2-135m-instruct"
TEACHER = "teacher"
RIDGE = 1.0
MOST_TOKENS = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--instructions", type=int, default=6)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    dataset = given.build / "dataset"
    write_baseline(dataset, given.out / "baseline.json", given.instructions)
    write_reward_model(pl.read_parquet(dataset / "data" / "train-*.parquet"), given.out / "reward-model")


def write_baseline(dataset: Path, path: Path, count: int) -> None:
    answers = pl.read_parquet(dataset / "candidates" / "*.parquet").filter(pl.col("source") == TEACHER)
    one_turn = answers.filter(pl.col("prompt").list.len() == 1, pl.col("response").is_not_null())
    rows = [
        {"instruction": row["prompt"][0]["content"], "output": row["response"], "generator": TEACHER, "dataset": "demo"}
        for row in one_turn.sort("prompt_id").head(count).iter_rows(named=True)
    ]
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")


def write_reward_model(pairs: pl.DataFrame, folder: Path) -> None:
    source = embedded_folder(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id

    @torch.no_grad()
    def last_state(messages: list[dict[str, str]]) -> torch.Tensor:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids[:, :MOST_TOKENS]
        return model.model(ids).last_hidden_state[0, -1]

    rows = list(pairs.select("prompt", "chosen", "rejected").iter_rows(named=True))
    differences = torch.stack(
        [last_state(row["prompt"] + row["chosen"]) - last_state(row["prompt"] + row["rejected"]) for row in rows]
    )
    gram = differences @ differences.T + RIDGE * torch.eye(len(rows))
    head = differences.T @ torch.linalg.solve(gram, torch.ones(len(rows)))
    with torch.no_grad():
        model.score.weight.copy_(head[None])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
