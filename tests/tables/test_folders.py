"""Folders as tables: parts of one format, some of which may have no row, and splits that are never mixed."""

from __future__ import annotations

import gzip
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_forms import table_of

from prefdata.errors import InputError
from prefdata.hub import find_table
from prefdata.tables import files

ROWS = [{"prompt": f"Q{number}", "n": number} for number in range(5)]
PROMPTS = [row["prompt"] for row in ROWS]


def prompts_in(where, **asked):
    return [row["prompt"] for row in find_table(where, **asked).table.rows(only=["prompt"])]


def put(folder, name, rows=ROWS):
    """Writes rows as a file of this name; one of Arrow has a schema without rows, too."""
    path, form = folder / name, name.removesuffix(".gz").rpartition(".")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    if rows or form not in ("parquet", "arrow"):
        table_of(form, rows, path.parent).rename(path)
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS)[:0], path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, pa.Table.from_pylist(ROWS).schema):
            pass
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


# One table in several formats.


@pytest.mark.parametrize("second", ["parquet", "csv", "json", "ndjson", "jsonl.gz"])
@pytest.mark.parametrize("stem", ["train", "test", "train-00000-of-00001", "part-0", "data/train"])
@pytest.mark.parametrize("named", [True, False])
def test_the_same_rows_in_two_formats_are_never_read_twice(tmp_path, second, stem, named):
    put(tmp_path, f"{stem}.jsonl")
    if second == "ndjson":
        (tmp_path / f"{stem}.ndjson").write_bytes((tmp_path / f"{stem}.jsonl").read_bytes())
    else:
        put(tmp_path, f"{stem}.{second}")
    split = ("test" if stem == "test" else "part" if stem == "part-0" else "train") if named else None
    with pytest.raises(InputError, match="holds tables of several formats"):
        prompts_in(tmp_path, split=split)


@pytest.mark.parametrize("second", ["parquet", "csv"])
def test_of_a_folder_as_the_hub_has_it_one_format_is_read_as_load_dataset_does(tmp_path, second):
    put(tmp_path, "default/train/0.jsonl")
    put(tmp_path, f"default/train/0.{second}")
    assert prompts_in(tmp_path) == PROMPTS
    put(tmp_path, "default/train/0.json")
    (tmp_path / f"default/train/0.{second}").unlink()
    with pytest.raises(InputError, match="holds tables of several formats"):
        prompts_in(tmp_path)


def test_splits_may_have_formats_of_their_own(tmp_path):
    put(tmp_path, "train.jsonl", ROWS[:2])
    put(tmp_path, "test.parquet", ROWS[2:])
    assert (prompts_in(tmp_path), prompts_in(tmp_path, split="test")) == (PROMPTS[:2], PROMPTS[2:])


# Splits that are not read.


