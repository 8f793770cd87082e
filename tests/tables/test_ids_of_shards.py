"""Whole numbers that became floats in separated values: found once a column, over all parts of a table."""

from __future__ import annotations

import pytest

from prefdata.tables import files
from prefdata.tables.table import JoinedTable
from prefdata.tables.text_table import TextFile


def parts_of(tmp_path, *columns):
    for number, column in enumerate(columns):
        (tmp_path / f"{number}.csv").write_text("\n".join(["id,x", *(f"{cell},y" for cell in column)]) + "\n", "utf-8")
    return [files.open_file(tmp_path / f"{number}.csv") for number in range(len(columns))]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ((["1.0", ""], ["2", "3"]), ["1", None, "2", "3"]),
        ((["1.0", "2.0"], ["a", "3.0"]), ["1.0", "2.0", "a", "3.0"]),
        ((["a", "3.0"], ["1.0", "2.0"]), ["a", "3.0", "1.0", "2.0"]),
    ],
)
def test_a_table_decides_once_over_all_its_parts(tmp_path, columns, expected):
    table = JoinedTable("all", parts_of(tmp_path, *columns))
    for start in (0, 1, 2):
        assert [row["id"] for row in table.rows(start, only=["id", "x"], ids=["id"])] == expected[start:]


def test_a_column_of_ids_is_looked_through_once(tmp_path, monkeypatch):
    read = []
    texts = TextFile.id_texts
    monkeypatch.setattr(TextFile, "id_texts", lambda table, name: read.append(name) or texts(table, name))
    [table] = parts_of(tmp_path, ["1.0", "2"])
    for _ in range(3):
        assert [row["id"] for row in table.rows(only=["id"], ids=["id"])] == ["1", "2"]
    assert read == ["id"]
