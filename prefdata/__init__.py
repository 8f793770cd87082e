"""prefdata builds preference datasets from typed recipes.

::

    from prefdata import build, inspect

    built = build("wpo_hybrid_v2", profile="cpu", limit=20)
    built.pairs.to_pandas()
    inspect(built).drops

Every command is a function here, with the options of the command: `build`, `check`, `pair`, `train`, `run`, `evaluate`,
`compare`, `push`, `inspect`, `audit`, `verify`, `diff`, `what_if`, `replay`, `clean`, `recipes`, `rules`, `new`. `load`
gives a dataset as frames, `write_page` a page of it for a browser. The parts that a recipe names are in the rooms:
`prefdata.prompts`, `prefdata.sampling`, `prefdata.models`, `prefdata.scoring`, `prefdata.pairing`, `prefdata.dataset`,
`prefdata.training`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefdata.evaluation.compare import Comparison, compare
    from prefdata.evaluation.evaluate import evaluate
    from prefdata.evaluation.record import Evaluation
    from prefdata.flow.build import Build
    from prefdata.flow.clean import Cleaned, clean
    from prefdata.flow.engines.ray import Ray
    from prefdata.flow.from_table import pair
    from prefdata.flow.iterate import Iterated, run
    from prefdata.flow.plan import Plan
    from prefdata.flow.push import push
    from prefdata.flow.train import train
    from prefdata.flow.verbs import build, check
    from prefdata.inspection.audit import TableAudit, audit
    from prefdata.inspection.diff import Difference, diff
    from prefdata.inspection.load import Loaded, load
    from prefdata.inspection.replay import Replay, replay
    from prefdata.inspection.summary import Summary, inspect
    from prefdata.inspection.what_if import Outcome, what_if
    from prefdata.page import Page, write_page
    from prefdata.publish.pushing import Pushed
    from prefdata.recipe import Iterations, Profile, Recipe, load_recipe, load_rule, shipped_recipes
    from prefdata.recipe.listing import new, recipes, rules
    from prefdata.spec.code import code_allowed
    from prefdata.verification import Report, verify

__all__ = [
    "Build",
    "Cleaned",
    "Comparison",
    "Difference",
    "Evaluation",
    "Iterated",
    "Iterations",
    "Loaded",
    "Outcome",
    "Page",
    "Plan",
    "Profile",
    "Pushed",
    "Ray",
    "Recipe",
    "Replay",
    "Report",
    "Summary",
    "TableAudit",
    "audit",
    "build",
    "check",
    "clean",
    "code_allowed",
    "compare",
    "diff",
    "evaluate",
    "inspect",
    "load",
    "load_recipe",
    "load_rule",
    "new",
    "pair",
    "push",
    "recipes",
    "replay",
    "rules",
    "run",
    "shipped_recipes",
    "train",
    "verify",
    "what_if",
    "write_page",
]

_HOMES = {
    "spec.code": ("code_allowed",),
    "evaluation.compare": ("Comparison", "compare"),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.record": ("Evaluation",),
    "flow.build": ("Build",),
    "flow.engines.ray": ("Ray",),
    "flow.clean": ("Cleaned", "clean"),
    "flow.plan": ("Plan",),
    "flow.push": ("push",),
    "flow.iterate": ("Iterated", "run"),
    "flow.from_table": ("pair",),
    "flow.train": ("train",),
    "flow.verbs": ("build", "check"),
    "inspection.audit": ("TableAudit", "audit"),
    "inspection.diff": ("Difference", "diff"),
    "inspection.load": ("Loaded", "load"),
    "inspection.replay": ("Replay", "replay"),
    "inspection.summary": ("Summary", "inspect"),
    "inspection.what_if": ("Outcome", "what_if"),
    "page": ("Page", "write_page"),
    "publish.pushing": ("Pushed",),
    "recipe": ("Iterations", "Profile", "Recipe", "load_recipe", "load_rule", "shipped_recipes"),
    "recipe.listing": ("new", "recipes", "rules"),
    "verification": ("Report", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that importing prefdata costs nothing."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'prefdata' has no attribute {name!r}")
    return getattr(importlib.import_module(f"prefdata.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    """Lists the public names, those that are not imported yet too."""
    return sorted({*globals(), *__all__})
