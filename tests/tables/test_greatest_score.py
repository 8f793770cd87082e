"""Scores so large that their differences would be infinite are no scores, and no file or output holds an infinity."""

from __future__ import annotations

import json
import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.records import MOST_SCORE, is_score
from prefdata.tables.cells import parse_score

MOST = sys.float_info.max


@pytest.mark.parametrize("number", [MOST, -MOST, 1.1e300, float("inf"), float("-inf"), float("nan"), 10**301])
def test_what_is_no_score(number):
    assert not is_score(number)
    assert parse_score(number) is None
    assert parse_score(str(number)) is None


@pytest.mark.parametrize("number", [0.0, -0.0, 5e-324, MOST_SCORE, -MOST_SCORE, 17])
def test_what_is_one(number):
    assert is_score(number)
    assert parse_score(number) == number


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_no_infinity_is_written_or_printed(prefdata, tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    scores = [1.7e308, -1.7e308, MOST_SCORE, -MOST_SCORE, 1.0]
    rows = [
        {"prompt": f"{prompt}?", "response": f"answer {n}", "score": score, "source": "s"}
        for prompt in range(3)
        for n, score in enumerate(scores)
    ]
    if ending == "jsonl":
        (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    said = prefdata("pair", f"t.{ending}", "--rule", "best_vs_worst", "--out", "o", "--with-candidates")
    assert said.code == 0, said.err
    pairs = pq.read_table(tmp_path / "o/data/train-00000-of-00001.parquet").to_pylist()
    assert {pair["score_margin"] for pair in pairs} == {2 * MOST_SCORE}
    dropped = pq.read_table(tmp_path / "o/drops_candidates.parquet").to_pylist()
    assert [drop["reason"] for drop in dropped] == ["unscored"] * 6
    assert {drop["detail"] for drop in dropped} == {"not_finite"}
    for command in (
        ["inspect", "o", "--json"],
        ["verify", "o", "--json"],
        ["what-if", "o", "--rules", "best_vs_worst", "--json"],
    ):
        said = prefdata(*command)
        json.loads(said.out, parse_constant=pytest.fail)
    for path in (tmp_path / "o").rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
    assert not re.search(r"\binf\b|Infinity", (tmp_path / "o/README.md").read_text())
