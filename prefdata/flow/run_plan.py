"""`plan_run`: what the iterations of a recipe would ask, cost and write, before anything is spent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from prefdata.flow.iterate import iterated_recipe, run_folder, trained_model
from prefdata.flow.plan import Plan, plan
from prefdata.models.folders import model_folder
from prefdata.recipe import Recipe, folder_of
from prefdata.recipe.trust import is_foreign
from prefdata.spec import JSON
from prefdata.spec.code import allowing_code
from prefdata.spec.quoting import for_a_stranger
from prefdata.training import Training
from prefdata.training.plan import count_parameters, step_counts

__all__ = ["IterationPlan", "RunPlan", "plan_run"]

_FLOPS = 989e12
"""Dense bfloat16 operations a second of an H100 SXM (NVIDIA's data sheet)."""
_USED = 0.4
"""Share of these that a training reaches."""
_TRAIN, _FORWARD = 6, 2
"""Operations for each parameter and token of a training step and of a forward pass (arXiv 2001.08361, section 2.1)."""
_BYTES_WEIGHTS, _BYTES_STATES = 4, 8
"""Of each parameter, in a saved model, and in a checkpoint's optimiser besides."""
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([BM])(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class IterationPlan:
    """What one iteration would do."""

    number: int
    build: Plan
    pairs: int
    """At most: as many of each prompt as the rule may take."""
    steps: int
    """Of the optimiser, at most."""
    training_hours: float | None
    """Of one H100; None where the size of the model is not known."""


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
                "pairs": step.pairs,
                "steps": step.steps,
                "training_hours": step.training_hours,
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
        parameters, source = _parameters(training.model)
        steps = [
            _step(number, plan(part, root / f"iteration-{number}"), parameters) for number, part in enumerate(parts, 1)
        ]
    disk = None
    if parameters is not None:
        # Two checkpoints are there at once while one is written.
        disk = parameters * (_BYTES_WEIGHTS * len(steps) + 2 * (_BYTES_WEIGHTS + _BYTES_STATES))
    size = "size of the model unknown" if parameters is None else f"{parameters:,} parameters ({source})"
    speed = f"training at {_USED:.0%} of {_FLOPS / 1e12:,.0f} Tflop/s (H100, bfloat16)"
    return RunPlan(whole.name, root, tuple(steps), disk, (size, speed, "all pairs that the rule may take"))


def _step(number: int, planned: Plan, parameters: int | None) -> IterationPlan:
    training = planned.recipe.training
    assert training is not None
    limits, answers = planned.recipe.pairs.take(), sum(sampler.tasks_per_prompt for sampler in planned.recipe.samplers)
    chosen, rejected = (answers if most is None else most for most in (limits.chosen, limits.rejected))
    pairs = planned.prompts * (min(chosen, rejected) if limits.matched else chosen * rejected)
    _, steps = step_counts(training, pairs, training.devices, training.gradient_accumulation_steps)
    return IterationPlan(number, planned, pairs, steps, _hours(training, planned, pairs, parameters))


def _hours(training: Training, planned: Plan, pairs: int, parameters: int | None) -> float | None:
    if parameters is None:
        return None
    asked = [stage for stage in planned.estimate.stages if stage.stage.startswith("candidates") and stage.requests]
    # Where nothing is left to ask, the limit is what is known.
    tokens = asked[0].prompt_tokens / asked[0].requests + asked[0].answer_tokens if asked else training.max_length
    # Both answers of a pair with the prompt, each read by the policy and once by the reference.
    passes = training.stop_after or training.epochs
    work = 2 * pairs * min(tokens, training.max_length) * parameters * (_TRAIN * passes + _FORWARD)
    return work / (_FLOPS * _USED) / 3600


def _parameters(model: str) -> tuple[int | None, str]:
    """Counts the parameters of a model that is here; of another one, reads them from its name."""
    if model.startswith("embedded:") or Path(model).expanduser().is_dir():
        return count_parameters(model_folder(model, {})), "counted"
    named = _SIZE.search(model)
    if named is None:
        return None, ""
    return int(float(named[1]) * {"b": 1e9, "m": 1e6}[named[2].lower()]), "from its name"
