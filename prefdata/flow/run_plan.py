"""`plan_run`: what the iterations of a recipe would ask, cost and write, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from prefdata.flow.iterate import iterated_recipe, run_folder, trained_model
from prefdata.flow.plan import Plan, plan
from prefdata.flow.training_cost import TrainingCost, size_of, training_cost
from prefdata.recipe import Recipe, folder_of
from prefdata.recipe.trust import is_foreign
from prefdata.spec import JSON
from prefdata.spec.code import allowing_code
from prefdata.spec.quoting import for_a_stranger

__all__ = ["IterationPlan", "RunPlan", "plan_run"]

_BYTES_WEIGHTS, _BYTES_STATES = 4, 8
"""Of each parameter, in a saved model, and in a checkpoint's optimiser besides."""


@dataclass(frozen=True)
class IterationPlan:
    """What one iteration would do."""

    number: int
    build: Plan
    training: TrainingCost


@dataclass(frozen=True)
class RunPlan:
    """What a run would do."""

    name: str
    folder: Path
    iterations: tuple[IterationPlan, ...]
    disk_bytes: int | None
    """Of models and checkpoints, at most; None where the size of the model is not known."""
    basis: tuple[str, ...]
    """What the numbers rest on."""

    def as_json(self) -> dict[str, JSON]:
        """Gives everything as JSON."""
        steps = [
            {
                "iteration": step.number,
                "prompts": step.build.prompts,
                "estimate": step.build.estimate.as_json(),
                "stages": [asdict(stage) for stage in step.build.stages],
                "problems": list(step.build.problems),
                "pairs": step.training.pairs,
                "steps": step.training.steps,
                "training_hours": step.training.hours,
            }
            for step in self.iterations
        ]
        basis = list(self.basis)
        return {
            "name": self.name,
            "folder": str(self.folder),
            "iterations": steps,
            "disk_bytes": self.disk_bytes,
            "basis": basis,
        }


def plan_run(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    profile: str | None = None,
    limit: int | None = None,
    allow_code: bool = False,
    allow: Iterable[str] = (),
) -> RunPlan:
    """Plans the iterations of a recipe: requests, hours, money and disk. Reads the prompts; starts no model.

    An iteration whose policy is still to be trained is planned with the first one's model in its place.

    Args:
        recipe: see `prefdata.run`.
        out: see `prefdata.run`.
        profile: see `prefdata.run`.
        limit: see `prefdata.run`.
        allow_code: see `prefdata.run`.
        allow: see `prefdata.run`.

    Raises:
        UserError: an input can't be found, or the recipe has no iterations.
    """
    foreign = is_foreign(recipe)
    with allowing_code(allow_code, folder_of(recipe)), for_a_stranger(foreign):
        whole = iterated_recipe(recipe, profile, limit, allow)
        assert whole.iterations is not None
        root = run_folder(whole, out, foreign=foreign)
        parts = [
            whole.iteration(number, trained_model(whole, root, number - 1))
            for number in range(1, whole.iterations.count + 1)
        ]
        training = parts[0].training
        assert training is not None
        size = size_of(training.model)
        plans = [plan(part, root / f"iteration-{number}") for number, part in enumerate(parts, 1)]
        steps = [
            IterationPlan(number, planned, training_cost(planned, size)) for number, planned in enumerate(plans, 1)
        ]
    disk = None
    if size.parameters is not None:
        # Two checkpoints are there at once while one is written.
        disk = size.parameters * (_BYTES_WEIGHTS * len(steps) + 2 * (_BYTES_WEIGHTS + _BYTES_STATES))
    return RunPlan(whole.name, root, tuple(steps), disk, steps[0].training.basis)
