"""Every verb that takes a table takes it from every place that a table may come from."""

from __future__ import annotations

import gzip
import io
import json
import sys

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import prefdata
from prefdata.errors import InputError

datasets.disable_progress_bars()
ROW = {"chosen": "b", "rejected": "a", "all_generated_responses": ["a", "b"], "all_rm_scores": [1.0, 2.0]}
ROWS = [{"prompt": f"q{at}", **ROW} for at in range(3)]
HELD_OUT = [{"prompt": "held out", **ROW}]
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/one.parquet
  - split: test
    path: data/other.parquet
---
"""


def write(path, rows=ROWS):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), path)


def saved(folder):
    datasets.Dataset.from_list(ROWS).save_to_disk(folder)
    return folder


def saved_splits(folder):
    parts = {"train": ROWS, "test": HELD_OUT}
    datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in parts.items()}).save_to_disk(folder)
    return folder


def shards(folder):
    write(folder / "part-0.parquet", ROWS[:2])
    write(folder / "part-1.parquet", ROWS[2:])
    return folder


def with_an_empty_part(folder):
    write(shards(folder) / "part-2.parquet", pa.Table.from_pylist(ROWS)[:0])
    return folder


def with_empty_lines(folder):
    lines(folder).rename(folder / "part-1.jsonl")
    (folder / "part-0.jsonl").touch()
    return folder


def converted(folder):
    write(folder / "default" / "train" / "0000.parquet")
    write(folder / "default" / "test" / "0000.parquet", HELD_OUT)
    return folder


def with_card(folder):
    write(folder / "data" / "one.parquet")
    write(folder / "data" / "other.parquet", HELD_OUT)
    (folder / "README.md").write_text(CARD)
    return folder


def lines(folder):
    folder.mkdir()
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder / "t.jsonl"


def zipped(folder):
    path = lines(folder)
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    return path.with_suffix(".jsonl.gz")


PLACES = {
    "saved": saved,
    "saved splits": saved_splits,
    "shards": shards,
    "a part without rows": with_an_empty_part,
    "a part without bytes": with_empty_lines,
    "pattern": lambda folder: f"{shards(folder)}/part-*.parquet",
    "deep pattern": lambda folder: f"{converted(folder)}/**/train/*.parquet",
    "converted": converted,
    "card": with_card,
    "zipped": zipped,
    "standard input": lambda folder: lines(folder) and "-",
    "frame": lambda folder: datasets.Dataset.from_list(ROWS),
}
SPLITS = ("saved splits", "converted", "card")
"""Places that have a test split too."""


@pytest.mark.parametrize("place", PLACES)
def test_a_table_is_the_same_for_every_verb(tmp_path, monkeypatch, capsys, place):
    where = PLACES[place](tmp_path / "place")

    def read(verb, *arguments, **options):
        if where == "-":
            text = (tmp_path / "place" / "t.jsonl").read_bytes()
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        return verb(where if isinstance(where, datasets.Dataset) else str(where), *arguments, **options)

    several = place in SPLITS
    replayed = read(prefdata.replay, "best_vs_worst")
    assert (replayed.pairs, replayed.reproduced) == (3, 3)
    assert read(prefdata.audit).splits == {"train": 3, **({"test": 1} if several else {})}
    assert len(read(prefdata.load).pairs) == (4 if several else 3)
    assert read(prefdata.inspect).pairs == (4 if several else 3)
    ledger = read(prefdata.pair, "best_vs_worst", tmp_path / "out")
    assert (ledger["prompts"], ledger["pairs"]) == (3, 3)
    [outcome] = read(prefdata.what_if, "best_vs_worst")
    assert (outcome.prompts, outcome.pairs) == (3, 3)
    if several:
        assert read(prefdata.what_if, "best_vs_worst", split="test")[0].prompts == 1
        assert read(prefdata.replay, "best_vs_worst", split="test").pairs == 1
        ledger = read(prefdata.pair, "best_vs_worst", tmp_path / "out", split="test", replace=True)
        assert ledger["prompts"] == 1


def test_several_configurations_are_a_choice_for_every_verb(tmp_path):
    for config, rows in (("en", ROWS), ("fr", HELD_OUT)):
        write(tmp_path / "two" / config / "train" / "0000.parquet", rows)
    where = tmp_path / "two"

    def pair(table, **options):
        return prefdata.pair(table, "best_vs_worst", tmp_path / "out", **options)

    def replay(table, **options):
        return prefdata.replay(table, "best_vs_worst", **options)

    def what_if(table, **options):
        return prefdata.what_if(table, "best_vs_worst", **options)[0]

    for verb in (prefdata.audit, prefdata.load, prefdata.inspect, replay, pair, what_if):
        with pytest.raises(InputError, match="several configurations and no default one"):
            verb(where)
    assert pair(where, config="fr")["prompts"] == replay(where, config="fr").pairs == 1
    assert what_if(where, config="fr").prompts == 1


@pytest.mark.parametrize("names", [["../other"], ["/"], [".."], [7], "train", []])
def test_the_splits_of_a_saved_folder_are_folders_in_it(tmp_path, names):
    saved(tmp_path / "other")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "dataset_dict.json").write_text(json.dumps({"splits": names}))
    for verb in (prefdata.audit, lambda where: prefdata.pair(where, "best_vs_worst", tmp_path / "out")):
        with pytest.raises(InputError, match="does not list its splits as `save_to_disk` does"):
            verb(tmp_path / "place")


@pytest.mark.parametrize("name", ["train.parquet", "[ab]-0.parquet", "train-0-of-1.parquet"])
def test_pairs_that_we_wrote_are_found_under_other_names(tmp_path, name):
    prefdata.pair(saved(tmp_path / "table"), "best_vs_worst", tmp_path / "out")
    [file] = (tmp_path / "out" / "data").iterdir()
    file.rename(file.with_name(name))
    assert sum(prefdata.audit(tmp_path / "out").splits.values()) == 3
    assert len(prefdata.load(tmp_path / "out").pairs) == prefdata.inspect(tmp_path / "out").pairs == 3


def test_of_a_saved_folder_only_the_split_that_is_asked_for_is_read(tmp_path):
    where = saved_splits(tmp_path / "place")
    for file in (where / "test").iterdir():
        file.unlink()
    assert prefdata.pair(where, "best_vs_worst", tmp_path / "out")["prompts"] == 3
    assert prefdata.replay(where, "best_vs_worst", split="train").pairs == 3
    with pytest.raises(InputError, match=r"state\.json"):
        prefdata.audit(where)


@pytest.mark.parametrize("where", ["none*.csv", "[x].parquet"])
def test_a_pattern_of_no_file_is_one_message_for_every_verb(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    for verb in (
        prefdata.audit,
        prefdata.load,
        prefdata.inspect,
        lambda table: prefdata.replay(table, "best_vs_worst"),
    ):
        with pytest.raises(InputError, match="no file matches"):
            verb(where)
