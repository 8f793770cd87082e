"""`build` and `check`, as the command line has them: a recipe by object, file or name, with profile and limit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefdata.errors import UserError
from prefdata.flow import build as building
from prefdata.flow.build import Build
from prefdata.flow.engines.local import Engine
from prefdata.flow.from_hub import fetch_recipe, given_recipe
from prefdata.flow.plan import Plan, plan
from prefdata.flow.progress import say
from prefdata.flow.store import SHARD_SIZE, build_folder
from prefdata.publish import pushing
from prefdata.recipe import Recipe, folder_of
from prefdata.recipe.trust import is_foreign
from prefdata.spec.code import allowing_code
from prefdata.spec.quoting import for_a_stranger

__all__ = ["build", "check"]


def build(
    recipe: Recipe | str | Path | None = None,
    out: str | Path | None = None,
    *,
    origin: str | Path | None = None,
    profile: str | None = None,
    limit: int | None = None,
    relock: bool = False,
    allow_code: bool = False,
    allow: Iterable[str] = (),
    push: bool = False,
    check: bool = False,
    repair: bool = False,
    replace: bool = False,
    reuse: str | Path | bool = True,
    shard_size: int = SHARD_SIZE,
    engine: Engine | None = None,
) -> Build:
    """Builds the dataset of a recipe; what an earlier run of the same recipe finished is kept.

    Args:
        recipe: a recipe, a `.py` or `.json` file, or the name of a shipped recipe.
        out: the build folder, or one of an object store (`s3://bucket/folder`); left out,
            `builds/<name of the recipe>`; for a recipe from elsewhere, `builds/from-elsewhere/<name of the recipe>`.
        origin: in place of a recipe: a published dataset (`owner/name`, or its folder), built with its lock.
        profile: a profile of the recipe.
        limit: at most this many different prompts, the first ones.
        relock: resolve branches and tags anew instead of keeping what the folder's lock pinned.
        allow_code: run Python parts that a JSON recipe names; their modules are looked for in its folder first.
        allow: what a recipe from elsewhere may do, one group at a time: see `prefdata.spec.trust.GRANTS`.
        push: publish the dataset where the recipe's `publish` says; a recipe from elsewhere says nothing of it.
        check: compare the SHA-256 of every file of the stages; otherwise only of those whose size or time have changed.
        repair: set damaged files aside, and make their shards again; checks every file.
        replace: replace a finished dataset of another limit or profile that has another number of prompts.
        reuse: where answers and scores of other builds are looked up before anything is asked, and those of this one
            kept: True takes the folder `.cache` beside the build folder, False asks everything anew and keeps nothing.
        shard_size: prompts of a shard. Changing it reruns the stages; it never changes the dataset.
        engine: the machines that carry it out, as `Ray(address="auto")`; left out, this one. It changes no byte.

    Raises:
        UserError: something that the user can fix; what was finished so far is kept.
        ConservationError: rows went missing between two stages, which is a bug.
    """
    foreign = origin is not None or is_foreign(recipe)
    with allowing_code(allow_code, folder_of(recipe)), for_a_stranger(foreign):
        variant = _one_recipe(recipe, origin, out, allow).with_profile(profile).with_limit(limit)
        if push:
            _check_target(variant, origin)
        folder = build_folder(variant.name, out, foreign=foreign).out
        options: dict[str, Any] = {"relock": relock, "check": check or push, "repair": repair, "replace": replace}
        built = building.build(variant, folder, reuse=reuse, shard_size=shard_size, engine=engine, **options)
    if not push:
        return built
    publish = variant.publish
    repo = publish.repo or ""
    return dataclasses.replace(
        built, pushed=pushing.push(built.dataset, repo, public=publish.public, tag=publish.tag, log=say)
    )


def _check_target(recipe: Recipe, origin: str | Path | None) -> None:
    """Checks that it is for this recipe to say where its dataset is published, and that it does.

    Raises:
        UserError: it is not, or it does not.
    """
    if origin is not None:
        raise UserError(
            "where to publish a dataset of somebody else's recipe is for you to say, not for the recipe",
            hint="build it without --push, then: prefdata push FOLDER OWNER/NAME",
        )
    if recipe.publish.repo is None:
        raise UserError(
            f"recipe {recipe.name!r} doesn't say where to publish",
            valid='publish=Publish(repo="owner/name") in a recipe of your own',
            hint="or build it, then: prefdata push FOLDER OWNER/NAME",
        )


def check(
    recipe: Recipe | str | Path | None = None,
    out: str | Path | None = None,
    *,
    origin: str | Path | None = None,
    profile: str | None = None,
    limit: int | None = None,
    answer_tokens: int | None = None,
    allow_code: bool = False,
    allow: Iterable[str] = (),
    reuse: str | Path | bool = True,
    shard_size: int = SHARD_SIZE,
) -> Plan:
    """Finds out what `build` would do, without spending anything: reads the prompts and starts no model.

    Args:
        recipe: see `build`.
        out: see `build`.
        origin: see `build`.
        profile: see `build`.
        limit: see `build`.
        answer_tokens: how long answers are expected to be; None goes by those that the build has.
        allow_code: see `build`.
        allow: see `build`.
        reuse: see `build`.
        shard_size: see `build`.

    Raises:
        UserError: an input can't be found.
    """
    foreign = origin is not None or is_foreign(recipe)
    with allowing_code(allow_code, folder_of(recipe)), for_a_stranger(foreign):
        variant = _one_recipe(recipe, origin, out, allow).with_profile(profile).with_limit(limit)
        folder = build_folder(variant.name, out, foreign=foreign).out
        return plan(variant, folder, reuse=reuse, shard_size=shard_size, answer_tokens=answer_tokens)


def _one_recipe(
    recipe: Recipe | str | Path | None, origin: str | Path | None, out: str | Path | None, allow: Iterable[str]
) -> Recipe:
    if recipe is not None and origin is None:
        return given_recipe(recipe, allow)
    if recipe is None and origin is not None:
        return fetch_recipe(origin, out, allow)
    raise UserError("give one recipe", valid="RECIPE, or --from REPO_ID (in Python: `origin`)")
