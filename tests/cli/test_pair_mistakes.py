"""`prefdata pair`: what the user can fix is one message, exit code 2, and nothing is harmed."""

from __future__ import annotations

import json
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = [
    {"prompt": "Why?", "response": "good", "score": 2.0},
    {"prompt": "Why?", "response": "bad", "score": 1.0},
]


@pytest.fixture
def refused(prefdata, write_table, tmp_path):
    """Runs `prefdata pair` on a table that must be refused, and gives the message."""

    def run(table, *options, rule="wpo_hybrid_v2", out=tmp_path / "out"):
        path = write_table(tmp_path / "table.jsonl", table) if isinstance(table, list) else table
        said = prefdata("pair", path, "--rule", rule, "--out", out, *options)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith("prefdata: ")
        assert "Traceback" not in said.err
        assert [child.name for child in tmp_path.iterdir() if child.name.endswith((".part", ".old"))] == []
        return said.err

    return run


def test_a_missing_file_is_named_with_its_neighbours(refused, tmp_path):
    (tmp_path / "answers.parquet").touch()
    message = refused(tmp_path / "answer.parquet")
    assert "answer.parquet' does not exist" in message
    assert "did you mean 'answers.parquet'?" in message


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl", "t.csv", "t.jsonl.gz", "t.csv.zst"])
def test_an_empty_file_is_refused(refused, tmp_path, name):
    (tmp_path / name).touch()
    assert "the file is empty" in refused(tmp_path / name)


def test_tables_without_rows_are_refused(refused, tmp_path):
    pq.write_table(pa.table({"prompt": pa.array([], pa.string()), "response": [], "score": []}), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("prompt,response,score\n")
    (tmp_path / "t.jsonl").write_text("\n\n")
    for name in ("t.parquet", "t.csv", "t.jsonl"):
        assert "no rows" in refused(tmp_path / name)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_parquet_file_is_refused(refused, tmp_path, keep):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS * 50), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    message = refused(path)
    assert "not a whole Parquet file" in message
    assert "copy or download the file again" in message


def test_a_damaged_page_is_refused(refused, tmp_path):
    path = tmp_path / "t.parquet"
    rows = [{"prompt": f"{n}", "response": f"answer {n} {random.Random(n).random()}", "score": n} for n in range(2000)]
    pq.write_table(pa.Table.from_pylist(rows), path, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    assert "not a whole Parquet file" in refused(path)


def test_other_damaged_or_foreign_files_are_refused(refused, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"prompt": "Why?", "response": "x", "score": 1}\n{"prompt": \n')
    assert "line 2: not JSON" in refused(tmp_path / "t.jsonl")
    (tmp_path / "t.jsonl.gz").write_bytes(b"\x1f\x8b\x08garbage")
    assert "not a whole gzip file" in refused(tmp_path / "t.jsonl.gz")
    (tmp_path / "t.csv").write_text("prompt,response,score\na,b\n")
    assert "line 2: 2 fields, but the header has 3" in refused(tmp_path / "t.csv")
    (tmp_path / "t.xlsx").write_text("x")
    assert "unknown ending '.xlsx'" in refused(tmp_path / "t.xlsx")
    (tmp_path / "empty").mkdir()
    assert "is a folder without a table" in refused(tmp_path / "empty")


@pytest.mark.parametrize("gone", ["response", "score"])
@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", "t.csv"])
def test_a_missing_column_is_named_with_what_there_is(refused, write_table, tmp_path, gone, name):
    rows = [{f"{key}s" if key == gone else key: value for key, value in row.items()} for row in ROWS]
    message = refused(write_table(tmp_path / name, rows))
    assert f"no column '{gone}'" in message
    assert f"did you mean '{gone}s'?" in message
    assert f"--columns {gone}=NAME" in message


def test_a_table_without_any_prompt_is_refused(refused):
    message = refused([{"theme": "Why?", "response": "x", "score": 1}])
    assert "neither a column 'prompt_id' nor a column 'prompt'" in message
    assert "--columns prompt=NAME" in message


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("promt=prompt", "did you mean 'prompt'?"),
        ("prompt=promt", "did you mean 'prompt'?"),
        ("prompt", "'prompt' is not ROLE=NAME"),
        ("prompt=", "'prompt=' is not ROLE=NAME"),
        ("score=prompt,score=score", "'score' is given twice"),
    ],
)
def test_a_wrong_mapping_is_refused_with_a_suggestion(refused, columns, told):
    assert told in refused(ROWS, "--columns", columns)


@pytest.mark.parametrize("response", [5, {"text": "x"}, [1, 2], [["x"]], True])
@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_answers_that_are_no_texts_are_refused(refused, write_table, tmp_path, response, name):
    path = write_table(tmp_path / name, [{"prompt": "Why?", "response": response, "score": 1}])
    message = refused(path)
    assert "column 'response' holds" in message
    assert "lists of texts" in message


