"""A model's folder has a manifest as datasets have, and is taken for none."""

from __future__ import annotations

import json

import pytest
from small_model import model_folder

from prefdata import diff, load, verify
from prefdata.errors import InputError
from prefdata.hub import find_dataset


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("read", [load, verify, lambda where: diff(where, where)], ids=["load", "verify", "diff"])
def test_a_trained_model_is_refused_by_name(tmp_path, read, adapter):
    folder = model_folder(tmp_path / "model", adapter=adapter)
    with pytest.raises(InputError, match="is the folder of a trained model, not a dataset"):
        read(folder)


def test_a_table_of_that_name_is_a_table(tmp_path):
    (tmp_path / "training.json").write_text(json.dumps([{"prompt": "a"}]))
    assert find_dataset(tmp_path, only=()).path == tmp_path
