"""`prefdata pair`: what was recognised is said, a dry run writes nothing, and frames are tables."""

from __future__ import annotations

import json

import pandas as pd
import polars as pl
import pytest

import prefdata
from prefdata import pair
from prefdata.errors import InputError

ROWS = [
    {
        "source": "evol_instruct",
        "instruction": f"Question {number}?",
        "completions": [
            {"response": "Good.", "overall_score": 8.0, "model": "a"},
            {"response": "Bad.", "overall_score": 2.0, "model": "b"},
        ],
    }
    for number in range(4)
]
READ_AS = (
    "read as: UltraFeedback completions (prompt=instruction, response=completions.response, "
    "score=completions.overall_score, source=completions.model, model=completions.model)\n"
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_a_recognised_shape_is_said_on_stderr_and_on_the_card_and_verifies(prefdata, table, tmp_path):
    said = prefdata("pair", table, "--rule", "best_vs_worst", "--out", tmp_path / "out", "--json")
    assert (said.code, said.err) == (0, READ_AS)
    assert json.loads(said.out)["pairs"] == 4
    assert "Read as: UltraFeedback completions" in (tmp_path / "out" / "README.md").read_text()
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["columns"]["score"] == "completions.overall_score"
    verified = prefdata("verify", tmp_path / "out", "--table", table)
    assert verified.code == 0, verified.err


def test_a_dry_run_shows_the_first_prompts_and_writes_nothing(prefdata, table, tmp_path):
    before = sorted(tmp_path.iterdir())
    said = prefdata("pair", table, "--dry-run", "--json")
    assert (said.code, said.err) == (0, READ_AS)
    shown = json.loads(said.out)
    assert shown["columns"]["prompt"] == "instruction"
    assert [prompt["messages"] for prompt in shown["prompts"]] == [
        [{"role": "user", "content": f"Question {number}?"}] for number in range(3)
    ]
    assert [(a["source"], a["index"], a["score"], a["response"]) for a in shown["prompts"][0]["answers"]] == [
        ("a", 0, 8.0, "Good."),
        ("b", 1, 2.0, "Bad."),
    ]
    page = prefdata("pair", table, "--dry-run")
    assert page.code == 0
    assert "  user      Question 0?\n  answer    [8, a 0] Good.\n  answer    [2, b 1] Bad.\n" in page.out
    last = page.out.partition("nothing was written\n\n")[2]
    assert last.startswith("Next:    prefdata pair ")
    assert last.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_dry_run_says_why_a_prompt_can_not_be_paired(prefdata, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": " ", "response": "x", "score": "high"}\n')
    said = prefdata("pair", path, "--dry-run")
    assert said.code == 0
    assert "dropped as blank" in said.out
    assert "[not_a_number, ?] x" in said.out


def test_a_table_on_standard_input_is_paired(fresh, table, tmp_path):
    program = """
import sys
sys.stdin = open(sys.argv.pop())
from prefdata.cli.main import main
main()
"""
    said = fresh("pair", "-", "--rule", "best_vs_worst", "--out", tmp_path / "out", "--json", table, code=program)
    assert said.code == 0, said.err
    assert json.loads(said.out)["pairs"] == 4


def test_frames_and_files_give_the_same_pairs(table, tmp_path, capsys):
    frames = {"pandas": pd.DataFrame(ROWS), "polars": pl.DataFrame(ROWS), "file": table}
    ledgers = [prefdata.pair(frame, "best_vs_worst", tmp_path / name) for name, frame in frames.items()]
    assert ledgers[0] == ledgers[1] == ledgers[2]
    tables = [(tmp_path / name / "data" / "train-00000-of-00001.parquet").read_bytes() for name in frames]
    assert tables[0] == tables[1] == tables[2]
    assert capsys.readouterr().err == READ_AS * 3
    assert prefdata.pair(frames["pandas"], dry_run=True)["read_as"] in READ_AS
    with pytest.raises(InputError, match="need a rule and a folder"):
        prefdata.pair(table, "best_vs_worst")


def test_a_configuration_belongs_to_a_dataset_of_the_hub(prefdata, table, tmp_path):
    said = prefdata("pair", table, "--dry-run", "--config", "x")
    assert (said.code, said.out) == (2, "")
    assert "has no configuration 'x'" in said.err
    said = prefdata("pair", "hf:a/b/c", "--dry-run")
    assert "is not a name of a dataset of the Hub" in said.err


@pytest.mark.parametrize("other", ["test", "extra"])
def test_splits_that_are_not_read_are_said(prefdata, table, tmp_path, capsys, other):
    folder = tmp_path / "splits"
    folder.mkdir()
    for name in ("train", other):
        (folder / f"{name}.jsonl").write_bytes(table.read_bytes())
    options = ("--rule", "best_vs_worst", "--out", tmp_path / "out", "--json")
    line = f"not read: the split {other} (another one: --split NAME)\n"
    for said in (prefdata("pair", folder, *options), prefdata("pair", folder, "--dry-run", "--json")):
        assert (said.code, said.err) == (0, READ_AS + line)
    # Who names a split knows what is not read.
    assert prefdata("pair", folder, *options, "--split", "train").err == READ_AS
    (folder / "more.jsonl").write_bytes(table.read_bytes())
    pair(folder, "best_vs_worst", tmp_path / "python")
    more = ", ".join(sorted(["more", other]))
    assert capsys.readouterr().err == f"{READ_AS}not read: the splits {more} (another one: --split NAME)\n"
