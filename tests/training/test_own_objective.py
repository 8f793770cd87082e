"""An objective of the user's own: a subclass with a loss, in a file beside the recipe."""

from __future__ import annotations

import json
import math
import sys

import pytest
from trainings import SMALL, losses, run, workshop

pytestmark = pytest.mark.model

OBJECTIVE = '''
from typing import Annotated, ClassVar
from pydantic import Field
from prefdata.training import DPOTraining


class Hinged(DPOTraining):
    """A hinge in place of the sigmoid."""

    slope: Annotated[float, Field(gt=0)] = 1.0
    """Of the hinge."""

    own_loss: ClassVar[bool] = True

    def loss(self, pairs):
        chosen, rejected = pairs.log_ratios
        return self.slope * (1 - self.beta * (chosen - rejected)).clamp(min=0).mean()
'''
RECIPE = """
from my_objective import Hinged
from prefdata import Recipe
from prefdata.pairing import BestVsWorst
from prefdata.prompts import SamplePrompts
from prefdata.sampling import SampleAnswers
from prefdata.scoring import BaselineScorer

recipe = Recipe(
    name="mine",
    prompts=SamplePrompts(scored=True),
    candidates=(SampleAnswers(name="answers", scored=True),),
    scores=BaselineScorer(),
    pairs=BestVsWorst(),
    training=Hinged(model="model", beta=0.1),
)
"""


def test_it_trains_and_is_refused_where_its_code_is_not_the_users(tmp_path):
    workshop(tmp_path, rows=16, test=0)
    (tmp_path / "my_objective.py").write_text(OBJECTIVE)
    (tmp_path / "mine.py").write_text(RECIPE)
    fields = {**SMALL, "slope": 0.5, "trl": {"max_steps": 4}}
    words = [word for name, value in fields.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    command = [sys.executable, "-m", "prefdata", "train", "mine.py", "--dataset", "data", "--out", "out", *words]
    done = run(tmp_path, command)
    assert done.returncode == 0, done.stderr[-4000:]
    found = losses(tmp_path / "out")
    # Where policy and reference are one model the hinge is 1, and half of it with this slope.
    assert found[0] == pytest.approx(0.5, abs=1e-5)
    assert found[-1] < found[0]
    assert not math.isclose(found[0], math.log(2))
    # The same dataset with this recipe as JSON, as others get it.
    recipe = {"name": "mine", "training": json.loads((tmp_path / "out" / "training.json").read_text())["training"]}
    (tmp_path / "data" / "recipe.json").write_text(json.dumps(recipe))
    refused = run(tmp_path, [sys.executable, "-m", "prefdata", "train", "data", "--out", "other"])
    assert refused.returncode == 2
    assert "--allow-code" in refused.stderr
