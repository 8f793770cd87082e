"""Real tables beside the checkout: each holds several scored answers a prompt, pairs, and loses nothing.

They are no part of the repository. `PREFDATA_REAL_TABLES` names their folder; without it, the folders `*/data` beside
the checkout are looked at.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import polars as pl
import pytest

GIVEN = os.environ.get("PREFDATA_REAL_TABLES")
PLACES = [Path(GIVEN)] if GIVEN else sorted(Path(__file__).parents[3].glob("*/data"))
TABLES = {
    "candidates_alpacaeval/candidates.parquet": (),
    "candidates_alpacaeval_v1/candidates.parquet": (),
    "candidates_wildbench/candidates.parquet": (),
    "candidates_wildbench/candidates.parquet ": ("--columns", "score=score_gpt4_turbo"),
    "bon_tulu2_13b/candidates.parquet": ("--columns", "index=sample_id"),
    "qwen_math_rm8/math_cot_rm8.jsonl.gz": ("--columns", "prompt=query,response=response,score=pred_score"),
}


def found(table):
    for place in PLACES:
        if (place / table).exists():
            return place / table
    pytest.skip(f"the real table {table} is not beside this checkout; PREFDATA_REAL_TABLES names another place")


@pytest.mark.parametrize("table", TABLES)
def test_a_real_table_loses_nothing_and_its_row_order_changes_no_byte(pair, tmp_path, table):
    path = found(table.strip())
    options = TABLES[table]
    paired = pair(path, *options)
    if path.suffix == ".parquet":
        frame = pl.read_parquet(path)
        assert paired.said["prompts"] == frame["prompt_id"].n_unique()
        assert paired.said["candidates"] == frame.height
        shuffled = tmp_path / path.name
        frame.sample(fraction=1, shuffle=True, seed=1).write_parquet(shuffled)
    else:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        assert paired.said["prompts"] == len(lines)
        shuffled = tmp_path / path.name
        shuffled.write_bytes(gzip.compress("\n".join(reversed(lines)).encode()))
    assert paired.said["pairs"] > 0
    assert pair(shuffled, *options).files == paired.files


def test_picks_of_a_real_table_are_the_highest_and_lowest_scores(pair):
    path = found("candidates_alpacaeval/candidates.parquet")
    usable = pl.read_parquet(path).filter(
        pl.col("score").is_finite() & pl.col("response").str.strip_chars().str.len_chars().gt(0)
    )
    bounds = usable.group_by("prompt_id").agg(low=pl.col("score").min(), high=pl.col("score").max())
    known = {row["prompt_id"]: row for row in bounds.to_dicts()}
    pairs = pair(path).pairs
    assert len(pairs) > 700
    for row in pairs:
        assert row["score_chosen"] == known[row["prompt_id"]]["high"]
        assert row["score_rejected"] == known[row["prompt_id"]]["low"]
