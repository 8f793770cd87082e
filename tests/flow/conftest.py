from __future__ import annotations

import pytest
from replayed import write_tables


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The current folder, with the tables of `replayed`."""
    write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