CARD = """---
configs:
- config_name: default
  data_files: [{split: train, path: a.jsonl}, {split: held_out, path: b.jsonl}]
---
"""
PLACES = {
    "train and test": ("train.jsonl", "test.jsonl", None, "test"),
    "train and another": ("train.parquet", "extra.parquet", None, "extra"),
    "data": ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", None, "test"),
    "as the Hub has it": ("default/train/0000.parquet", "default/test/0000.parquet", None, "test"),
    "a card": ("a.jsonl", "b.jsonl", CARD, "held_out"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_table_knows_the_splits_that_are_not_read(tmp_path, place):
    train, other, card, name = PLACES[place]
    put(tmp_path, train, ROWS[:3])
    put(tmp_path, other, ROWS[3:])
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    table = find_table(tmp_path).table
    assert (table.other_splits, prompts_in(tmp_path)) == ((name,), PROMPTS[:3])
    table = find_table(tmp_path, split=name).table
    assert (table.other_splits, prompts_in(tmp_path, split=name)) == (("train",), PROMPTS[3:])


def test_a_saved_dataset_knows_the_splits_that_are_not_read(tmp_path):
    parts = {name: datasets.Dataset.from_list(ROWS) for name in ("train", "test", "dev")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    assert find_table(tmp_path / "set").table.other_splits == ("test", "dev")
    parts["train"].save_to_disk(tmp_path / "one")
    assert find_table(tmp_path / "one").table.other_splits == ()


@pytest.mark.parametrize(
    "names", [["train.jsonl"], ["test.jsonl"], ["part-0.jsonl", "part-1.jsonl"], ["a.csv", "b.csv"]]
)
def test_where_all_is_read_there_is_no_other_split(tmp_path, names):
    for name in names:
        put(tmp_path, name)
    assert find_table(tmp_path).table.other_splits == ()
    assert prompts_in(tmp_path) == PROMPTS * len(names)


# Parts without rows.


EMPTY = {
    "parquet": [None],
    "arrow": [None],
    "jsonl": [b"", b"\n \n"],
    "jsonl.gz": [gzip.compress(b"")],
    "json": [b"", b"[]", b"[ ]\n"],
    "csv": [b"", b"prompt,n\n", b"prompt,n\n\n", b"prompt,n"],
    "csv.gz": [gzip.compress(b""), gzip.compress(b"prompt,n\n")],
    "tsv": [b"", b"prompt\tn\n"],
}
"""Ending → the parts without rows that programs write; None is a schema without rows."""
CASES = [(form, content) for form, contents in EMPTY.items() for content in contents]


def put_empty(folder, name, form, content):
    if content is None:
        return put(folder, f"{name}.{form}", [])
    path = folder / f"{name}.{form}"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("form", "content"), CASES)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("stem", ["part", "train"])
def test_a_part_without_rows_is_no_rows_wherever_it_is(tmp_path, form, content, place, stem):
    full = iter((ROWS[:2], ROWS[2:]))
    for number in range(3):
        if number == place:
            put_empty(tmp_path, f"{stem}-{number}", form, content)
        else:
            put(tmp_path, f"{stem}-{number}.{form}", next(full))
    assert prompts_in(tmp_path) == prompts_in(f"{tmp_path}/*-*.{form}") == PROMPTS
    table = find_table(tmp_path).table
    assert table.columns == ["prompt", "n"]
    assert table.n_bytes(["prompt"]) > 0
    if form in ("parquet", "arrow"):
        assert sum(batch.num_rows for batch in table.batches(["prompt"], 10)) == 5


@pytest.mark.parametrize(("form", "content"), CASES)
@pytest.mark.parametrize("count", [1, 2])
def test_a_table_without_any_row_is_refused(tmp_path, form, content, count):
    for number in range(count):
        path = put_empty(tmp_path, f"part-{number}", form, content)
    where = tmp_path if count > 1 else path
    with pytest.raises(InputError, match=r"has no rows|the file is empty|a header but no rows|has no header"):
        prompts_in(where)


@pytest.mark.parametrize("form", ["parquet", "arrow", "jsonl.gz"])
def test_a_part_that_was_cut_to_nothing_is_not_without_rows(tmp_path, form):
    put(tmp_path, f"part-0.{form}")
    (tmp_path / f"part-1.{form}").touch()
    with pytest.raises(InputError, match=r"part-1.*the file is empty"):
        prompts_in(tmp_path)


def test_a_part_without_rows_needs_no_columns_of_the_table(tmp_path):
    put(tmp_path, "part-0.csv")
    (tmp_path / "part-1.csv").write_text("other\n")
    pq.write_table(
        pa.table({"prompt": pa.nulls(0)}), put(tmp_path / "typed", "part-0.parquet").with_name("part-1.parquet")
    )
    assert prompts_in(tmp_path) == prompts_in(tmp_path / "typed") == PROMPTS
    assert find_table(tmp_path / "typed").table.schema is not None


def test_a_saved_part_without_rows_is_no_rows(tmp_path):
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(tmp_path / "set")
    state = tmp_path / "set" / "state.json"
    put(tmp_path / "set", "empty.arrow", [])
    listed = json.loads(state.read_text())
    listed["_data_files"].insert(0, {"filename": "empty.arrow"})
    state.write_text(json.dumps(listed))
    assert prompts_in(tmp_path / "set") == PROMPTS
    assert files.open_table(tmp_path / "set").columns == ["prompt", "n"]
