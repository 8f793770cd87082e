"""Folders are read as `load_dataset` reads them, and never several configurations or splits as one."""

from __future__ import annotations

import json

import pytest
from published import row, written

from prefdata import load, replay
from prefdata.errors import InputError
from prefdata.hub import CARDS, find_tables, shown_files
from prefdata.pairing import BestVsWorst

RIGHT = [row(n, ["bad", "good"], [0.1, 0.9]) for n in range(10)]
WRONG = [row(n, ["bad", "good"], [0.1, 0.9], (0, 1)) for n in range(100, 104)]
"""What the rule makes, and the opposite: a mixture of both shows."""

CARD = """---
configs:
- config_name: en
  data_files:
  - split: train
    path: [one/*.parquet, two/part.parquet]
  - split: held_out
    path: "other/*"
- config_name: fr
  default: true
  data_dir: french
---
"""

LAYOUTS = {
    "parts": ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
    "parts with a digest": ["data/train-00000-of-00001-0a1b.parquet", "data/test-00000-of-00001-0a1b.parquet"],
    "splits of other names": ["data/train_prefs-00000-of-00001.parquet", "data/test_gen-00000-of-00001.parquet"],
    "split folders": ["train/0000.parquet", "test/0000.parquet"],
    "split folders below data": ["data/train/a.parquet", "data/validation/b.parquet"],
    "an export": ["default/train/0000.parquet", "default/test/0000.parquet"],
    "names with splits": ["my-train.jsonl", "my_test.jsonl", "dev.jsonl"],
    "one file": ["pairs.jsonl"],
    "two formats": ["a.jsonl", "b.jsonl", "c.csv"],
    "shards": ["shard-1.jsonl", "shard-2.jsonl"],
    "other files beside": ["train.jsonl", "LICENSE", "config.json", ".hidden/train.jsonl", "__pycache__/train.jsonl"],
    "a card": ["one/a.parquet", "one/b.parquet", "two/part.parquet", "two/not.parquet", "other/c.parquet",
               "french/train.parquet", "french/test.parquet"],
}  # fmt: skip


def folder(where, names, card=None):
    for name in names:
        if name.endswith((".parquet", ".jsonl")):
            written(where / name, RIGHT)
        else:
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            (where / name).write_text("a,b\n1,2\n")
    if card is not None:
        (where / "README.md").write_text(card)
    return where


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_files_of_each_split_are_those_of_load_dataset(tmp_path, kind):
    from datasets import get_dataset_config_names, load_dataset_builder

    where = folder(tmp_path / "set", LAYOUTS[kind], CARD if kind == "a card" else None)
    for config in get_dataset_config_names(str(where)):
        expected = load_dataset_builder(str(where), config, cache_dir=str(tmp_path / "cache")).config.data_files
        found = find_tables(where, config=config)
        assert {split: [str(file) for file in files] for split, files in found.splits.items()} == {
            str(split): list(files) for split, files in expected.items()
        }, config


def test_the_standalone_file_is_above_the_card_in_whatever_order_they_are_given(tmp_path):
    from datasets import get_dataset_config_names, load_dataset_builder

    where = folder(
        tmp_path / "set", ["a.jsonl", "b.jsonl"], "---\nconfigs: [{config_name: a, data_files: a.jsonl}]\n---\n"
    )
    (where / ".huggingface.yaml").write_text("configs: [{config_name: b, data_files: b.jsonl}]\n")
    assert get_dataset_config_names(str(where)) == ["b"]
    real = load_dataset_builder(str(where), cache_dir=str(tmp_path / "cache")).config.data_files
    for order in (CARDS, CARDS[::-1]):
        cards = {name: (where / name).read_text() for name in order}
        shown = shown_files(["a.jsonl", "b.jsonl"], cards, "a set")
        assert {name: list(splits) for name, splits in shown.configs.items()} == {"b": ["train"]}
        assert [str(where / name) for name in shown.configs["b"]["train"]] == list(real["train"])