@pytest.mark.parametrize(
    ("role", "column"),
    [
        ("prompt", pa.array([b"\xff", b"\xff"])),
        ("prompt", pa.array([1, 2], pa.timestamp("s"))),
        ("prompt_id", pa.array([[1], [1]])),
        ("prompt_id", pa.array([b"\xff", b"\xff"])),
        ("source", pa.array([["a"], ["b"]])),
        ("model", pa.array([["a"], ["b"]])),
        ("index", pa.array([1.5, 1.0])),
        ("index", pa.array(["one", "two"])),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_columns_of_other_types_are_refused(refused, tmp_path, role, column):
    columns = {"prompt": ["Why?"] * 2, "response": ["good", "bad"], "score": [2, 1], role: column}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    message = refused(tmp_path / "t.parquet")
    assert f"column '{role}' holds" in message
    assert f"--columns {role}=NAME" in message


def test_an_unknown_rule_is_refused_with_a_suggestion(refused):
    message = refused(ROWS, rule="wpo_hybrid_v3")
    assert "no pair rule 'wpo_hybrid_v3'" in message
    assert "did you mean 'wpo_hybrid_v2'?" in message
    assert "simpo" not in refused(ROWS, rule="custom")


def test_an_unknown_unit_or_option_or_command_is_a_usage_error(prefdata, tmp_path):
    for arguments in (
        ["pair", "t.csv", "--rule", "best_vs_worst", "--out", tmp_path, "--length", "tokens"],
        ["pair", "t.csv", "--rule", "best_vs_worst"],
        ["pair", "t.csv", "--out", tmp_path],
        ["pair", "--rul"],
    ):
        said = prefdata(*arguments)
        assert (said.code, said.out) == (2, "")
        assert "Traceback" not in said.err
    said = prefdata("piar")
    assert said.code == 2
    assert "did you mean 'pair'?" in said.err


# The folder that is written.


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("files", [["notes.txt"], ["ledger.json", "notes.txt"], ["README.md"], ["data/mine.parquet"]])
def test_a_folder_with_other_files_is_left_alone(refused, tmp_path, files):
    folder = tmp_path / "mine"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("precious")
    before = snapshot(folder)
    message = refused(ROWS, out=folder)
    assert "holds other files" in message
    assert "--out" in message
    assert snapshot(folder) == before


def test_a_note_beside_a_dataset_of_ours_is_left_alone(prefdata, refused, write_table, tmp_path):
    path = write_table(tmp_path / "first.jsonl", ROWS)
    assert prefdata("pair", path, "--rule", "best_vs_worst", "--out", tmp_path / "out").code == 0
    (tmp_path / "out" / "notes.txt").write_text("precious")
    before = snapshot(tmp_path / "out")
    assert "'notes.txt'" in refused(ROWS)
    assert snapshot(tmp_path / "out") == before


def test_a_file_in_the_place_of_the_folder_is_left_alone(refused, tmp_path):
    (tmp_path / "out").write_text("precious")
    assert "is a file" in refused(ROWS)
    assert (tmp_path / "out").read_text() == "precious"


def test_the_table_itself_is_not_overwritten(refused, write_table, tmp_path):
    path = write_table(tmp_path / "t.jsonl", ROWS)
    assert "is a file" in refused(path, out=path)
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS


def test_a_folder_below_a_file_can_not_be_written(refused, tmp_path):
    (tmp_path / "file").touch()
    assert "a part of the path is a file" in refused(ROWS, out=tmp_path / "file" / "out")


def test_a_path_that_is_too_long_can_not_be_written(refused, tmp_path):
    assert "longer than this system allows" in refused(ROWS, out=tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_can_not_be_written(refused, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "can't be written by this user" in refused(ROWS, out=tmp_path / "locked" / "out")


def test_a_full_disk_is_one_message_and_keeps_what_was_there(fresh, prefdata, write_table, tmp_path):
    """A limit on file sizes stands for the disk: the system refuses the write in the same place."""
    assert (
        prefdata(
            "pair", write_table(tmp_path / "a.jsonl", ROWS), "--rule", "best_vs_worst", "--out", tmp_path / "out"
        ).code
        == 0
    )
    before = snapshot(tmp_path / "out")
    dice = random.Random(1)
    rows = [
        {"prompt": f"{number // 2}", "response": f"{dice.getrandbits(4000):x}", "score": number}
        for number in range(400)
    ]
    path = write_table(tmp_path / "big.jsonl", rows)
    program = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
from prefdata.cli.main import main
main()
"""
    said = fresh("pair", path, "--rule", "best_vs_worst", "--out", tmp_path / "out", code=program, cwd=tmp_path)
    assert (said.code, said.out) == (2, ""), said.err
    assert said.err.startswith("prefdata: ")
    assert "can't be written: a file would be larger than this system allows" in said.err
    assert snapshot(tmp_path / "out") == before
    assert sorted(child.name for child in tmp_path.iterdir()) == ["a.jsonl", "big.jsonl", "out"]
