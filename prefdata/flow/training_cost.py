"""`training_cost`: what a training on a dataset that is not built yet would take, at most."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from prefdata.flow.plan import Plan
from prefdata.models.folders import model_folder
from prefdata.training import Training
from prefdata.training.plan import count_parameters, step_counts

__all__ = ["ModelSize", "TrainingCost", "size_of", "training_cost"]

_FLOPS = 989e12
"""Dense bfloat16 operations a second of an H100 SXM (NVIDIA's data sheet)."""
_USED = 0.4
"""Share of these that a training reaches."""
_TRAIN, _FORWARD = 6, 2
"""Operations for each parameter and token of a training step and of a forward pass (arXiv 2001.08361, section 2.1)."""
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([BM])(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class ModelSize:
    """How large a model is, and where that is known from."""

    parameters: int | None
    """None where it is not known."""
    source: str = ""


@dataclass(frozen=True)
class TrainingCost:
    """What a training takes, at most."""

    pairs: int
    """As many of each prompt as the rule may take."""
    steps: int
    """Of the optimiser."""
    hours: float | None
    """Of one H100; None where the size of the model is not known."""
    basis: tuple[str, ...]
    """What the numbers rest on."""


def size_of(model: str) -> ModelSize:
    """Counts the parameters of a model that is here; of another one, reads them from its name.

    Args:
        model: as a recipe names it.
    """
    if model.startswith("embedded:") or Path(model).expanduser().is_dir():
        return ModelSize(count_parameters(model_folder(model, {})), "counted")
    named = _SIZE.search(model)
    if named is None:
        return ModelSize(None)
    return ModelSize(int(float(named[1]) * {"b": 1e9, "m": 1e6}[named[2].lower()]), "from its name")


def training_cost(planned: Plan, size: ModelSize) -> TrainingCost:
    """Says what the training of a recipe takes, before its dataset is there.

    Args:
        planned: of the build; its recipe has a training.
        size: of the model.
    """
    training = planned.recipe.training
    assert training is not None
    limits, answers = planned.recipe.pairs.take(), sum(sampler.tasks_per_prompt for sampler in planned.recipe.samplers)
    chosen, rejected = (answers if most is None else most for most in (limits.chosen, limits.rejected))
    pairs = planned.prompts * (min(chosen, rejected) if limits.matched else chosen * rejected)
    _, steps = step_counts(training, pairs, training.devices, training.gradient_accumulation_steps)
    known = size.parameters
    counted = "size of the model unknown" if known is None else f"{known:,} parameters ({size.source})"
    speed = f"training at {_USED:.0%} of {_FLOPS / 1e12:,.0f} Tflop/s (H100, bfloat16)"
    basis = (counted, speed, "all pairs that the rule may take")
    return TrainingCost(pairs, steps, _hours(training, planned, pairs, known), basis)


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
