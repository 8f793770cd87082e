"""A table of somebody hostile is refused in one message and in bounded memory, whatever it would grow to."""

from __future__ import annotations

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.errors import InputError
from prefdata.tables import files, parquet, text_files

LIMITED = """
import resource, sys
from prefdata.errors import InputError
from prefdata.tables import files
import pyarrow, pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    for row in files.rows(sys.argv[1]):
        pass
except InputError as error:
    print(error.problem)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def peak_mb(fresh, path):
    """Reads a table in a new process; gives what it says, and by how many MB its memory grew."""
    said = fresh(path, code=LIMITED)
    assert said.code == 0, said.err[-2000:]
    *words, most = said.out.splitlines()
    return " ".join(words), int(most)


def zeros(path, codec, n_bytes):
    block = b"0" * (1 << 20)
    if codec == "gz":
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(n_bytes >> 20):
                file.write(block)
    else:
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            for _ in range(n_bytes >> 20):
                file.write(block)
    return path


@pytest.mark.parametrize("codec", ["gz", "zst"])
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_line_of_a_gigabyte_in_a_small_file_takes_no_gigabytes(fresh, tmp_path, codec, ending):
    path = zeros(tmp_path / f"t.{ending}.{codec}", codec, 1 << 30)
    assert path.stat().st_size < 8 << 20
    words, most = peak_mb(fresh, path)
    assert "line 1: longer than 256 MB" in words
    assert most < 1_000


def test_a_record_over_many_lines_is_as_long_as_its_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_MOST_BYTES", 1_000)
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,"' + "x\n" * 600 + '"\n')
    with pytest.raises(InputError, match="line 2: longer than"):
        list(files.rows(path))
    path.write_text("a,b\n" + '1,"' + "x\n" * 100 + '"\n' + '2,"' + "y\n" * 400 + '"\n' + "3,4\n" * 500)
    assert len(list(files.rows(path))) == 502


def test_a_text_that_each_row_refers_to_is_read_a_few_rows_at_a_time(fresh, tmp_path):
    path = tmp_path / "t.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), pa.array(["x" * (60 << 20)]))
    pq.write_table(
        pa.table({"a": text}), path, compression="zstd", dictionary_pagesize_limit=1 << 30, store_schema=False
    )
    assert path.stat().st_size < 100_000
    assert parquet.rows_at_once(path, 256) == (1 << 30) // (60 << 20)
    words, most = peak_mb(fresh, path)
    assert words == ""
    assert most < 5_000


def test_a_text_larger_than_any_is_refused_unread(fresh, tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"a": pa.array(["x" * (300 << 20)])})
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=1 << 30)
    words, most = peak_mb(fresh, path)
    assert "the column 'a' takes 0.3 GB in memory" in words
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    assert "the column 'a' takes 0.3 GB in memory" in peak_mb(fresh, path)[0]
    assert most < 200


def test_ordinary_tables_are_read_as_many_rows_at_once_as_wanted(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [f"text {n % 7}" for n in range(5_000)], "b": range(5_000)}), path)
    assert parquet.rows_at_once(path, 2_048) == 2_048
    assert len(list(files.rows(path))) == 5_000


def test_ten_thousand_columns_and_two_of_one_name(tmp_path):
    path = tmp_path / "t.csv"
    names = [f"c{n}" for n in range(10_000)]
    path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    assert len(next(files.rows(path))) == 10_000
    with pytest.raises(InputError) as refused:
        files.rows(path, only=["x"])
    assert len(str(refused.value)) < 2_500
    path.write_text(",".join([*names, "c9"]) + "\n")
    with pytest.raises(InputError, match="two columns are named 'c9'"):
        list(files.rows(path))


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.parquet", "t.jsonl.gz"])
def test_a_pipe_or_a_device_is_not_read(tmp_path, name):
    os.mkfifo(tmp_path / name)
    (tmp_path / f"link-{name}").symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / f"link-{name}"):
        with pytest.raises(InputError, match="is a pipe or a device"):
            list(files.rows(path))


def test_json_a_hundred_thousand_deep(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": ' * 100_000 + "1" + "}" * 100_000 + "\n")
    with pytest.raises(InputError, match="not JSON that can be kept"):
        list(files.rows(path))


@pytest.mark.parametrize("where", range(0, 400, 7))
def test_any_wrong_byte_at_the_end_of_a_parquet_file_is_one_message(tmp_path, where):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": ["x", "y"], "b": [[{"c": 1}], []]}), path, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[-1 - where % len(data)] ^= 0x55
    path.write_bytes(data)
    try:
        assert json.dumps(list(files.rows(path)))
    except InputError as error:
        assert error.problem
