"""Frames whose columns Arrow can't hold: refused where they are read, and nobody's problem where they are not."""

from __future__ import annotations

import pandas as pd
import polars as pl
import pytest

from prefdata.errors import InputError
from prefdata.tables.whole_table import read_scored_table

SOUND = {"prompt": ["q", "q"], "response": ["good", "bad"], "score": [2.0, 1.0]}
PANDAS = {
    "mixed": [1, "2"],
    "sparse": pd.arrays.SparseArray([1.0, 2.0]),
    "sets": [{"a", "b"}, {"c"}],
    "frozen": [frozenset("ab"), None],
    "complex": [1j, 2j],
    "lists and texts": [["a"], "b"],
    "objects": [object(), object()],
    "large": [2**70, 1],
}
POLARS = {
    "objects": pl.Series([object(), object()], dtype=pl.Object),
    "wide": pl.Series([1, 2], dtype=pl.Int128),
}


def frames():
    yield from ((f"pandas {kind}", pd.DataFrame({**SOUND, "odd": column})) for kind, column in PANDAS.items())
    yield from ((f"polars {kind}", pl.DataFrame({**SOUND, "odd": column})) for kind, column in POLARS.items())
    yield "lazy", pl.DataFrame({**SOUND, "odd": POLARS["wide"]}).lazy()


FRAMES = dict(frames())


@pytest.mark.parametrize("kind", FRAMES)
def test_a_column_that_is_not_read_may_hold_anything(kind):
    scored = read_scored_table(FRAMES[kind])
    assert scored.candidates.sort("score")["response"].to_list() == ["bad", "good"]


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("role", ["source", "prompt_id", "finish_reason"])
def test_a_column_that_is_read_is_one_error_that_names_it(kind, role):
    with pytest.raises(InputError, match="the column 'odd' can't be read: "):
        read_scored_table(FRAMES[kind], {role: "odd"})


def test_two_columns_of_one_name_are_refused():
    frame = pd.DataFrame([["q", "x", 1.0, "y"]], columns=["prompt", "response", "score", "response"])
    with pytest.raises(InputError, match="no two of one name"):
        read_scored_table(frame)
