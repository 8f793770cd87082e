"""An unchanged dataset verifies, however it was made and however it is read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from forgery import recipe, rewrite, rows, with_hashes_made_again, write_tables

from prefdata.errors import InputError
from prefdata.flow.build import build
from prefdata.publish.card.pictures import PICTURES
from prefdata.tables.schemas import ANSWERS
from prefdata.verification import _tables, verify


def test_a_build_verifies_whole(built, dataset):
    for where in (built, dataset):
        report = verify(where)
        assert (report.holds, report.not_checked, report.mismatches) == (True, [], [])
        assert "every pair, split and drop, rebuilt from the answers" in report.checked


def test_the_fixture_has_something_of_everything(dataset):
    drops = {row["reason"] for row in rows(dataset / "drops.parquet")}
    unfit = {row["reason"] for row in rows(dataset / "drops_candidates.parquet")}
    assert drops >= {"duplicate", "blank", "too_few_candidates", "no_contrast"}
    assert unfit >= {"blank", "cut_off", "unscored", "no_completion"}
    details = [row["detail"] for row in rows(dataset / "drops.parquet")]
    assert "0 of 0 candidates eligible" in details
    assert len(rows(dataset / "data/test-00000-of-00001.parquet")) > 5


def test_a_picture_of_a_person_under_the_name_of_ours_is_not_a_difference(tmp_path, dataset):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    card = (copy / "README.md").read_text()
    for name in PICTURES:
        if f"]({name})" in card:
            card = "".join(line for line in card.splitlines(keepends=True) if f"]({name})" not in line)
        (copy / name).write_text("<svg>mine</svg>")
    (copy / "README.md").write_text(card)
    with_hashes_made_again(copy)
    manifest = json.loads((copy / "prefdata.manifest.json").read_text())
    for name in PICTURES:
        manifest["files"].pop(name, None)
    (copy / "prefdata.manifest.json").write_text(json.dumps(manifest))
    report = verify(copy)
    assert report.not_checked == [f"{name}: not a file of prefdata" for name in PICTURES]
    assert report.mismatches == []
    (copy / "README.md").write_text(f"{card}\n![streams](flow.svg)\n")
    assert "picture" in verify(copy).counts


@pytest.mark.parametrize(("batch", "chunk"), [(1, 1), (3, 4), (7, 50)])
def test_where_rows_are_cut_makes_no_difference(dataset, monkeypatch, batch, chunk):
    monkeypatch.setattr(_tables, "_BATCH", batch)
    monkeypatch.setattr(_tables, "_CHUNK", chunk)
    assert verify(dataset).holds


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": {"kind": "trl", "test_size": 0}},
        {"dataset": {"kind": "trl", "test_size": 1000}},
        {"pairs": {"kind": "ultrafeedback_binarized", "seed": 3}},
        {"pairs": {"kind": "wpo_hybrid_v1", "threshold": 4, "length": "bytes", "admit": ["blank", "cut_off"]}},
        {"pairs": {"kind": "dno", "teacher": ["teacher"], "threshold": 2}},
        {"backfill": {"kind": "published_pairs", "name": "published", "path": "published.jsonl"}},
        {"pairs": {"kind": "best_vs_worst", "label": {"kind": "margin", "temperature": 2}}},
    ],
    ids=["no-test", "all-test", "random", "admit", "several-pairs", "backfill", "label"],
)
def test_other_rules_and_splits_verify(tmp_path, monkeypatch, changes):
    write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    made = build(recipe(**changes), "build")
    assert made.ledger["pairs"] > 10
    report = verify("build")
    assert (report.mismatches, report.not_checked) == ([], [])


def test_the_manifest_lists_every_other_file_as_it_is(dataset):
    listed = json.loads((dataset / "prefdata.manifest.json").read_text("utf-8"))
    with_hashes_made_again(dataset)
    assert listed == json.loads((dataset / "prefdata.manifest.json").read_text("utf-8"))
    assert len(listed["files"]) == 12


def test_the_answers_are_published_sorted_with_features_beside_the_default_configuration(dataset):
    file = dataset / "candidates/train-00000-of-00001.parquet"
    table_rows = rows(file)
    assert pq.read_schema(file).names == ANSWERS.names
    keys = [(row["prompt_id"], row["source"], row["index"]) for row in table_rows]
    assert keys == sorted(keys)
    assert len({row["prompt_id"] for row in table_rows}) == 57
    assert all((row["score"] is None) == (row["unscored"] is not None) for row in table_rows)
    assert {row["unscored"] for row in table_rows} == {None, "missing"}
    assert all(
        hashlib.sha256(row["prompt"][0]["content"].encode()).hexdigest() == row["prompt_id"] and len(row["prompt"]) == 1
        for row in table_rows
    )
    program = """
import json, sys
from datasets import load_dataset
pairs, answers = load_dataset(sys.argv[1]), load_dataset(sys.argv[1], "candidates")
told = {name: [list(found[name].features), len(found[name])] for found in (pairs, answers) for name in found}
print(json.dumps([{n: len(pairs[n]) for n in pairs}, {n: [len(answers[n]), answers[n].column_names] for n in answers}]))
"""
    env = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(dataset.parent),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run([sys.executable, "-c", program, str(dataset)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pairs, answers = json.loads(done.stdout.splitlines()[-1])
    assert pairs == {name: len(rows(dataset / f"data/{name}-00000-of-00001.parquet")) for name in ("train", "test")}
    assert answers == {"train": [len(table_rows), ANSWERS.names]}


def test_a_dataset_without_its_answers_is_checked_as_far_as_that_goes(dataset):
    (dataset / "candidates/train-00000-of-00001.parquet").unlink()
    card = (dataset / "README.md").read_text("utf-8")
    config = "- config_name: candidates\n  data_files:\n  - split: train\n    path: candidates/train-*.parquet\n"
    assert config in card
    (dataset / "README.md").write_text(card.replace(config, ""), "utf-8")
    report = verify(with_hashes_made_again(dataset))
    assert report.mismatches == []
    assert any("no usable answers" in what for what in report.not_checked)

    rewrite(dataset / "data/train-00000-of-00001.parquet", lambda table: table[0].update(length_chosen=1))
    report = verify(with_hashes_made_again(dataset))
    assert [(table_rows.what, table_rows.field) for table_rows in report.mismatches] == [("field", "length_chosen")]


def test_what_is_no_dataset_is_one_message(tmp_path):
    (tmp_path / "file").write_text("x")
    for where in (tmp_path, tmp_path / "file", tmp_path / "nowhere", "no where/at all"):
        with pytest.raises(InputError):
            verify(where)
