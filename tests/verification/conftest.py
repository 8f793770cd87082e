from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from forgery import recipe, write_tables

from prefdata.flow.build import build


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Builds three shards; no test changes them."""
    work, before = tmp_path_factory.mktemp("built"), Path.cwd()
    write_tables(work)
    os.chdir(work)
    try:
        return build(recipe(), work / "build", shard_size=25).folder
    finally:
        os.chdir(before)


@pytest.fixture
def dataset(built, tmp_path):
    """A copy of the dataset, to be changed."""
    return shutil.copytree(built / "dataset", tmp_path / "dataset")
