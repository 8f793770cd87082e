"""Tables in files: what comes out, and one message for each way in which a file can be wrong."""

from __future__ import annotations

import gzip
import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.errors import InputError
from prefdata.tables import files, text_files
from prefdata.tables.cells import parse_score


def refused(call, *arguments, **named) -> str:
    with pytest.raises(InputError) as caught:
        result = call(*arguments, **named)
        list(result)
    return str(caught.value)


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


LINES = b'{"prompt": "a", "score": 3}\n\n{"prompt": "b", "score": "3"}\r\n{"score": [3], "model": null}'
MIXED = [{"prompt": "a", "score": 3}, {"prompt": "b", "score": "3"}, {"score": [3], "model": None}]


@pytest.mark.parametrize("ending", [".jsonl", ".ndjson", ".json", ".JSONL"])
@pytest.mark.parametrize(("codec", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zstd)])
def test_json_lines_keep_mixed_types_whatever_their_wrapping(tmp_path, ending, codec, pack):
    path = tmp_path / f"rows{ending}{codec}"
    path.write_bytes(pack(LINES))
    assert list(files.rows(path)) == MIXED
    assert list(files.rows(str(path), 2)) == MIXED[2:]
    assert list(files.rows(path, 3)) == []
    assert files.columns(path) == ["prompt", "score", "model"]
    assert list(files.rows(path, only=["model", "prompt"])) == [
        {"model": None, "prompt": "a"},
        {"model": None, "prompt": "b"},
        {"model": None, "prompt": None},
    ]


def test_a_line_separator_inside_a_text_ends_no_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\ufeff{"prompt": "a\u2028b\x85c"}\n{"prompt": "\\ud83d\\ude00"}\n', encoding="utf-8")
    assert [row["prompt"] for row in files.rows(path)] == ["a\u2028b\x85c", "\U0001f600"]


@pytest.mark.parametrize(("codec", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zstd)])
def test_csv_values_stay_text_and_only_an_unquoted_empty_field_is_none(tmp_path, codec, pack):
    path = tmp_path / f"rows.csv{codec}"
    path.write_bytes(pack('\ufeffid,text,n\r\n1,"say ""hi"",\r\nthen go",\r\n\r\n"",,007'.encode()))
    assert list(files.rows(path)) == [
        {"id": "1", "text": 'say "hi",\r\nthen go', "n": None},
        {"id": "", "text": None, "n": "007"},
    ]
    assert files.columns(path) == ["id", "text", "n"]
    assert list(files.rows(path, 1, only=["n"])) == [{"n": "007"}]


def test_an_empty_line_is_a_row_where_a_csv_has_one_column(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("prompt\na\n\nb\n")
    assert [row["prompt"] for row in files.rows(path)] == ["a", None, "b"]


@pytest.mark.parametrize("start", [0, 1, 99, 100, 101, 299, 650, 699, 700, 9000])
def test_parquet_starts_at_any_row_across_row_groups(tmp_path, start):
    path = tmp_path / "rows.parquet"
    values = [{"prompt": [{"role": "user", "content": str(n)}], "n": n} for n in range(700)]
    pq.write_table(pa.Table.from_pylist(values), path, row_group_size=100)
    assert list(files.rows(path, start)) == values[start:]
    assert [row["n"] for row in files.rows(path, start, only=["n"])] == list(range(start, 700))
    assert files.columns(path) == ["prompt", "n"]


def test_parquet_batches_larger_than_one_row_group_are_cut_right(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"n": list(range(1000))}), path, row_group_size=600)
    for start in (0, 255, 256, 257, 599, 600, 601, 999):
        assert [row["n"] for row in files.rows(path, start)] == list(range(start, 1000))


