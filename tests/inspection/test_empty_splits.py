"""A split, or a file of one, without rows is no rows; a dataset without any is refused."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata import audit, write_page

ROW = {"prompt": "q", "chosen": "aa", "rejected": "b", "metadata": {"score_chosen": 2.0, "score_rejected": 1.0}}
TYPES = pa.Table.from_pylist([ROW]).schema


def parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows, schema=TYPES), path)


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) or "\n")


def csv(path, rows):
    path.write_text("prompt,chosen,rejected,score_chosen,score_rejected\n" + "q,aa,b,2,1\n" * len(rows))


FORMATS = {"parquet": parquet, "jsonl": jsonl, "csv": csv}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("empty", ["train", "test"])
def test_an_empty_split_counts_as_no_rows(tmp_path, prefdata, suffix, empty):
    folder = tmp_path / "set"
    folder.mkdir()
    for split in ("train", "test"):
        FORMATS[suffix](folder / f"{split}.{suffix}", [] if split == empty else [ROW, ROW])
    report = audit(folder)
    assert report.splits == {"train": 2, "test": 2} | {empty: 0}
    assert (report.pairs, report.scored, report.findings["prompts_in_several_splits"]) == (2, 2, 0)
    listed = json.loads(prefdata("inspect", folder, "--sort", "margin", "--json").out)
    assert [row["score_margin"] for row in listed["rows"]] == [1, 1]
    assert prefdata("inspect", folder).code == 0
    assert write_page(folder, tmp_path / "page.html").rows == 2


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("first", [True, False])
def test_an_empty_file_of_a_split_is_no_rows(tmp_path, suffix, first):
    for n in (0, 1):
        FORMATS[suffix](tmp_path / f"train-{n:05d}-of-00002.{suffix}", [] if n == 1 - first else [ROW])
    assert audit(tmp_path).splits == {"train": 1}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("files", [("train",), ("train", "test")])
def test_a_dataset_without_rows_is_refused(tmp_path, prefdata, suffix, files):
    for split in files:
        FORMATS[suffix](tmp_path / f"{split}.{suffix}", [])
    said = prefdata("audit", tmp_path)
    assert (said.code, said.out) == (2, "")
    assert "no rows" in said.err


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_empty_table_is_refused(tmp_path, prefdata, suffix):
    FORMATS[suffix](tmp_path / f"t.{suffix}", [])
    said = prefdata("audit", tmp_path / f"t.{suffix}")
    assert (said.code, said.out, "no rows" in said.err) == (2, "", True)


def test_a_file_that_is_not_whole_is_no_empty_one(tmp_path, prefdata):
    jsonl(tmp_path / "train.jsonl", [ROW])
    (tmp_path / "test.jsonl").write_text('{"prompt": ')
    said = prefdata("audit", tmp_path)
    assert (said.code, "no rows" in said.err) == (2, False)
