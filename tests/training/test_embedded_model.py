"""SmolLM2-135M, the embedded model, trained by WPO on a dataset folder with its own recipe: the whole command."""

from __future__ import annotations

import json
import math
import sys

import pytest
from tiny_model import pair_rows, write_dataset
from trainings import losses, metrics, run

from prefdata.training import WPOTraining

pytestmark = pytest.mark.model

RECIPE = {
    "name": "words",
    "candidates": [{"kind": "samples", "generator": {"model": "embedded:smollm2-135m-instruct"}}],
    "training": WPOTraining(model="meta-llama/Meta-Llama-3-8B-Instruct").dump(),
}


def test_it_learns_to_prefer_the_chosen_answers(tmp_path):
    folder = write_dataset(tmp_path / "data", pair_rows(8))
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    words = ["--profile", "cpu", "--out", "out", "--limit", "4"]
    fields = {"learning_rate": 1e-5, "warmup": 0.0, "gradient_accumulation_steps": 1, "max_length": 96, "epochs": 2}
    words += [word for name, value in fields.items() for word in ("--set", f"{name}={value}")]
    # The model is converted into the user's cache once, which all tests share.
    done = run(tmp_path, [sys.executable, "-m", "prefdata", "train", "data", *words], shared_cache=True)
    assert done.returncode == 0, done.stderr[-4000:]
    found = losses(tmp_path / "out")
    assert len(found) == 4
    assert all(math.isfinite(loss) and 0 < loss < math.log(2) for loss in found)
    margins = [entry["rewards/margins"] for entry in metrics(tmp_path / "out") if "loss" in entry]
    assert margins[0] == pytest.approx(0, abs=1e-4)
    assert margins[-1] > margins[0] + 1e-3
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "`embedded:smollm2-135m-instruct`, trained by `wpo` on `words`" in card
    assert str(tmp_path) not in card
    assert str(tmp_path) not in (tmp_path / "out" / "training.json").read_text()
