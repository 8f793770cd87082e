"""Rows that wait on disk come back whole, in their bucket and in the order in which they came."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.tables import spill
from prefdata.tables.spill import Spill

SCHEMA = {
    "number": pl.UInt64,
    "text": pl.String,
    "flag": pl.Boolean,
    "turns": pl.List(pl.Struct({"role": pl.String, "content": pl.String})),
}
TEXTS = st.text("aé\0 \n", max_size=20) | st.none()
TURNS = st.lists(st.fixed_dictionaries({"role": TEXTS, "content": TEXTS}), max_size=3) | st.none()
ROWS = st.lists(st.tuples(st.integers(0, 2**64 - 1), TEXTS, st.booleans() | st.none(), TURNS), max_size=15)


@given(frames=st.lists(ROWS, max_size=5), count=st.integers(1, 5), waiting=st.sampled_from((1, 300, 1 << 20)))
def test_each_bucket_has_its_rows_in_the_order_in_which_they_came(frames, count, waiting, tmp_path_factory):
    expected: dict[int, list[tuple[object, ...]]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "_WAITING_BYTES", waiting)
        there = Spill(tmp_path_factory.mktemp("spill") / "rows", count)
        for rows in frames:
            frame = pl.DataFrame(rows, SCHEMA, orient="row")
            there.add(frame, frame["number"] % count)
            for row in frame.rows():
                expected.setdefault(row[0] % count, []).append(row)
        for number in range(count):
            found = there.read(number)
            assert (None if found is None else found.rows()) == expected.get(number)
            assert found is None or found.schema == SCHEMA


def test_a_large_frame_is_copied_in_parts(tmp_path, monkeypatch):
    made = []
    table_of = spill.table_of
    monkeypatch.setattr(spill, "table_of", lambda *given: made.append(table_of(*given)) or made[-1])
    monkeypatch.setattr(spill, "_WAITING_BYTES", 50_000)
    there = Spill(tmp_path / "rows", 2)
    there.add(pl.DataFrame({"text": ["x" * 2_000] * 1_000}), pl.int_range(1_000, eager=True) % 2)
    assert sum(table.num_rows for table in made) == 1_000
    assert max(table.nbytes for table in made) < 2 * 50_000
