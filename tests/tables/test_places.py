"""Every place that a table may come from: one reader, the same rows."""

from __future__ import annotations

import io
import sys

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from table_forms import separated, table_of

from prefdata.errors import InputError
from prefdata.tables import files

ROWS = [{"prompt": f"Q{number}", "n": number} for number in range(7)]
PROMPTS = [row["prompt"] for row in ROWS]


def prompts_in(where, split=None):
    return [row["prompt"] for row in files.open_table(where, split).rows(only=["prompt"])]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "json", "csv", "tsv", "arrow"])
@pytest.mark.parametrize("inside", [".", "data"])
def test_a_folder_or_a_pattern_of_shards_is_one_table(tmp_path, form, inside):
    folder = tmp_path / inside
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate((ROWS[:3], ROWS[3:4], ROWS[4:])):
        table_of(form, rows, tmp_path).rename(folder / f"part-{number:05d}.{form}")
    (folder / "README.md").write_text("notes")
    assert prompts_in(tmp_path) == PROMPTS
    assert prompts_in(f"{folder}/part-*.{form}") == PROMPTS
    assert prompts_in(str(folder / f"part-*[01].{form}")) == PROMPTS[:4]
    assert files.pinned(tmp_path, files.pin(tmp_path)) == tmp_path
    (folder / f"part-00001.{form}").unlink()
    assert prompts_in(tmp_path) == [*PROMPTS[:3], *PROMPTS[4:]]


def test_a_change_in_one_shard_breaks_the_lock(tmp_path):
    for number in range(2):
        table_of("csv", ROWS, tmp_path).rename(tmp_path / f"{number}.csv")
    pins = files.pin(tmp_path)
    (tmp_path / "1.csv").write_text("prompt\nx\n")
    with pytest.raises(InputError, match="has changed since it was locked"):
        files.pinned(tmp_path, pins)


def test_shards_of_other_types_are_still_one_table(tmp_path):
    for name, column in (("a", ["1"]), ("b", [2.0]), ("c", [3])):
        pa.parquet.write_table(pa.table({"prompt": column}), tmp_path / f"{name}.parquet")
    assert prompts_in(tmp_path) == ["1", 2.0, 3]
    assert files.open_table(tmp_path).schema is None


@pytest.mark.parametrize("names", [("train-00000-of-00002", "train-00001-of-00002"), ("train_a", "train_b")])
def test_the_splits_of_a_folder_are_not_mixed(tmp_path, names):
    for name, rows in ((names[0], ROWS[:2]), ("test-00000-of-00001", ROWS[2:])):
        table_of("parquet", rows, tmp_path).rename(tmp_path / f"{name}.parquet")
    if names[0].startswith("train-"):
        assert prompts_in(tmp_path) == PROMPTS[:2]
    assert prompts_in(tmp_path, "test") == PROMPTS[2:]
    with pytest.raises(InputError, match="has no split 'dev'"):
        prompts_in(tmp_path, "dev")


def test_tables_of_several_formats_in_one_folder_are_a_choice(tmp_path):
    table_of("csv", ROWS, tmp_path)
    table_of("jsonl", ROWS, tmp_path)
    with pytest.raises(InputError, match="several formats"):
        prompts_in(tmp_path)
    with pytest.raises(InputError, match="no file matches"):
        prompts_in(f"{tmp_path}/*.tsv")


def test_a_folder_of_save_to_disk_is_read_as_it_was_saved(tmp_path):
    saved = datasets.Dataset.from_list(ROWS).shuffle(seed=1)
    saved.save_to_disk(tmp_path / "one", num_shards=3)
    assert prompts_in(tmp_path / "one") == list(saved["prompt"])
    both = datasets.DatasetDict(train=saved, test=datasets.Dataset.from_list(ROWS[:1]))
    both.save_to_disk(tmp_path / "both")
    assert prompts_in(tmp_path / "both") == list(saved["prompt"])
    assert prompts_in(tmp_path / "both", "test") == PROMPTS[:1]
    with pytest.raises(InputError, match="has no split 'dev'"):
        prompts_in(tmp_path / "both", "dev")
    for name in ("state.json", "dataset_info.json"):
        with pytest.raises(InputError, match="name the folder"):
            prompts_in(tmp_path / "one" / name)


