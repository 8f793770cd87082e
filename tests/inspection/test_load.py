"""`load`: a build, a dataset folder or a file as frames."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sample_recipe import sample_recipe

import prefdata
from prefdata import build, load, pair
from prefdata.dataset import SnorkelLayout
from prefdata.errors import InputError, MissingExtraError


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> prefdata.Build:
    recipe = sample_recipe("loaded", comparisons=True, dataset=SnorkelLayout(test_size=5))
    return build(recipe, tmp_path_factory.mktemp("builds") / "out")


def test_a_build_its_folder_and_its_dataset_are_the_same(made):
    for where in (made, made.folder, str(made.folder), made.dataset):
        assert load(where).path == made.dataset


def test_every_table_is_a_frame(made):
    data = load(made)
    assert isinstance(data.pairs, pd.DataFrame)
    assert len(data.pairs) == 20
    assert {split: len(frame) for split, frame in data.splits.items()} == {
        "train_iteration_1": 15,
        "test_iteration_1": 5,
    }
    assert set(data.pairs["split"]) == set(data.splits)
    assert data.pairs["score_margin"].min() > 0
    assert len(data.candidates) == 80
    assert list(data.scores) == ["prompt_id", "source", "index", "score", "unscored"]
    assert len(data.comparisons) == 20 * 6
    assert len(data.drops) == 0
    assert data.audit["counts"]["pairs"] == 20
    assert data.pairs is data.pairs


def test_the_same_dataset_has_frames_of_other_kinds(made):
    data = load(made)
    assert isinstance(data.to("polars").pairs, pl.DataFrame)
    assert isinstance(data.to("arrow").scores, pa.Table)
    assert data.to("arrow").pairs.num_rows == 20
    with pytest.raises(InputError, match="'numpy' is not a kind of frames"):
        data.to("numpy")


def test_a_file_has_pairs_only(tmp_path):
    table = tmp_path / "pairs.jsonl"
    table.write_text("".join(json.dumps({"prompt": "p", "chosen": str(n), "rejected": "r"}) + "\n" for n in range(3)))
    data = load(table).to("polars")
    assert data.pairs["chosen"].to_list() == ["0", "1", "2"]
    with pytest.raises(InputError, match="is one table, which has pairs and no candidates"):
        _ = data.candidates


def test_what_a_dataset_lacks_is_said(tmp_path):
    table = tmp_path / "t.jsonl"
    rows = [{"prompt": "p", "response": text, "score": score} for score, text in enumerate(("a", "b"))]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair(table, "best_vs_worst", tmp_path / "out")
    data = load(tmp_path / "out")
    assert len(data.pairs) == 1
    with pytest.raises(InputError, match="has no answers: it was made without --with-candidates"):
        _ = data.candidates
    with pytest.raises(InputError, match="its scorer made none"):
        _ = data.comparisons
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no table"):
        load(tmp_path / "empty")


def test_without_pandas_there_are_other_frames(made, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pandas" else real(name, *rest)
    )
    with pytest.raises(MissingExtraError, match=r'to\("polars"\)'):
        _ = load(made).pairs
    assert load(made).to("polars").pairs.height == 20


def test_load_reads_nothing_before_it_is_asked(made, fresh, tmp_path):
    program = f"import prefdata, sys; prefdata.load({str(made.folder)!r}); sys.exit('pandas' in sys.modules)"
    assert fresh(code=program, cwd=tmp_path).code == 0
    assert Path(made).is_dir()
