"""Pairs a table in pieces and in memory, and compares the folders."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.dataset import TRLPairs
from prefdata.dataset.measures import Auditor
from prefdata.flow import from_table, paired_table
from prefdata.tables import pieces, spill
from prefdata.tables.answers import answer_rows, in_order
from prefdata.tables.digest import table_digest
from prefdata.tables.schemas import CANDIDATE_DROPS, DROPS, PAIR_KEY, PROMPTS, checked, pairs_schema
from prefdata.tables.whole_table import read_scored_table


@contextmanager
def small_pieces(piece: int, bucket: int):
    """Everything is cut as a table of many GB would be."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (pieces, paired_table):
            patch.setattr(module, "PIECE_BYTES", piece)
        patch.setattr(pieces, "BUCKET_BYTES", bucket)
        patch.setattr(paired_table, "_PAIR_BYTES", bucket)
        patch.setattr(paired_table, "_FACTS_BYTES", bucket)
        patch.setattr(paired_table, "_ROWS", 1 + piece % 3)
        patch.setattr(spill, "_WAITING_BYTES", bucket)
        yield


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(table: pa.Table, path: Path, group: int) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=group)
        return
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
        return
    lines = [",".join(table.column_names)]
    for row in table.to_pylist():
        cells = [json.dumps(cell) if isinstance(cell, list) else cell for cell in row.values()]
        lines.append(",".join("" if cell is None else '"' + str(cell).replace('"', '""') + '"' for cell in cells))
    path.write_text("\n".join(lines) + "\n")


def in_memory(file, rule, folder: Path, *, layouts, with_candidates: bool = False) -> paired_table.PairedTable:
    """What `paired_table` gives, by the plainest way: the whole table, one call of the rule."""
    scored = read_scored_table(file.table, file.reading.given)
    candidates = in_order(scored.candidates)
    paired = rule.pair(candidates, scored.prompts["prompt_id"])
    pairs = checked(paired.pairs.to_arrow(), pairs_schema(rule.extra_columns()), PAIR_KEY, "pairs")
    prompts = scored.prompts.with_columns(origin=pl.lit(""), split=pl.lit(None, pl.String)).to_arrow().cast(PROMPTS)
    auditor = Auditor()
    auditor.add(candidates, paired.pairs)
    return paired_table.PairedTable(
        rows=iter([TRLPairs().rows(pairs, prompts)]),
        pairs=pairs.num_rows,
        paired_prompts=len(pairs["prompt_id"].unique()),
        prompts=scored.prompts.height + scored.drops.height,
        candidates=scored.rows,
        usable=scored.candidates.height,
        drops=pl.concat([scored.drops, paired.drops]).sort(pl.all()).to_arrow().cast(DROPS),
        ineligible=paired.ineligible.sort(pl.all(), nulls_last=False).to_arrow().cast(CANDIDATE_DROPS),
        digest=table_digest(candidates),
        audit=auditor.result(),
        answers=[answer_rows(candidates, prompts)] if with_candidates else None,
        named=bool((candidates["index"] >= 2**62).any()),
    )


def both_ways(
    table: pa.Table, rule, *, piece=400, bucket=900, group=7, columns=None, ending=".parquet", **options
) -> dict[str, bytes]:
    """The folder by each way; they must be the same."""
    place = Path(tempfile.mkdtemp())
    try:
        path = place / f"table{ending}"
        write(table, path, group)
        with small_pieces(piece, bucket):
            from_table.pair(path, rule, place / "in pieces", columns=columns, **options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(from_table, "paired_table", in_memory)
            from_table.pair(path, rule, place / "in memory", columns=columns, **options)
        in_pieces, whole = files(place / "in pieces"), files(place / "in memory")
        assert in_pieces.keys() == whole.keys()
        assert [name for name in sorted(in_pieces) if in_pieces[name] != whole[name]] == []
        return in_pieces
    finally:
        shutil.rmtree(place)
