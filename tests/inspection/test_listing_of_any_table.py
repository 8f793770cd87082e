"""`inspect --where --sort --prompt-id` of tables that others made: cells of any kind are read alike in every format."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published import written

import prefdata as package

FORMATS = ("csv", "tsv", "jsonl", "parquet")


def made(path, rows):
    """Writes rows in the format that the path's ending names."""
    if path.suffix not in (".csv", ".tsv"):
        return written(path, rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="," if path.suffix == ".csv" else "\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


def pair(n, /, **more):
    return {"prompt": f"q{n}", "chosen": "a" * (n + 1), "rejected": "b"} | more


@pytest.fixture
def listed(prefdata):
    def run(path, *options):
        page = prefdata("inspect", path, *options)
        assert page.code == 0, page.err
        said = prefdata("inspect", path, *options, "--json")
        assert said.code == 0, said.err
        return json.loads(said.out)["rows"]

    return run


def prompts(rows):
    return [row["prompt"] for row in rows]


@pytest.mark.parametrize("suffix", FORMATS)
def test_numbers_are_numbers_in_every_format(tmp_path, listed, suffix):
    numbers = [(10, 100, 1.5), (9, 20, -2.5), (2, 3, 1e3)]
    rows = [pair(n, score_chosen=s, score_rejected=1, n=m, x=x) for n, (s, m, x) in enumerate(numbers)]
    path = made(tmp_path / f"t.{suffix}", rows)
    assert [row["n"] for row in listed(path, "--sort", "n")] == [3, 20, 100]
    assert [row["x"] for row in listed(path, "--sort", "-x")] == [1000, 1.5, -2.5]
    assert prompts(listed(path, "--where", "score_chosen > 5 and n < 50")) == ["q1"]
    assert [row["score_margin"] for row in listed(path, "--sort", "margin")] == [1, 8, 9]


@pytest.mark.parametrize("suffix", FORMATS)
def test_texts_and_truth_values_are_the_same_in_every_format(tmp_path, listed, suffix):
    rows = [pair(0, code="007", ok=True), pair(1, code="01", ok=False), pair(2, code="10", ok=True)]
    rows = [{**row, "chosen": str(n)} for n, row in enumerate(rows)]
    path = made(tmp_path / f"t.{suffix}", rows)
    assert prompts(listed(path, "--where", "code == '007' and ok == true")) == ["q0"]
    assert prompts(listed(path, "--where", "chosen == '2'")) == ["q2"]


def test_names_of_scores_that_others_use_are_numbers_too(tmp_path, listed):
    rows = [pair(n, chosen_score=score, rejected_score=1) for n, score in enumerate((10, 9, 100))]
    path = made(tmp_path / "t.csv", rows)
    assert [row["chosen_score"] for row in listed(path, "--sort", "chosen_score")] == [9, 10, 100]
    assert [row["score_margin"] for row in listed(path, "--sort", "margin")] == [8, 9, 99]


IDS = ([1, 2, 3], [1, None, 3], [1.0, None, 3.0], ["1", None, "3"], [1, "x", 3])


# A column of Parquet has one type.
@pytest.mark.parametrize(
    ("suffix", "ids"), [(suffix, ids) for suffix in FORMATS for ids in IDS if suffix != "parquet" or "x" not in ids]
)
def test_a_prompt_is_found_by_its_id_whatever_that_is(tmp_path, listed, prefdata, suffix, ids):
    path = made(tmp_path / f"t.{suffix}", [pair(n, prompt_id=each) for n, each in enumerate(ids)])
    for asked, prompt in (("1", "q0"), ("3", "q2")):
        found = listed(path, "--prompt-id", asked)
        assert (prompts(found), found[0]["prompt_id"]) == ([prompt], asked)
    said = prefdata("inspect", path, "--sort", "length_difference")
    assert "Next:    prefdata inspect " in said.out
    assert said.out.splitlines()[-1].endswith(" --prompt-id 1")
    assert prefdata("inspect", path, "--prompt-id", "4").code == 2


@pytest.mark.parametrize("ids", [[[1], [2]], [2.0**60, 1.0], [{"a": 1}, {"a": 2}]])
def test_what_is_no_id_is_refused_where_one_is_asked_for(tmp_path, listed, prefdata, ids):
    path = written(tmp_path / "t.jsonl", [pair(n, prompt_id=each) for n, each in enumerate(ids)])
    assert prompts(listed(path, "--sort", "-length_difference")) == ["q1", "q0"]
    said = prefdata("inspect", path, "--prompt-id", "1")
    assert (said.code, "write ids as texts" in said.err) == (2, True)


def test_the_prompt_zero_has_a_name(tmp_path, prefdata):
    path = written(tmp_path / "t.jsonl", [pair(0, prompt_id=0)])
    assert "pair 1  0\n" in prefdata("inspect", path, "--sort", "margin").out


MIXED = {
    "all kinds": [1, "x", [1], {"a": 1}, True, None],
    "a number and an object": [1, {"a": 1}],
    "a number and a truth value": [2, True],
    "lists of several kinds": [[1], ["x"], [{"b": 2}]],
    "a list of several kinds": [[1, "x"], [2]],
    "objects of several kinds": [{"a": [1]}, {"a": [{"b": 2}]}],
    "great numbers": [2**200, 1],
}


@pytest.mark.parametrize("cells", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("files", ["one file", "shards", "splits"])
def test_a_column_of_several_kinds_loses_nothing(tmp_path, listed, cells, turned, files):
    rows = [pair(n, extra=cell) for n, cell in enumerate(cells)]
    rows = rows[::-1] if turned else rows
    if files == "one file":
        path = written(tmp_path / "t.jsonl", rows)
    else:
        path = tmp_path / "data"
        for n, row in enumerate(rows):
            split = "test" if files == "splits" and n else "train"
            written(path / f"{split}-{n:05d}-of-{len(rows):05d}.jsonl", [row])
    found = {row["prompt"]: row["extra"] for row in listed(path, "--sort", "length_difference")}
    for n, cell in enumerate(cells):
        read = found[f"q{n}"]
        assert read == cell or json.loads(read) == cell or (read, cell) == ("x", "x")


@pytest.mark.parametrize("turned", [False, True])
def test_texts_and_messages_in_one_column_are_read_as_an_audit_reads_them(tmp_path, listed, turned):
    def said(text):
        return [{"role": "assistant", "content": text}]

    rows = [pair(0), {**pair(1), "chosen": said("xyz"), "rejected": said("y")}, {**pair(2), "rejected": said("y")}]
    path = written(tmp_path / "t.jsonl", rows[::-1] if turned else rows)
    found = listed(path, "--sort", "prompt")
    assert [(row["chosen"], row["rejected"]) for row in found] == [("a", "b"), ("xyz", "y"), ("aaa", "y")]
    assert [row["length_difference"] for row in found] == [0, 2, 2]
    assert prompts(listed(path, "--where", "chosen contains 'xyz'")) == ["q1"]
    shown = sorted((row["prompt"], row["chosen"], row["rejected"]) for row in package.audit(path).first)
    assert shown == [(row["prompt"], row["chosen"], row["rejected"]) for row in found]


@pytest.mark.parametrize("cell", ["N/A", None, float("nan"), float("inf"), "", "nan", [], [1, 2], True])
@pytest.mark.parametrize("name", ["score_chosen", "chosen_score"])
def test_what_is_no_score_is_missing_and_sorts_last(tmp_path, listed, name, cell):
    other = name.replace("chosen", "rejected")
    rows = [pair(n, **{name: score, other: 0}) for n, score in enumerate((1, cell, 3))]
    path = written(tmp_path / "t.jsonl", rows)
    for sort, order in (("margin", [1, 3, None]), ("-margin", [3, 1, None])):
        assert [row["score_margin"] for row in listed(path, "--sort", sort)] == order
    assert prompts(listed(path, "--where", "margin > 0")) == ["q0", "q2"]
    assert prompts(listed(path, "--where", "margin is missing")) == ["q1"]


def test_scores_are_read_as_an_audit_reads_them(tmp_path, listed):
    path = written(tmp_path / "t.jsonl", [pair(0, score_chosen=[2.5], score_rejected="1")])
    assert [row["score_margin"] for row in listed(path, "--sort", "margin")] == [1.5]
    assert package.audit(path).margins["mean"] == 1.5


def test_nan_is_missing_in_every_column(tmp_path, listed):
    rows = [pair(n, x=x) for n, x in enumerate((1.0, float("nan"), 3.0))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert [row["x"] for row in listed(tmp_path / "t.parquet", "--sort", "-x")] == [3, 1, None]
    assert prompts(listed(tmp_path / "t.parquet", "--where", "x > 0")) == ["q0", "q2"]


@pytest.mark.parametrize("lengths", [("12", "n/a"), (12, 3), (12.5, 10.7)])
def test_lengths_of_others_are_read_as_they_are(tmp_path, listed, lengths):
    path = written(tmp_path / "t.jsonl", [pair(0, length_chosen=lengths[0], length_rejected=lengths[1])])
    (row,) = listed(path, "--sort", "length_difference")
    wanted = None if "n/a" in lengths else lengths[0] - lengths[1]
    assert (row["length_chosen"], row["length_difference"]) == (float(lengths[0]), wanted)


def test_what_changed_is_found_where_ids_are_numbers(tmp_path):
    before = made(tmp_path / "a.csv", [pair(n, prompt_id=n) for n in range(3)])
    after = written(tmp_path / "b.jsonl", [pair(n, prompt_id=n) | ({"rejected": "c"} if n else {}) for n in range(3)])
    found = package.load(before).to("polars").changed(after)
    assert (found["prompt_id"].to_list(), set(found["change"])) == (["1", "2"], {"rejected"})
