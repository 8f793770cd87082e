"""Tables of scored answers, and what `prefdata pair` makes of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@dataclass(frozen=True)
class Paired:
    """A dataset folder that `prefdata pair --json` wrote, and the object it printed."""

    folder: Path
    said: dict

    @property
    def pairs(self):
        return pq.ParquetFile(self.folder / "data" / "train-00000-of-00001.parquet").read().to_pylist()

    @property
    def drops(self):
        return pq.ParquetFile(self.folder / "drops.parquet").read().to_pylist()

    @property
    def ineligible(self):
        return pq.ParquetFile(self.folder / "drops_candidates.parquet").read().to_pylist()

    @property
    def picks(self):
        """prompt_id → chosen text, rejected text, of the pairs alone."""
        return {row["prompt_id"]: (row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in self.pairs}

    @property
    def files(self):
        """Every file of the folder, byte for byte."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


def written(path: Path, rows: list[dict]) -> Path:
    """Writes rows as the file's name says. CSV has lists as JSON and null as an empty field."""
    kind = next(suffix for suffix in path.suffixes if suffix in (".parquet", ".jsonl", ".csv"))
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if kind == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            cells = {name: json.dumps(cell) if isinstance(cell, list) else cell for name, cell in row.items()}
            writer.writerow(cells)
        text = file.getvalue()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(text.encode())
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def write_table():
    """Writes rows as a table: see `written`."""
    return written


@pytest.fixture
def pair(prefdata, tmp_path):
    """Pairs a table (rows, or a file) by `--rule wpo_hybrid_v2` and checks what must hold for every table."""
    made = iter(range(1_000_000))

    def run(table, *options, name="table.jsonl", rule="wpo_hybrid_v2"):
        place = tmp_path / f"run{next(made)}"
        place.mkdir()
        path = table if isinstance(table, Path) else written(place / name, table)
        said = prefdata("pair", path, "--rule", rule, "--out", place / "out", "--json", *options)
        paired = Paired(place / "out", json.loads(said.out))
        assert said.code == (0 if paired.pairs else 1)
        told = "".join(line for line in said.err.splitlines(keepends=True) if not line.startswith("read as: "))
        assert told.startswith("prefdata: no pair came out") if not paired.pairs else told == ""
        check_contract(paired)
        return paired

    yield run
    shutil.rmtree(tmp_path, ignore_errors=True)


PAIR_COLUMNS = {
    *("prompt_id", "prompt", "chosen", "rejected", "score_chosen", "score_rejected"),
    *("length_chosen", "length_rejected", "source_chosen", "source_rejected"),
    *("n_candidates", "n_eligible", "n_tied_chosen", "n_tied_rejected"),
}


def check_contract(paired: Paired) -> None:
    """What holds for the output of any table."""
    said, pairs, drops = paired.said, paired.pairs, paired.drops
    assert said["prompts"] == said["pairs"] + sum(said["drops"].values())
    assert (said["pairs"], sum(said["drops"].values())) == (len(pairs), len(drops))
    names = pq.read_schema(paired.folder / "data" / "train-00000-of-00001.parquet").names
    assert set(names) >= PAIR_COLUMNS
    assert pq.read_schema(paired.folder / "drops.parquet").names == ["prompt_id", "stage", "reason", "detail"]
    ids = [row["prompt_id"] for row in (*pairs, *drops)]
    assert len(set(ids)) == len(ids)
    assert {reason: sum(drop["reason"] == reason for drop in drops) for reason in said["drops"]} == said["drops"]
    for row in pairs:
        assert row["score_chosen"] > row["score_rejected"]
        assert row["chosen"][0]["content"] != row["rejected"][0]["content"]
        assert row["chosen"][0]["content"].strip()
        assert row["rejected"][0]["content"].strip()
        assert 2 <= row["n_eligible"] <= row["n_candidates"]
        assert row["n_tied_chosen"] >= 1
        assert row["n_tied_rejected"] >= 1
    for stage in said["stages"]:
        assert stage["in"] == stage["out"] + sum(stage["drops"].values())
    assert json.loads((paired.folder / "ledger.json").read_text()) == said


@pytest.fixture
def zstd_tool():
    """The `zstd` program, to compress as users do."""
    if shutil.which("zstd") is None:
        pytest.skip("the program zstd is not installed")
    return lambda path: subprocess.run(["zstd", "-q", "--rm", str(path)], check=True)