def test_two_splits_are_never_one_number(tmp_path):
    written(tmp_path / "default/train/0000.parquet", RIGHT)
    written(tmp_path / "default/test/0000.parquet", WRONG)
    whole = replay(tmp_path, BestVsWorst())
    assert (whole.split, whole.other_splits, whole.pairs, whole.share) == ("train", ("test",), 10, 1.0)
    for split, pairs, share in (("train", 10, 1.0), ("test", 4, 0.0)):
        report = replay(tmp_path, BestVsWorst(), split=split)
        assert (report.split, report.pairs, report.share) == (split, pairs, share)
    with pytest.raises(InputError, match=r"no split 'validation'\n  valid: splits: train, test"):
        replay(tmp_path, BestVsWorst(), split="validation")


@pytest.mark.parametrize(
    ("english", "french"),
    [
        ("en/train-00000-of-00001.parquet", "fr/train-00000-of-00001.parquet"),
        ("en/train/0000.parquet", "fr/train/0000.parquet"),
        ("en/train.jsonl", "fr/train.jsonl"),
        ("en/a.jsonl", "fr/a.jsonl"),
        ("data/en/train-00000-of-00001.parquet", "data/fr/train-00000-of-00001.parquet"),
    ],
)
def test_two_configurations_are_never_one_number(tmp_path, prefdata, english, french):
    written(tmp_path / english, RIGHT)
    written(tmp_path / french, WRONG)
    names = [name.rpartition("/" if name.endswith(("l", "001.parquet")) else "/train")[0] for name in (english, french)]
    for command in (("replay", tmp_path, "--rule", "best_vs_worst"), ("inspect", tmp_path), ("audit", tmp_path)):
        said = prefdata(*command)
        assert (said.code, said.out) == (2, ""), command
        assert f"configurations: {names[0]}, {names[1]}" in said.err
        assert "--config NAME" in said.err
    with pytest.raises(InputError, match="several configurations"):
        load(tmp_path)
    for name, pairs, share in ((names[0], 10, 1.0), (names[1], 4, 0.0)):
        said = prefdata("replay", tmp_path, "--rule", "best_vs_worst", "--config", name, "--json")
        report = json.loads(said.out)
        assert (report["config"], report["pairs"], report["share"]) == (name, pairs, share)
        assert len(load(tmp_path, config=name).to("polars").pairs) == pairs


def test_a_card_names_configurations_and_a_default(tmp_path):
    where = folder(tmp_path, LAYOUTS["a card"], CARD)
    assert (replay(where, BestVsWorst()).config, replay(where, BestVsWorst()).pairs) == ("fr", 10)
    english = replay(where, BestVsWorst(), config="en")
    assert (english.config, english.split, english.other_splits, english.pairs) == ("en", "train", ("held_out",), 30)
    with pytest.raises(InputError, match="no configuration 'de'"):
        replay(where, BestVsWorst(), config="de")


@pytest.mark.parametrize("path", ["/etc/*", "../secret.jsonl", "https://127.0.0.1:9/a", "zip://a::/tmp/a.zip", "~/a"])
@pytest.mark.parametrize("command", ["inspect", "audit", "replay"])
def test_a_card_that_names_files_elsewhere_is_refused(tmp_path, prefdata, path, command):
    written(tmp_path / "secret.jsonl", RIGHT)
    where = folder(tmp_path / "set", ["a.jsonl"], f"---\nconfigs:\n- config_name: x\n  data_files: {path!r}\n---\n")
    said = prefdata(command, where, *(("--rule", "best_vs_worst") if command == "replay" else ()))
    assert (said.code, said.out) == (2, "")
    assert "outside its repository" in said.err
    with pytest.raises(InputError, match="outside its repository"):
        load(where)


def test_a_table_that_is_a_link_out_of_its_folder_is_refused(tmp_path):
    written(tmp_path / "secret.jsonl", RIGHT)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(InputError, match="leads out of its folder"):
        replay(tmp_path / "set", BestVsWorst())


def test_one_file_has_neither_configuration_nor_split(tmp_path, prefdata):
    table = written(tmp_path / "t.jsonl", RIGHT)
    for option in ("--config", "--split"):
        said = prefdata("replay", table, "--rule", "best_vs_worst", option, "x")
        assert (said.code, f"leave {option} out" in said.err) == (2, True)
