"""Datasets of a Hub that are compared and replayed by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from prefdata import audit, inspect, load
from prefdata.flow.from_table import pair
from prefdata.pairing import BestVsWorst, WPOHybridV2

ROWS = [
    {"prompt_id": f"p{n}", "prompt": f"Question {n}?", "index": i, "response": f"{i}" + "x" * (5 - i), "score": score}
    for n in range(3)
    for i, score in enumerate((2, 2, 1))
]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_revisions_of_a_dataset_and_a_folder_are_compared_by_name(hub, client, tmp_path):
    table = tmp_path / "table.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pair(table, BestVsWorst(), tmp_path / "one")
    pair(table, WPOHybridV2(), tmp_path / "two")
    first = hub.put("dataset", "alice/pairs", files(tmp_path / "one"))
    hub.put("dataset", "alice/pairs", files(tmp_path / "two"))
    result = client.run(f"""
from prefdata.inspection.diff import diff
now, before = "alice/pairs", "alice/pairs@{first}"
result = [
    diff(now, {str(tmp_path / "two")!r}).equal,
    diff(before, {str(tmp_path / "one")!r}).equal,
    diff(before, now).changed.get("chosen"),
    refused(lambda: diff("alice/nothing", now)),
]
""")
    assert result[:3] == [True, True, 3]
    assert result[3][0] == "InputError"


def test_rules_are_tried_on_a_published_table_and_not_on_pairs_alone(hub, client, tmp_path):
    table = tmp_path / "table.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    of_one = b"".join(table.read_bytes().splitlines(keepends=True)[:3])
    hub.put("dataset", "alice/answers", {"train.jsonl": table.read_bytes(), "test.jsonl": of_one})
    pair(table, BestVsWorst(), tmp_path / "pairs")
    hub.put("dataset", "alice/pairs", files(tmp_path / "pairs"))
    pair(table, BestVsWorst(), tmp_path / "all", with_candidates=True)
    hub.put("dataset", "alice/all", files(tmp_path / "all"))
    result = client.run("""
from prefdata import what_if
result = [
    what_if("alice/answers", "best_vs_worst,wpo_hybrid_v2")[1].differs["chosen"],
    what_if("hf:alice/answers", "best_vs_worst")[0].prompts,
    what_if("alice/answers", "best_vs_worst", split="test")[0].prompts,
    what_if("alice/all", "best_vs_worst")[0].prompts,
    refused(lambda: what_if("alice/pairs", "best_vs_worst")),
]
""")
    assert result[:4] == [1.0, 3, 1, 3]
    assert result[4][0] == "InputError"
    assert "holds no answers" in result[4][1]


def test_a_published_dataset_is_replayed_by_name(hub, client, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ["a", "b", "c"]
    rows = [
        {"prompt": f"{n}", "all_generated_responses": texts, "all_rm_scores": [1.0, 3.0, 2.0]}
        | {"chosen": "b", "rejected": "a"}
        for n in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    hub.put("dataset", "alice/snorkel", {"data/train_iteration_1-00000-of-00001.parquet": content})
    result = client.run("""
from prefdata.pairing import SnorkelPairRM
from prefdata.inspection.replay import replay
report = replay("alice/snorkel", SnorkelPairRM())
result = [report.pairs, report.share]
""")
    assert result == [4, 1.0]


@pytest.mark.parametrize("reader", [audit, inspect, load])
def test_a_dataset_that_moves_while_it_is_read_is_read_at_one_commit(near, monkeypatch, reader):
    def content(count: int) -> dict[str, bytes]:
        rows = [{"prompt": f"{n}", "chosen": "a", "rejected": "b"} for n in range(count)]
        return {"train.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}

    module = sys.modules["prefdata.inspection._files"]
    find_tables = module.find_tables

    def after_a_commit(*args, **options):
        near.hub.put("dataset", "alice/moving", content(3))
        return find_tables(*args, **options)

    near.hub.put("dataset", "alice/moving", content(2))
    monkeypatch.setattr(module, "find_tables", after_a_commit)
    read = reader("alice/moving")
    counts = {audit: lambda: read.pairs, inspect: lambda: read.pairs, load: lambda: len(read.pairs)}
    assert counts[reader]() == 2
