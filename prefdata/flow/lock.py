"""The lock: every input of a build pinned, and the key of each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prefdata import hub
from prefdata.flow.documents import read_document
from prefdata.flow.graph import FORMAT, Stage, StageGraph, graph_of
from prefdata.flow.store import BuildFolder
from prefdata.flow.versions import packages
from prefdata.recipe import Recipe
from prefdata.spec import JSON, Spec
from prefdata.spec.own import pins_of

__all__ = ["Lock", "locked_parts", "make_lock", "read_lock", "with_versions"]


@dataclass(frozen=True)
class Lock:
    """Pins and keys of all stages of one build."""

    graph: StageGraph
    """Every stage, with its pins and its key."""
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
        graph = graph_of(recipe).pinned(recipe.seed, lambda stage: stage.part.pins())
    content = {
        "format": FORMAT,
        "recipe": recipe.fingerprint(),
        "seed": recipe.seed,
        "parts": _parts(graph, earlier.get("parts", {})),
        "commits": commits,
    }
    if code := _code(recipe):
        content["code"] = code
    return Lock(graph, content)


def read_lock(folder: BuildFolder) -> JSON | None:
    """Reads a build folder's lock; None where it has none yet.

    Raises:
        StoreError: it is damaged.
    """
    return read_document(folder.lock_file, "which commits were pinned: without it, branches and tags are resolved anew")


def with_versions(content: dict[str, JSON], made_with: Mapping[str, Sequence[Mapping[str, str]]]) -> dict[str, JSON]:
    """Puts the versions that made each stage into a lock.

    Args:
        content: what the lock says, with the versions that are installed now, or that an earlier lock has.
        made_with: name of a stage → the versions that are on record in its folder; none for a stage of an earlier
            version of prefdata, which keeps what the lock says.

    Returns:
        The lock. A package that made a stage in several versions has a list of them.
    """
    parts = {
        name: {**part, "packages": _merged(versions)} if (versions := made_with.get(name)) else part
        for name, part in content["parts"].items()
    }
    return {**content, "parts": parts}


def _merged(versions: Sequence[Mapping[str, str]]) -> dict[str, JSON]:
    names = dict.fromkeys(name for each in versions for name in each)
    merged = {name: sorted({each[name] for each in versions if name in each}) for name in names}
    return {name: several if len(several) > 1 else several[0] for name, several in merged.items()}


def _code(recipe: Recipe) -> dict[str, JSON]:
    """Hashes of the user's own layouts and objective, which belong to no stage with a key."""
    parts: dict[str, Spec | None] = {"dataset": recipe.dataset, "training": recipe.training}
    parts |= {f"also.{place}": layout for place, layout in enumerate(recipe.also)}
    return {name: pins for name, part in parts.items() if part is not None and (pins := pins_of(part))}


def locked_parts(recipe: Recipe, pins: Mapping[str, JSON]) -> dict[str, JSON]:
    """Gives fingerprint, pins and key of every stage, as a lock that pins the same inputs has them.

    Args:
        recipe: with its profile applied.
        pins: name of the stage → its pins; no input is looked up.
    """
    graph = graph_of(recipe).pinned(recipe.seed, lambda stage: pins.get(stage.name, {}))
    return {stage.name: _entry(stage) for stage in graph.parts}


def _parts(graph: StageGraph, earlier: Mapping[str, JSON]) -> dict[str, JSON]:
    """Writes down what the lock says of each part."""
    parts: dict[str, JSON] = {}
    now = packages()
    for stage in graph.parts:
        # The versions that made a stage stay on record, not those that build something else from it later.
        before = earlier.get(stage.name, {})
        parts[stage.name] = {**_entry(stage), "packages": before["packages"] if before.get("key") == stage.key else now}
    return parts


def _entry(stage: Stage) -> dict[str, JSON]:
    return {"fingerprint": stage.part.fingerprint(), "pins": stage.pins, "key": stage.key}
