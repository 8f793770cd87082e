"""The stages of a build as data: the part of each, what it takes in, its key. The one place that knows their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from prefdata.recipe import Recipe
from prefdata.scoring import CompositeScorer, Scorer
from prefdata.spec import JSON, Part, fingerprint

__all__ = ["FORMAT", "Stage", "StageGraph", "StageKind", "graph_of", "score_parts", "task_unit"]

FORMAT = 2
"""Raised when the meaning of stage tables changes, so that old ones are not taken for new ones."""

StageKind = Literal["filter", "prompts", "candidates", "backfill", "member", "scores", "pairs"]
"""`backfill`: published answers that no scorer sees. `member`: a scorer that a composite scorer is made of."""


@dataclass(frozen=True)
class Stage:
    """One stage: a part of the recipe, and the stages that it takes in."""

    name: str
    """Names the stage's folder and its entry in the lock: `prompts`, `candidates-<sampler>`, `scores-members.0`, ..."""
    kind: StageKind
    part: Part
    inputs: tuple[str, ...] = ()
    """Names of the stages whose keys enter this one's key; each of them comes earlier."""
    per_prompt: int = 1
    """Tasks that each prompt gives."""
    extra: JSON = None
    """What else enters the key: the recipe's limit on prompts."""
    pins: Mapping[str, JSON] = field(default_factory=dict)
    """What the lock says of the part's inputs: see `prefdata.spec.Part.pins`."""
    key: str = ""
    """64 hex digits that change with the part, its pins, the seed and the inputs; empty until the part is pinned."""

    @property
    def has_folder(self) -> bool:
        """Says whether the stage has tables of its own. Filters are carried out within the prompts stage."""
        return self.kind != "filter"

    @property
    def in_ledger(self) -> bool:
        """Says whether the ledger has a line for the stage. Members count the same candidates as `scores`."""
        return self.kind not in ("filter", "member")

    @property
    def unit(self) -> str:
        """Names what the stage's tasks are: `rows`, `answers` or `prompts`."""
        return "rows" if self.kind == "prompts" else task_unit(self.per_prompt)


@dataclass(frozen=True)
class StageGraph:
    """Every stage of one recipe, inputs first."""

    parts: tuple[Stage, ...]
    """All of them, filters too: one for each entry of the lock."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Gives those that have a folder, in the order in which a build carries them out."""
        return tuple(stage for stage in self.parts if stage.has_folder)

    def of_kind(self, *kinds: StageKind) -> tuple[Stage, ...]:
        """Gives the stages of some kinds, in order."""
        return tuple(stage for stage in self.parts if stage.kind in kinds)

    def __getitem__(self, name: str) -> Stage:
        """Gives the stage of a name."""
        return next(stage for stage in self.parts if stage.name == name)

    def pinned(self, seed: int, pins_of: Callable[[Stage], Mapping[str, JSON]]) -> StageGraph:
        """Adds pins and keys.

        Args:
            seed: the recipe's seed.
            pins_of: gives the pins of a stage's part; called once for each stage, in order.
        """
        pinned: dict[str, Stage] = {}
        for stage in self.parts:
            pins, inputs = pins_of(stage), [pinned[name].key for name in stage.inputs]
            key = fingerprint([FORMAT, stage.name, stage.part.identity(), pins, seed, inputs, stage.extra])
            pinned[stage.name] = replace(stage, pins=pins, key=key)
        return StageGraph(tuple(pinned.values()))

    def locked(self, parts: Mapping[str, Mapping[str, JSON]]) -> StageGraph:
        """Adds the pins and keys that a lock has on record.

        Args:
            parts: the lock's `parts`: name of the stage → `pins`, `key`.

        Raises:
            KeyError: the lock lacks a stage.
        """
        kept = [replace(stage, pins=parts[stage.name]["pins"], key=parts[stage.name]["key"]) for stage in self.parts]
        return StageGraph(tuple(kept))


def task_unit(per_prompt: int) -> str:
    """Names the tasks of a sampler: an answer each, or all that a table has for a prompt."""
    return "answers" if per_prompt > 1 else "prompts"


def graph_of(recipe: Recipe) -> StageGraph:
    """Lists the stages of a recipe; their pins and keys are added by `StageGraph.pinned`.

    Args:
        recipe: with its profile applied.
    """
    filters = [Stage(f"filters-{number}", "filter", part) for number, part in enumerate(recipe.filters)]
    prompts = Stage("prompts", "prompts", recipe.prompts, tuple(part.name for part in filters), extra=recipe.limit)
    samplers = [
        Stage(
            f"candidates-{sampler.name}",
            "backfill" if sampler is recipe.backfill else "candidates",
            sampler,
            (prompts.name,),
            sampler.tasks_per_prompt,
        )
        for sampler in recipe.samplers
    ]
    # The backfill is not an input of the scores: switching it on or off scores nothing again.
    scored = (prompts.name, *(stage.name for stage in samplers if stage.kind == "candidates"))
    scores = [
        Stage(
            name,
            "scores" if name == "scores" else "member",
            scorer,
            (*scored, *(f"{name}-{member}" for member in _members(scorer))),
        )
        for name, scorer in score_parts(recipe.scores)
    ]
    backfill = tuple(stage.name for stage in samplers if stage.kind == "backfill")
    pairs = Stage("pairs", "pairs", recipe.pairs, ("scores", *backfill))
    return StageGraph((*filters, prompts, *samplers, *scores, pairs))


def score_parts(scorer: Scorer, name: str = "scores") -> Iterator[tuple[str, Scorer]]:
    """Yields every stage of scores with its scorer: the members of a composite scorer before itself."""
    for member, part in _members(scorer).items():
        yield from score_parts(part, f"{name}-{member}")
    yield name, scorer


def _members(scorer: Scorer) -> Mapping[str, Scorer]:
    return scorer.members() if isinstance(scorer, CompositeScorer) else {}
