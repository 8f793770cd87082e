"""`plan`: what a build would do, stage by stage, and what would stop it; nothing is spent."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass
from pathlib import Path

from prefdata.flow.answer_store import open_store
from prefdata.flow.estimate import COUNTED, Estimate, estimate_build
from prefdata.flow.graph import graph_of
from prefdata.flow.lock import make_lock, read_lock
from prefdata.flow.reader import BuildReader, BuildRecord
from prefdata.flow.run import problems_of, prompt_job
from prefdata.flow.store import SHARD_SIZE, build_folder
from prefdata.pairing.words import rule_words
from prefdata.recipe import Recipe
from prefdata.spec import Operational, Part
from prefdata.spec.pages import page

__all__ = ["Plan", "StagePlan", "describe", "describe_steps", "plan"]


@dataclass(frozen=True)
class StagePlan:
    """What a build would do for one stage."""

    stage: str
    state: str
    """`done`, `partly done` or `to do`."""
    asks: int
    """Tasks of the whole stage, in `unit`."""
    unit: str
    """`rows`, `answers` or `prompts`."""
    words: str
    """What the stage does."""


@dataclass(frozen=True)
class Plan:
    """What a build would do."""

    recipe: Recipe
    """With its profile and limit applied."""
    folder: Path
    prompts: int
    """Prompts after merging duplicates."""
    drops: dict[str, int]
    """Prompts that the prompts stage drops: reason → count."""
    stages: tuple[StagePlan, ...]
    problems: tuple[str, ...]
    """What would stop the build: missing packages, keys that are not set."""
    estimate: Estimate
    """What is left to ask of language models: requests, tokens, money, hours."""

    def _repr_html_(self) -> str:
        costs = [
            (cost.stage, cost.requests, cost.prompt_tokens, cost.completion_tokens, cost.hours)
            for cost in self.estimate.stages
        ]
        return page(
            f"Plan of {self.recipe.name}",
            {
                "folder": self.folder,
                "prompts": self.prompts,
                **{f"dropped: {what}": n for what, n in self.drops.items()},
            },
            [("stage", "state", "tasks", "unit", "what it does"), *map(astuple, self.stages)],
            [("left to ask", "requests", "prompt tokens", "answer tokens", "hours"), *costs],
            [("problem",), *((problem,) for problem in self.problems)],
        )


def plan(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    reuse: str | Path | bool = True,
    shard_size: int = SHARD_SIZE,
    answer_tokens: int | None = None,
    counted: int = COUNTED,
) -> Plan:
    """Says what `build` would do, without spending anything: reads the prompts, starts no model, sends no request.

    Args:
        recipe: with its profile applied.
        out: as for `build`.
        reuse: as for `build`.
        shard_size: as for `build`.
        answer_tokens: how long answers are expected to be; None goes by those that the build has.
        counted: most prompts to count for the estimate; what they need is scaled to all.

    Raises:
        UserError: an input can't be found.
    """
    folder = build_folder(recipe.name, out)
    folder.refresh()
    store = open_store(folder.root, reuse)
    build = BuildReader(folder.root, BuildRecord(recipe, make_lock(recipe, read_lock(folder)).graph, shard_size))
    job = prompt_job(build)
    rows = job.read(job.context())
    words = describe_steps(recipe)
    stages = [
        StagePlan(
            stage=stage.name,
            state=build.state(stage.name),
            asks=rows.n_rows if stage.kind == "prompts" else len(rows.prompts) * stage.per_prompt,
            unit=stage.unit,
            words=words[stage.name],
        )
        for stage in build.graph.stages
    ]
    reasons = dict(sorted(Counter(drop.reason for drop in rows.drops).items()))
    problems = tuple(map(str, problems_of(build)))
    estimated = estimate_build(
        build,
        rows.prompts,
        answer_tokens=answer_tokens,
        counted=counted,
        store=None if store is None else store.of_stage(None),
    )
    return Plan(recipe, folder.root, len(rows.prompts), reasons, tuple(stages), problems, estimated)


def describe(part: Part) -> str:
    """Describes a part in words: its kind, and the fields that can change a result and differ from their defaults."""
    options = []
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        silent = name == "kind" or Operational in field.metadata
        if not silent and value != field.get_default(call_default_factory=True):
            options.append(f"{name} {_shown(value)}")
    kind = part.identity()["kind"]
    return f"{kind} ({', '.join(options)})" if options else str(kind)


def _shown(value: object) -> object:
    if isinstance(value, Part):
        return describe(value)
    if isinstance(value, tuple):
        return ", ".join(str(_shown(item)) for item in value)
    if isinstance(value, str) and not (value.isprintable() and value.strip() == value != ""):
        return repr(value)
    return value.name if isinstance(value, Path) else value


def describe_steps(recipe: Recipe) -> dict[str, str]:
    """Describes every stage of a recipe in words; the prompts stage with its filters."""
    graph = graph_of(recipe)
    steps = {stage.name: describe(stage.part) for stage in graph.stages}
    steps["prompts"] = ", then ".join([steps["prompts"], *(describe(stage.part) for stage in graph.of_kind("filter"))])
    steps["pairs"] = rule_words(recipe.pairs)
    return steps
