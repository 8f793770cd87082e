"""`verify --table` reads what `prefdata pair` read, wherever the table is: the recipe says configuration and split."""

from __future__ import annotations

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forgery import rewrite_json, with_hashes_made_again

datasets.disable_progress_bars()
CARD = """---
configs:
- config_name: one
  default: true
  data_files: [{split: train, path: x/a.parquet}, {split: test, path: x/b.parquet}]
- config_name: two
  data_files: [{split: train, path: x/c.parquet}]
---
"""


def rows(name):
    """Rows of which each table has its own."""
    return [
        {"prompt": f"{name} {number % 3}", "response": f"{name} {number}", "score": float(number)}
        for number in range(9)
    ]


def put(folder, *names, card=None):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows(name)))
        else:
            pq.write_table(pa.Table.from_pylist(rows(name)), path)
    if card is not None:
        (folder / "README.md").write_text(card)
    return folder


def saved(folder):
    parts = {name: datasets.Dataset.from_list(rows(name)) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(folder)
    return folder


PLACES = {
    "splits": (lambda folder: put(folder, "train.jsonl", "test.jsonl"), ("train", "test"), ()),
    "splits in data": (lambda folder: put(folder, "data/train-0.parquet", "data/dev-0.parquet"), ("train", "dev"), ()),
    "shards": (lambda folder: put(folder, "part-0.parquet", "part-1.parquet"), (), ()),
    "pattern": (lambda folder: f"{put(folder, 'a/1.parquet', 'b/2.parquet')}/**/*.parquet", (), ()),
    "saved splits": (saved, ("train", "test"), ()),
    "as the Hub has it": (
        lambda folder: put(folder, "default/train/0000.parquet", "default/test/0000.parquet"), ("train", "test"), ()),
    "configurations": (
        lambda folder: put(folder, "en/train/0.parquet", "fr/train/0.parquet", "fr/test/0.parquet"),
        ("train",), ("en", "fr")),
    "card": (
        lambda folder: put(folder, "x/a.parquet", "x/b.parquet", "x/c.parquet", card=CARD), ("train",), ("one", "two")),
    "file": (lambda folder: put(folder, "train.jsonl") / "train.jsonl", (), ()),
}  # fmt: skip
CASES = [
    (place, config, split)
    for place, (_, splits, configs) in PLACES.items()
    for config in (configs if place == "configurations" else (None, *configs))
    for split in (None, *splits)
]


@pytest.fixture
def paired(prefdata, tmp_path):
    def run(table, config=None, split=None):
        options = [f"--{name}={value}" for name, value in (("config", config), ("split", split)) if value is not None]
        said = prefdata("pair", table, "--rule", "best_vs_worst", "--out", tmp_path / "out", *options)
        assert said.code == 0, said.err
        return tmp_path / "out"

    return run


@pytest.fixture
def verified(prefdata):
    def run(folder, table):
        said = prefdata("verify", folder, "--table", table, "--json")
        assert said.err == ""
        return json.loads(said.out)

    return run


@pytest.mark.parametrize(("place", "config", "split"), CASES)
def test_the_table_of_pair_is_the_table_of_verify(tmp_path, paired, verified, place, config, split):
    table = PLACES[place][0](tmp_path / "table")
    folder = paired(table, config, split)
    report = verified(folder, table)
    assert (report["mismatches"], report["not_checked"]) == ([], [])
    assert "the table, by its hash in the lock" in report["checked"]
    recipe = json.loads((folder / "recipe.json").read_text())
    given = {name: value for name, value in (("config", config), ("split", split)) if value is not None}
    assert {name: recipe[name] for name in ("config", "split") if name in recipe} == given


def test_the_one_file_that_was_read_is_the_table_too(tmp_path, paired, verified):
    table = put(tmp_path / "table", "en/train/0.parquet", "fr/train/0.parquet", "fr/test/0.parquet")
    folder = paired(table, "fr", "test")
    assert verified(folder, table / "fr/test/0.parquet")["mismatches"] == []
    assert verified(folder, f"{table}/fr/test/*.parquet")["mismatches"] == []
    assert verified(folder, table / "fr/train/0.parquet")["mismatches"] != []


def test_a_dataset_that_does_not_say_its_split_is_verified_with_the_one_that_is_read_without(
    tmp_path, paired, verified
):
    table = put(tmp_path / "table", "train.jsonl", "test.jsonl")
    folder = paired(table, split="test")
    rewrite_json(folder / "recipe.json", lambda recipe: recipe.pop("split"))
    assert {each["what"] for each in verified(with_hashes_made_again(folder), table)["mismatches"]} >= {"table"}
    folder = paired(table, split="train")
    rewrite_json(folder / "recipe.json", lambda recipe: recipe.pop("split"))
    assert verified(with_hashes_made_again(folder), table)["mismatches"] == []


@pytest.mark.parametrize("name", ["config", "split"])
def test_a_recipe_with_another_thing_for_a_name_is_a_mismatch(tmp_path, paired, verified, name):
    table = put(tmp_path / "table", "train.jsonl", "test.jsonl")
    folder = paired(table)
    rewrite_json(folder / "recipe.json", lambda recipe: recipe.update({name: ["test"]}))
    found = verified(with_hashes_made_again(folder), table)["mismatches"]
    assert [each["what"] for each in found] == ["recipe"]


@pytest.mark.parametrize(("name", "says"), [("config", "no configuration 'x'"), ("split", "no split 'x'")])
def test_a_table_without_what_the_recipe_names_is_one_message(tmp_path, paired, prefdata, name, says):
    table = put(tmp_path / "table", "train.jsonl", "test.jsonl")
    folder = paired(table)
    rewrite_json(folder / "recipe.json", lambda recipe: recipe.update({name: "x"}))
    said = prefdata("verify", with_hashes_made_again(folder), "--table", table)
    assert (said.code, said.out) == (2, "")
    assert says in said.err
