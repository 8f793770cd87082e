"""`audit` of single answers: a label is one of the known words, or missing, or one error; never a guess."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published import written

from prefdata import audit
from prefdata.errors import InputError

GOOD = [True, 1, 1.0, "true", "1", " Yes ", "desirable", "Good", "chosen"]
BAD = [False, 0, 0.0, "FALSE", "0", "no", "undesirable", "bad", "Rejected"]
MISSING = [None, float("nan"), "", " \n", []]
UNKNOWN = [*("positive", "thumbs_up", "2", "-1", "N/A", "null", "0.7"), 2, -1, 0.7, float("inf"), {"x": 1}, [True], [1]]


def row(label, text="x", prompt="q"):
    return {"prompt": prompt, "completion": text, "label": label}


def sides(report):
    return [(each["chosen"], each["rejected"]) for each in report.first]


@pytest.mark.parametrize(("label", "read"), [*((each, ("x", None)) for each in GOOD), *((e, (None, "x")) for e in BAD)])
def test_a_known_label_is_read(tmp_path, label, read):
    report = audit(written(tmp_path / "t.jsonl", [row(label)]))
    assert sides(report) == [read]
    assert report.findings["missing_label"] == 0


@pytest.mark.parametrize("label", MISSING)
def test_a_missing_label_is_counted_and_is_no_side(tmp_path, label):
    rows = [row(True), row(label), row(False, "y"), row(label, " "), row(label, None), row(label)]
    report = audit(written(tmp_path / "t.jsonl", rows))
    assert sides(report) == [("x", None), (None, None), (None, "y")]
    found = {name: count for name, count in report.findings.items() if count and name != "repeated_prompts"}
    # Neither does it contradict a label.
    assert found == {"missing_label": 4, "blank_text": 1, "missing_text": 1, "repeated_rows": 1}
    assert report.examples["missing_label"][0] == {"split": "train", "row": 1}
    back = audit(written(tmp_path / "b.jsonl", rows[::-1]))
    assert (back.findings, back.lengths) == (report.findings, report.lengths)


@pytest.mark.parametrize("label", UNKNOWN)
@pytest.mark.parametrize("at", [0, 2])
def test_an_unknown_label_is_one_error_that_names_it_and_its_row(tmp_path, prefdata, label, at):
    rows = [row(True), row(None)]
    rows.insert(at, row(label))
    said = prefdata("audit", written(tmp_path / "t.jsonl", rows))
    assert (said.code, said.out) == (2, "")
    assert f"row {at + 1}: the label " in said.err
    assert repr(label)[:40] in said.err
    assert "valid: true or false, 1 or 0, desirable" in said.err
    assert "--columns label=NAME" in said.err


def test_an_unknown_label_names_its_split(tmp_path):
    for split, label in (("train", True), ("test", "positive")):
        written(tmp_path / f"data/{split}-00000-of-00001.parquet", [row(label) | {"label": str(label)}])
    with pytest.raises(InputError, match=r"split 'test', row 1: the label 'positive'"):
        audit(tmp_path)


def test_labels_of_every_format_are_read_alike(tmp_path):
    rows = [row(True), row(False, "y"), row(None, "z")]
    (tmp_path / "t.csv").write_text("prompt,completion,label\nq,x,True\nq,y,False\nq,z,\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    written(tmp_path / "t.jsonl", rows)
    reports = [audit(tmp_path / f"t.{suffix}") for suffix in ("csv", "parquet", "jsonl")]
    assert [(sides(each), each.findings) for each in reports] == [(sides(reports[0]), reports[0].findings)] * 3
    assert reports[0].findings["missing_label"] == 1


def test_pairs_have_no_labels_to_miss(tmp_path, prefdata):
    said = prefdata("audit", written(tmp_path / "t.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}]), "--json")
    assert "missing_label" not in json.loads(said.out)["findings"]