def test_a_link_out_of_a_saved_folder_is_not_followed(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    arrow = next((tmp_path / "saved").glob("*.arrow"))
    arrow.rename(tmp_path / "elsewhere.arrow")
    arrow.symlink_to(tmp_path / "elsewhere.arrow")
    with pytest.raises(InputError, match="a link that leads out of its folder"):
        prompts_in(tmp_path / "saved")


@pytest.mark.parametrize("keep", [0.2, 0.7])
def test_a_torn_arrow_file_is_one_message(tmp_path, keep):
    path = table_of("arrow", ROWS * 50, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match="not a whole Arrow file"):
        prompts_in(path)


FRAMES = {
    "pandas": lambda: pd.DataFrame(ROWS),
    "pandas with an index": lambda: pd.DataFrame(ROWS).set_index("n", drop=False)[::-1][::-1],
    "polars": lambda: pl.DataFrame(ROWS),
    "polars, lazy": lambda: pl.LazyFrame(ROWS),
    "arrow": lambda: pa.Table.from_pylist(ROWS),
    "a batch of arrow": lambda: pa.RecordBatch.from_pylist(ROWS),
    "dataset": lambda: datasets.Dataset.from_list(ROWS),
    "part of a dataset": lambda: datasets.Dataset.from_list(ROWS[::-1]).select(range(6, -1, -1)),
    "dataset with a format": lambda: datasets.Dataset.from_list(ROWS).with_format("numpy"),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_frames_are_tables(frame):
    table = files.open_table(FRAMES[frame]())
    assert prompts_in(table) == PROMPTS
    assert [row["n"] for row in table.rows(3, only=["n"])] == [3, 4, 5, 6]
    assert table.columns == ["prompt", "n"]


@pytest.mark.parametrize("thing", [7, None, [1], {"train": datasets.Dataset.from_list(ROWS)}])
def test_anything_else_is_not_a_table(thing):
    with pytest.raises(InputError, match="is not a table"):
        files.open_table(thing)
    with pytest.raises(InputError, match="is not one table"):
        files.open_table(datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)))


def from_standard_input(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


TEXTS = ("jsonl", "json", "csv", "tsv")
INPUTS = [*((form, codec) for form in TEXTS for codec in (None, "gzip", "zstd")), ("parquet", None), ("arrow", None)]


@pytest.mark.parametrize(("form", "codec"), INPUTS)
def test_standard_input_is_known_by_its_first_bytes(tmp_path, monkeypatch, form, codec):
    data = table_of(form, ROWS, tmp_path).read_bytes()
    if codec is not None:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        data = sink.getvalue().to_pybytes()
    from_standard_input(monkeypatch, data)
    table = files.open_table("-")
    assert prompts_in(table) == prompts_in(table) == PROMPTS
    assert table.name == "standard input"


def test_rows_of_standard_input_need_no_table_that_is_held(tmp_path, monkeypatch):
    for form in ("jsonl", "csv"):
        from_standard_input(monkeypatch, table_of(form, ROWS, tmp_path).read_bytes())
        assert [row["prompt"] for row in files.rows("-", only=["prompt"])] == PROMPTS


def test_what_is_no_table_on_standard_input_is_one_message(monkeypatch):
    for data, says in ((b"", "standard input is empty"), (b"\x1f\x8b\x08", "not a whole gzip file")):
        from_standard_input(monkeypatch, data)
        with pytest.raises(InputError, match=says):
            list(files.rows("-"))


def test_a_stream_of_arrow_is_read_from_standard_input(monkeypatch):
    sink = io.BytesIO()
    table = pa.table({"prompt": PROMPTS})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    from_standard_input(monkeypatch, sink.getvalue())
    assert prompts_in(files.open_table("-")) == PROMPTS


def test_the_rows_of_a_frame_are_those_of_its_file(tmp_path):
    (tmp_path / "t.csv").write_text(separated([{"prompt": prompt} for prompt in PROMPTS]))
    assert prompts_in(pd.read_csv(tmp_path / "t.csv")) == prompts_in(tmp_path / "t.csv")