WRONG_TEXT = {
    "empty.jsonl": (b"", "the file is empty"),
    "blank.jsonl": (b"\n \n", "has no rows"),
    "torn.jsonl": (b'{"a": 1}\n{"a": ', "line 2: not JSON: Expecting value at character 7"),
    "array.json": (b'[{"a": 1}, 7]\n', "element 2 of the array: a JSON object is expected, found int"),
    "open.json": (b'[{"a": 1}, {"a": ', "not JSON: Expecting value in element 2 of the array"),
    "torn.json": (b'[{"a": 1}, ', "not JSON: Expecting value in element 2 of the array"),
    "after.json": (b'[{"a": 1}] {"a": 2}', "not JSON: something follows the array"),
    "comma.json": (b'[{"a": 1} {"a": 2}]', "not JSON: ',' or ']' is expected, found '{'"),
    "void.json": (b"[ ]", "has no rows"),
    "twice.json": (b'[{"a": 1, "a": 2}]', "element 1 of the array: the key 'a' occurs twice"),
    "half.json": (b'[{"a": "\\ud800"}]', "element 1 of the array: the escape \\ud800 is half of a surrogate pair"),
    "latin.json": (b'[{"a": "caf\xe9"}]', "not UTF-8: byte 0xe9"),
    "number.jsonl": (b'{"a": 1}\n\n7\n', "line 3: a JSON object is expected, found int"),
    "twice.jsonl": (b'{"a": 1, "a": 2}\n', "line 1: not JSON that can be kept: the key 'a' occurs twice"),
    "deep.jsonl": (b'{"a": ' + b"[" * 100_000 + b"\n", "line 1: not JSON"),
    "digits.jsonl": (b'{"a": ' + b"1" * 5000 + b"}\n", "line 1: not JSON that can be kept"),
    "half.jsonl": (b'{"a": 1}\n{"a": {"b": ["\\ud800"]}}\n', "line 2: the escape \\ud800 is half of a surrogate pair"),
    "halfkey.jsonl": (b'{"\\uDC00": 1}\n', "line 1: the escape \\udc00 is half of a surrogate pair"),
    "latin.jsonl": (b'{"a": 1}\n{"a": "caf\xe9"}\n', "line 2: not UTF-8: byte 0xe9 at position 11"),
    "utf16.csv": ("a,b\n1,2\n".encode("utf-16"), "line 1: not UTF-8: byte 0xff at position 1"),
    "header.csv": (b"a,b\n", "has a header but no rows"),
    "same.csv": (b"a,b,a\n1,2,3\n", "line 1: two columns are named 'a'"),
    "short.csv": (b'a,b\n"1\n1",2\n3\n', "line 4: 1 fields, but the header has 2"),
    "open.csv": (b'a,b\n1,"2\n3,4\n', "line 2: a quoted field is opened and never closed"),
    "stray.csv": (b'a,b\n1,5" pipe"\n', "line 2: field 2 has a quotation mark or line break that is not quoted"),
    "latin.csv": (b"a,b\n1,\xe9\n", "line 2: not UTF-8"),
}


@pytest.mark.parametrize("name", WRONG_TEXT)
@pytest.mark.parametrize("packed", [False, True])
def test_each_mistake_in_a_text_file_names_file_and_line(tmp_path, name, packed):
    data, said = WRONG_TEXT[name]
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(data) if packed else data)
    message = refused(files.rows, path)
    assert repr(str(path)) in message
    if name != "empty.jsonl" or not packed:
        assert said in message


def test_one_object_over_several_lines_is_told_how_to_become_lines(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{\n  "a": 1\n}')
    assert refused(files.rows, path).endswith("next:  one object a line: jq -c '.' FILE > FILE.jsonl")


ARRAY = '\ufeff [\n{"prompt": "a", "score": 3} ,{"prompt": "b]", "score": "3"},\r\n {"score": [3], "model": null}\n] \n'


@pytest.mark.parametrize("block", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize(("codec", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zstd)])
def test_one_array_is_read_as_its_objects_wherever_it_is_cut(tmp_path, monkeypatch, block, codec, pack):
    monkeypatch.setattr(text_files, "_BLOCK", block)
    path = tmp_path / f"rows.json{codec}"
    path.write_bytes(pack(ARRAY.encode()))
    assert [row.get("score") for row in files.rows(path)] == [3, "3", [3]]
    assert files.columns(path) == ["prompt", "score", "model"]
    assert [row["prompt"] for row in files.rows(path, only=["prompt"])] == ["a", "b]", None]


def test_tab_separated_values_keep_their_commas(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text('a\tb\n1,5\t"x\ty"\n')
    assert list(files.rows(path)) == [{"a": "1,5", "b": "x\ty"}]


BAD_CELLS = {
    "half.jsonl": b'{"a": 1, "b": "\\ud800"}\n',
    "half.json": b'[{"a": 1, "b": {"c": "\\ud800"}}]',
    "same.csv": b"a,b,b\n1,2,3\n",
    "noname.csv": b",a\n0,1\n",
    "noname.tsv": b"\ta\n0\t1\n",
}


@pytest.mark.parametrize("name", BAD_CELLS)
def test_a_bad_cell_or_name_in_a_column_that_is_not_read_does_not_matter(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BAD_CELLS[name])
    assert [str(row["a"]) for row in files.rows(path, only=["a"])] == ["1"]


def test_a_parquet_column_that_can_not_be_read_does_not_matter_where_it_is_not_read(tmp_path):
    path = tmp_path / "rows.parquet"
    periods = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array(["x"])])
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as file:
        table = pa.table({"a": ["1"], "b": periods, "c": union})
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    pq.write_table(pa.table([["1"], [2], [3]], names=["a", "b", "b"]), path)
    for each in (path, tmp_path / "rows.arrow"):
        assert list(files.rows(each, only=["a"])) == [{"a": "1"}]
    table = files.open_table(tmp_path / "rows.arrow")
    assert next(table.batches(["a"], 10)).to_pylist() == [{"a": "1"}]
    for name in ("b", "c"):
        with pytest.raises(InputError, match=f"the column '{name}' is of the Arrow type"):
            next(table.batches([name], 10))


