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


def test_rows_of_a_part_of_a_frame_bring_no_others_along(tmp_path):
    turns = [[{"role": "user", "content": f"{number} {'x' * 2_000}"}] for number in range(1_000)]
    whole = pl.DataFrame({"turns": turns})
    there = Spill(tmp_path / "rows", 2)
    for start in range(0, 1_000, 10):
        there.add(whole[start : start + 10], pl.repeat(start // 10 % 2, 10, dtype=pl.UInt32, eager=True))
    found = [there.read(number) for number in range(2)]
    assert [row for part in found if part is not None for row in part["turns"].to_list()] == [
        *(row for start in range(0, 1_000, 20) for row in turns[start : start + 10]),
        *(row for start in range(10, 1_000, 20) for row in turns[start : start + 10]),
    ]
    assert sum(path.stat().st_size for path in (tmp_path / "rows").iterdir()) < 1.1 * 1_000 * 2_010
