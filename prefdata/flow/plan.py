"""What a build would do: every stage with its state, and what stands in its way; nothing is spent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from prefdata.flow.estimate import COUNTED, Estimate, estimate_run
from prefdata.flow.lock import make_lock, read_lock, score_parts
from prefdata.flow.rows import read_prompts
from prefdata.flow.run import Run
from prefdata.flow.store import SHARD_SIZE, build_folder
from prefdata.recipe import Recipe
from prefdata.spec import Context, Operational, Part

__all__ = ["Plan", "StagePlan", "describe", "describe_steps", "plan"]


@dataclass(frozen=True)
class StagePlan:
    """What a build would do for one stage."""

    stage: str
    state: str
    """`done`, `partly done` or `to do`."""
    asks: int
    """How much the whole stage is asked, in `unit`."""
    unit: str
    """`rows`, `answers` or `prompts`."""
    words: str
    """How, in words."""


@dataclass(frozen=True)
class Plan:
    """What a build would do."""

    folder: Path
    prompts: int
    """Prompts after merging duplicates."""
    drops: dict[str, int]
    """Prompts that the prompts stage drops: reason → count."""
    stages: tuple[StagePlan, ...]
    problems: tuple[str, ...]
    """What would stop the build: missing packages, keys that are not set."""
    estimate: Estimate
    """What language models are still to be asked: requests, tokens, money, hours."""


def plan(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    shard_size: int = SHARD_SIZE,
    answer_tokens: int | None = None,
    counted: int = COUNTED,
) -> Plan:
    """What `build` would do, without spending anything: reads the prompts, starts no model, asks nobody.

    Args:
        recipe: with its profile applied.
        out: as for `build`.
        shard_size: as for `build`.
        answer_tokens: how long answers are expected to be; None goes by those that the build has.
        counted: most prompts to count for the estimate; what they need is scaled to all.

    Raises:
        UserError: an input can't be found.
    """
    folder = build_folder(recipe.name, out)
    lock = make_lock(recipe, read_lock(folder))
    run = Run(recipe, folder, lock, shard_size)
    contexts = [Context(seed=recipe.seed, pins=key.pins) for key in (lock.prompts, *lock.filters)]
    prompts, drops, rows = read_prompts(recipe, contexts[0], contexts[1:])
    words = describe_steps(recipe)
    members = {name: len(prompts) for name in lock.members}
    asks = {"prompts": rows, **members, "scores": len(prompts), "pairs": len(prompts)}
    asks |= {f"candidates-{sampler.name}": len(prompts) * sampler.tasks_per_prompt for sampler in recipe.samplers}
    units = {"prompts": "rows", **{key.name: "answers" for key in lock.candidates}}
    stages = [
        StagePlan(key.name, run.state(key), asks[key.name], units.get(key.name, "prompts"), words[key.name])
        for key in lock.keys[len(lock.filters) :]
    ]
    reasons = dict(sorted(Counter(drop.reason for drop in drops).items()))
    problems = tuple(str(problem) for problem in run.problems())
    estimated = estimate_run(run, prompts, answer_tokens=answer_tokens, counted=counted)
    return Plan(folder.root, len(prompts), reasons, tuple(stages), problems, estimated)


def describe(part: Part) -> str:
    """A part in words: its kind, and the fields that can change a result and differ from their defaults."""
    told = []
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        said = name == "kind" or Operational in field.metadata
        if not said and value != field.get_default(call_default_factory=True):
            told.append(f"{name} {_shown(value)}")
    kind = part.identity()["kind"]
    return f"{kind} ({', '.join(told)})" if told else str(kind)


def _shown(value: object) -> object:
    if isinstance(value, Part):
        return describe(value)
    if isinstance(value, tuple):
        return ", ".join(str(_shown(item)) for item in value)
    if isinstance(value, str) and not (value.isprintable() and value.strip() == value != ""):
        return repr(value)
    return value.name if isinstance(value, Path) else value


def describe_steps(recipe: Recipe) -> dict[str, str]:
    """Every stage of a recipe in words."""
    rule = (type(recipe.pairs).__doc__ or "").partition("\n")[0]
    return {
        "prompts": ", then ".join(map(describe, (recipe.prompts, *recipe.filters))),
        **{f"candidates-{sampler.name}": describe(sampler) for sampler in recipe.samplers},
        **{name: describe(scorer) for name, scorer in score_parts(recipe.scores)},
        "pairs": f"{describe(recipe.pairs)}: {rule}",
    }
