"""The first prompts of a table: all their rows, wherever they are, found by what their key is made of."""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.tables import first_prompts
from prefdata.tables.first_prompts import FirstPrompts
from prefdata.tables.scored_table import ScoredTableFile
from prefdata.tables.whole_table import read_whole


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 7, 50])
def test_all_rows_of_the_first_prompts_and_no_others(tmp_path, monkeypatch, ending, with_ids, limit):
    rows = [
        {"prompt": f"p{n % 9}", "model": "m", "response": f"answer {n}", "score": n, "finish_reason": "stop"}
        | ({"prompt_id": f"id{n % 9}"} if with_ids else {})
        for n in range(60)
    ]
    random.Random(limit).shuffle(rows)
    path = tmp_path / f"t.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    asked = []
    frames = ScoredTableFile.frames

    def watched(table, n_bytes, *roles, **options):
        asked.append(roles)
        return frames(table, n_bytes, *roles, **options)

    monkeypatch.setattr(ScoredTableFile, "frames", watched)
    monkeypatch.setattr(first_prompts, "_BYTES", 300)
    first = FirstPrompts(path, None, limit)
    assert asked == [(("prompt_id", "prompt"),)]
    kept = list(dict.fromkeys(row["prompt"] for row in rows))[:limit]
    found = read_whole(first).candidates.sort("score")
    assert found["response"].to_list() == [f"answer {n}" for n in range(60) if f"p{n % 9}" in kept]
    assert set(found["model"]) == {"m"}
    numbers = [at for frame in first.frames(300) for at in frame["at"]]
    assert numbers == list(range(found.height))
