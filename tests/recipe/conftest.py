"""Recipe files, as users write them."""

from __future__ import annotations

import json

import pytest

PARTS = {
    "name": "'tiny'",
    "prompts": "SamplePrompts()",
    "candidates": "(Samples(name='policy', generator=Local(model='m')), SampleAnswers(name='teacher'))",
    "scores": "GivenScores()",
    "pairs": "WPOHybridV2()",
}
IMPORTS = """from prefdata.dataset import *
from prefdata.models import *
from prefdata.pairing import *
from prefdata.prompts import *
from prefdata.recipe import *
from prefdata.sampling import *
from prefdata.scoring import *
"""


@pytest.fixture
def python_recipe(tmp_path):
    """Writes `recipe.py`; keyword arguments are the source of a part, None leaves one out."""

    def write(**changed):
        parts = {name: text for name, text in {**PARTS, **changed}.items() if text is not None}
        path = tmp_path / "recipe.py"
        path.write_text(IMPORTS + f"recipe = Recipe({', '.join(f'{name}={text}' for name, text in parts.items())})\n")
        return path

    return write


@pytest.fixture
def json_recipe(tmp_path):
    """Writes `recipe.json`, the same recipe with one value changed: a path of keys, and the value (... deletes)."""

    def write(place, value):
        data = {
            "name": "tiny",
            "prompts": {"kind": "sample"},
            "candidates": [
                {"kind": "samples", "name": "policy", "generator": {"kind": "local", "model": "m"}},
                {"kind": "sample_answers", "name": "teacher"},
            ],
            "scores": {"kind": "given"},
            "pairs": {"kind": "wpo_hybrid_v2"},
            "dataset": {"kind": "trl"},
            "training": {"kind": "wpo", "model": "m"},
            "profiles": {"quick": {"pairs": {"kind": "best_vs_worst"}}},
        }
        at = data
        for key in place[:-1]:
            at = at[key]
        if value is ...:
            del at[place[-1]]
        else:
            at[place[-1]] = value
        path = tmp_path / "recipe.json"
        path.write_text(json.dumps(data))
        return path

    return write
