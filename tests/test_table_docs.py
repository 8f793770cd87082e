"""Every row of docs/tables.md runs: each place and each shape gives the same two pairs."""

from __future__ import annotations

import gzip
import re
import shlex
from pathlib import Path

import datasets
import pytest
from table_forms import separated, table_of

PAGE = (Path(__file__).parents[1] / "docs" / "tables.md").read_text("utf-8")
TABLES = [re.findall(r"^\| (?!---)(.+) \|$", part, re.M)[1:] for part in re.split(r"^## ", PAGE, flags=re.M)]
PLACES, SHAPES = (
    [[cell.strip() for cell in re.split(r" \| (?!prefdata)|(?<!\\) \| ", row)] for row in rows]
    for rows in TABLES
    if rows
)
TEXTS = {"Name a prime.": ("Seven.", "Nine."), "Name a color.": ("Red.", "Loud.")}


def long(make):
    return [make(p, text, 5.0 - n, "ab"[n]) for p, texts in TEXTS.items() for n, text in enumerate(texts)]


def wide(make):
    return [make(p, list(texts), [5.0, 4.0], ["a", "b"]) for p, texts in TEXTS.items()]


def user(text):
    return {"role": "user", "content": text}


def says(text):
    return {"role": "assistant", "content": text}


ROWS = {
    "one answer a row": long(lambda p, r, s, m: {"prompt": p, "response": r, "score": s}),
    "the same, other names": long(lambda p, r, s, m: {"question": p, "answer": r, "points": s}),
    "an answer and its reward": long(lambda p, r, s, m: {"prompt": p, "completion": r, "reward": s}),
    "lists (Snorkel, SimPO)": wide(lambda p, r, s, m: {"prompt": p, "all_generated_responses": r, "all_rm_scores": s}),
    "lists, other names": wide(lambda p, r, s, m: {"query": p, "responses": r, "scores": s, "models": m}),
    "UltraFeedback": wide(
        lambda p, r, s, m: {
            "instruction": p,
            "completions": [{"response": r, "overall_score": s, "model": m} for r, s, m in zip(r, s, m, strict=True)],
        }
    ),
    "objects, other keys": wide(
        lambda p, r, s, m: {
            "prompt": p,
            "answers": [{"text": r, "grade": {"value": s}, "by": m} for r, s, m in zip(r, s, m, strict=True)],
        }
    ),
    "distilabel, Argilla": wide(
        lambda p, r, s, m: {"instruction": p, "generations": r, "ratings": s, "generation_models": m}
    ),
    "messages (TRL, alignment-handbook)": long(
        lambda p, r, s, m: {"prompt": [user(p)], "completion": [says(r)], "score": s}
    ),
    "conversations that end in the answer": long(lambda p, r, s, m: {"messages": [user(p), says(r)], "score": s}),
    "ShareGPT": long(
        lambda p, r, s, m: {
            "conversations": [{"from": "human", "value": p}, {"from": "gpt", "value": r}],
            "score": s,
        }
    ),
    "Alpaca": long(lambda p, r, s, m: {"instruction": p, "input": "", "output": r, "score": s}),
    "a system turn": long(lambda p, r, s, m: {"system": None, "prompt": p, "response": r, "score": s}),
}
PLAIN = ROWS["one answer a row"]


def check(pairs: list[dict]) -> None:
    found = {
        row["prompt"][-1]["content"]: (row["chosen"][-1]["content"], row["rejected"][-1]["content"]) for row in pairs
    }
    assert found == TEXTS


def pairs_of(folder: Path) -> list[dict]:
    return datasets.Dataset.from_parquet(str(folder / "data" / "*.parquet"), cache_dir=str(folder / "cache")).to_list()


@pytest.mark.parametrize("row", SHAPES, ids=lambda row: row[0])
def test_a_shape_of_the_page_is_read_with_its_options(prefdata, tmp_path, row):
    shape, columns, options = row
    rows = ROWS[shape]
    named = re.match(r"`([\w, ]+)`", columns)[1].split(", ")
    assert named == list(rows[0]), "the page names the columns of the table"
    table = table_of("jsonl", rows, tmp_path)
    arguments = [] if options == "no option" else shlex.split(options.strip("`"))
    said = prefdata("pair", table, "--rule", "best_vs_worst", "--out", tmp_path / "pairs", *arguments)
    assert said.code == 0, said.err
    check(pairs_of(tmp_path / "pairs"))


def test_every_shape_is_on_the_page():
    assert [row[0] for row in SHAPES] == list(ROWS)
    assert len(PLACES) == 8


def make_places(folder: Path) -> None:
    for form in ("parquet", "jsonl"):
        table_of(form, PLAIN, folder)
    (folder / "table.csv.gz").write_bytes(gzip.compress(separated(PLAIN).encode()))
    (folder / "shards").mkdir()
    for number in range(2):
        table_of("parquet", PLAIN[2 * number :][:2], folder / "shards").rename(folder / f"shards/part-{number}.parquet")
    datasets.Dataset.from_list(PLAIN).save_to_disk(folder / "saved")


@pytest.mark.parametrize("row", [row for row in PLACES if "hf:" not in row[-1]], ids=lambda row: row[0])
def test_a_place_of_the_page_is_read_by_its_command(fresh, tmp_path, row):
    make_places(tmp_path)
    command = row[-1].strip("`").replace("\\|", "|")
    source, _, program = command.rpartition("| ")
    words = shlex.split(program)
    assert words[:2] == ["prefdata", "pair"]
    code = "import sys\n"
    if source:
        code += f"sys.stdin = open({shlex.split(source)[1]!r})\n"
    said = fresh(*words[1:], code=f"{code}from prefdata.cli.main import main\nmain()", cwd=tmp_path)
    assert said.code == 0, said.err
    check(pairs_of(tmp_path / "pairs"))
