"""prefdata builds preference datasets from typed recipes.

::

    from prefdata import build, load_recipe

    recipe = load_recipe("recipes/wpo_hybrid_v2.py").with_profile("cpu").with_limit(20)
    build(recipe).pairs.to_pandas()

The parts that a recipe names are in the rooms: `prefdata.prompts`, `prefdata.sampling`, `prefdata.models`,
`prefdata.scoring`, `prefdata.pairing`, `prefdata.dataset`, `prefdata.training`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefdata.flow.build import Build, build, plan
    from prefdata.flow.from_table import pair_table
    from prefdata.flow.train import train
    from prefdata.inspection import summarise
    from prefdata.publish.pushing import Pushed, push
    from prefdata.recipe import Profile, Recipe, load_recipe

__all__ = [
    "Build",
    "Profile",
    "Pushed",
    "Recipe",
    "build",
    "load_recipe",
    "pair_table",
    "plan",
    "push",
    "summarise",
    "train",
]

_HOMES = {
    "Build": "flow.build",
    "Profile": "recipe",
    "Pushed": "publish.pushing",
    "Recipe": "recipe",
    "build": "flow.build",
    "load_recipe": "recipe",
    "pair_table": "flow.from_table",
    "plan": "flow.build",
    "push": "publish.pushing",
    "summarise": "inspection",
    "train": "flow.train",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that importing prefdata costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'prefdata' has no attribute {name!r}")
    return getattr(importlib.import_module(f"prefdata.{_HOMES[name]}"), name)