def broken(good: bytes) -> dict[str, bytes]:
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    return {"cut": good[:-20], "flipped": bytes(flipped), "other": b"nothing of the kind" * 10, "tail": good[:3]}


@pytest.mark.parametrize("how", ["cut", "flipped", "other", "tail"])
def test_a_damaged_gzip_file_is_one_message(tmp_path, how):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(broken(gzip.compress(b"".join(b'{"a": %d}\n' % n for n in range(5000))))[how])
    assert "not a whole gzip file" in refused(files.rows, path)


@pytest.mark.parametrize("how", ["cut", "other", "tail"])
def test_a_damaged_zstd_file_is_one_message(tmp_path, how):
    path = tmp_path / "rows.csv.zst"
    path.write_bytes(broken(zstd(b"a,b\n" + b"".join(b"%d,x\n" % n for n in range(5000))))[how])
    assert "not a whole zstd file" in refused(files.rows, path)


@pytest.mark.parametrize("how", ["cut", "flipped", "other", "tail", "empty"])
def test_a_damaged_parquet_file_is_one_message(tmp_path, how):
    path = tmp_path / "rows.parquet"
    table = pa.table({"text": [hashlib.sha256(bytes([n % 256, n // 256])).hexdigest() for n in range(3000)]})
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    path.write_bytes(b"" if how == "empty" else broken(path.read_bytes())[how])
    assert ("the file is empty" if how == "empty" else "not a whole Parquet file") in refused(files.rows, path)


def test_parquet_without_rows_or_with_a_name_twice_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), path)
    assert "has no rows" in refused(files.rows, path)
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    assert "two columns are named 'a'" in refused(files.rows, path)


def test_a_file_that_is_not_there_is_told_from_a_folder_and_a_wrong_ending(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "notes.txt").write_text("a")
    missing = refused(files.rows, tmp_path / "promts.jsonl")
    assert "promts.jsonl' does not exist" in missing
    assert "did you mean 'prompts.jsonl'?" in missing
    (tmp_path / "empty").mkdir()
    assert "is a folder without a table" in refused(files.columns, tmp_path / "empty")
    ending = refused(files.rows, tmp_path / "notes.txt")
    assert "unknown ending '.txt'\n  valid: .parquet, .arrow, .jsonl, .ndjson, .json, .csv, .tsv; the text" in ending
    (tmp_path / "rows.parquet.gz").write_bytes(b"x")
    assert "unknown ending '.parquet.gz'" in refused(files.rows, tmp_path / "rows.parquet.gz")
    assert "does not exist" in refused(files.sha256, tmp_path / "nowhere" / "at.all")


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "rows.csv"])
def test_a_missing_column_lists_those_there_with_a_suggestion(tmp_path, name):
    path = tmp_path / name
    if name == "rows.parquet":
        pq.write_table(pa.table({"prompt": ["a"], "model": ["m"]}), path)
    else:
        path.write_text('{"prompt": "a"}\n{"model": "m"}\n' if name == "rows.jsonl" else "prompt,model\na,m\n")
    message = refused(files.rows, path, only=["model", "promt"])
    assert "has no column 'promt'\n  valid: prompt, model (did you mean 'prompt'?)" in message


def test_a_file_that_changed_since_it_was_locked_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n')
    pins = files.pin(path)
    assert pins == {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert files.pinned(path, pins) == files.pinned(path, {}) == path
    path.write_text('{"a": 2}\n')
    assert "has changed since it was locked" in refused(files.pinned, path, pins)


@pytest.mark.parametrize(
    ("cell", "score"),
    [
        (3, 3.0),
        (-2.5, -2.5),
        ("3", 3.0),
        (" +1.5e-2\n", 0.015),
        (".5", 0.5),
        ("4.", 4.0),
        ([3], 3.0),
        (["3"], 3.0),
        (True, None),
        ([False], None),
        (None, None),
        ("", None),
        ("N/A", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("1_000", None),
        ("0x10", None),
        ("٣", None),
        ("3/5", None),
        (float("nan"), None),
        (float("-inf"), None),
        (10**400, None),
        ([], None),
        ([1, 2], None),
        ([[1]], None),
        ({"score": 1}, None),
    ],
)
def test_a_score_is_a_finite_number_or_nothing(cell, score):
    assert parse_score(cell) == score
