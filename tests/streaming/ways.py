"""Pairs a table in both ways and compares the folders; used by the tests beside it."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.flow import from_table as table_pairs
from prefdata.streaming import scattered, source, spill, stream


@contextmanager
def small_pieces(piece: int, bucket: int):
    """Everything is cut as a table of many GB would be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "PIECE_BYTES", piece)
        patch.setattr(source, "GATHERED_BYTES", piece)
        patch.setattr(source, "BUCKET_BYTES", bucket)
        patch.setattr(source, "PAIRS_BUCKET_BYTES", bucket)
        patch.setattr(stream, "REST_BYTES", bucket)
        patch.setattr(stream, "PENDING_PROMPTS", 1 + piece % 3)
        patch.setattr(spill, "TAKEN_BYTES", bucket)
        patch.setattr(spill, "WAITING_ROWS", 3)
        patch.setattr(scattered, "_SLICE", 1 + piece % 3)
        patch.setattr(scattered, "_CHUNK", 10 + piece % 7)
        patch.setattr(scattered, "_BUCKET_ROWS", 1 + bucket % 50)
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


def both_ways(
    table: pa.Table, rule, *, piece=400, bucket=900, group=7, columns=None, streams=True, ending=".parquet", **options
) -> dict[str, bytes]:
    """The folder by each way; they must be the same."""
    place = Path(tempfile.mkdtemp())
    try:
        path = place / f"table{ending}"
        write(table, path, group)
        asked = []

        def watched(*arguments, **options):
            found = stream.stream_pairs(*arguments, **options)
            asked.append(found is not None)
            return found

        with small_pieces(piece, bucket), pytest.MonkeyPatch.context() as patch:
            patch.setattr(table_pairs, "stream_pairs", watched)
            table_pairs.pair(path, rule, place / "streamed", columns=columns, **options)
            patch.setattr(table_pairs, "stream_pairs", lambda *_, **__: None)
            table_pairs.pair(path, rule, place / "in_memory", columns=columns, **options)
        assert asked == [streams]
        streamed, in_memory = files(place / "streamed"), files(place / "in_memory")
        assert streamed.keys() == in_memory.keys()
        assert [name for name in sorted(streamed) if streamed[name] != in_memory[name]] == []
        return streamed
    finally:
        shutil.rmtree(place)
