"""`fetch_recipe`: reads the recipe and the lock of a published dataset, to rebuild it here.

Another person's recipe is data, and so is the lock. The recipe may do what is harmless and what the user grants; the
lock may pin commits that lie in the history of the branches that it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from prefdata import hub
from prefdata.errors import InputError
from prefdata.flow.disk import store_errors, write_json
from prefdata.flow.graph import FORMAT
from prefdata.flow.progress import say
from prefdata.flow.store import build_folder
from prefdata.recipe import Recipe, as_recipe, read_recipe
from prefdata.recipe.trust import check_wants, is_foreign
from prefdata.spec import JSON, Spec
from prefdata.spec.trust import specs_of
from prefdata.tables.documents import read_object

__all__ = ["check_named_commits", "fetch_recipe", "given_recipe"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PIN = re.compile(r"(?P<kind>dataset|model):(?P<repo>[\w./-]+)@(?P<revision>[^@]+)")
_RECIPE, _LOCK = "recipe.json", "prefdata.lock.json"
_MOST_PINS = 500


def fetch_recipe(where: str | Path, out: str | Path | None = None, allow: Iterable[str] = ()) -> Recipe:
    """Reads the recipe of a published dataset, and writes its lock into the build folder unless there is one already.

    Args:
        where: a dataset of the Hub (`owner/name` or `owner/name@revision`), a dataset folder or a build folder.
        out: the build folder; left out, `builds/from-elsewhere/<name of the recipe>`.
        allow: what the recipe may do: see `prefdata.spec.trust.GRANTS`.

    Returns:
        The recipe, which `prefdata.build` with the same `out` builds from the same commits.

    Raises:
        InputError: there is no such dataset, `prefdata build` has not made it, or its lock pins a commit that is not
            in the history of its branch.
        RecipeError: its recipe is not valid, or wants what is not granted.
    """
    folder, where = hub.find_dataset(where, only=[_RECIPE, _LOCK]).dataset, str(where)
    data, lock = (_document(folder, name, where) for name in (_RECIPE, _LOCK))
    if "prompts" not in data:
        raise InputError(
            f"{where!r} was made from a table by `prefdata pair`, which is not published with it",
            valid="a dataset of `prefdata build`",
        )
    recipe = read_recipe(folder / _RECIPE)
    check_wants(recipe, f"the recipe of {where!r}", allow)
    build = build_folder(recipe.name, out, foreign=True)
    pins = _commits(lock, where)
    # A recipe may have changed since its lock was taken over.
    check_named_commits(recipe)
    if not build.lock_file.exists():
        _check_history(pins)
        with store_errors(build.root):
            build.root.mkdir(parents=True, exist_ok=True)
        write_json(build.lock_file, {"format": FORMAT, "commits": pins})
    return recipe


def given_recipe(recipe: Recipe | str | Path, allow: Iterable[str] = ()) -> Recipe:
    """Gives the recipe itself, or loads it; what a recipe of somebody else's names by a commit is checked.

    Args:
        recipe: a recipe, its file, or the name of a shipped one.
        allow: see `fetch_recipe`.

    Raises:
        UserError: there is no such recipe, it wants what is not granted, or it names a commit of no branch or tag.
    """
    given = as_recipe(recipe, allow)
    if is_foreign(recipe):
        check_named_commits(given)
    return given


def check_named_commits(part: Spec) -> None:
    """Checks the commits that a recipe or part from elsewhere names itself: a lock would have to prove the same.

    Raises:
        UserError: one is not in the history of a branch or tag; anybody can open a pull request, whose commits the Hub
            serves like all others.
    """
    _check_history(dict(_named_by_commit(part)))


def _document(folder: Path, name: str, where: str) -> dict[str, JSON]:
    if not (folder / name).exists():
        raise InputError(f"{where!r} has no {name}", valid="a dataset that prefdata has published")
    return read_object(folder / name, folder)


def _commits(lock: Mapping[str, JSON], where: str) -> dict[str, str]:
    """Reads the commits that a lock pins, and nothing else of it: `kind:repo@revision` → SHA."""
    commits = lock.get("commits", {})
    if lock.get("format") != FORMAT or not isinstance(commits, dict):
        raise InputError(
            f"the lock of {where!r} is of another version of prefdata", hint="build it with the version that made it"
        )
    pinned = all(isinstance(sha, str) and _COMMIT.fullmatch(sha) for sha in commits.values())
    if not pinned or not all(map(_PIN.fullmatch, commits)) or len(commits) > _MOST_PINS:
        raise InputError(f"the lock of {where!r} pins more than commits")
    return commits


def _named_by_commit(recipe: Spec) -> Iterator[tuple[str, str]]:
    """Yields what a recipe itself names by a full commit, as a lock would."""
    fields: tuple[tuple[Literal["dataset", "model"], str, str], ...] = (
        *(("dataset", "dataset", "revision"), ("model", "model", "revision")),
        ("model", "lora", "lora_revision"),
    )
    for _, part in specs_of(recipe):
        for kind, name, revision in fields:
            repo, sha = getattr(part, name, None), getattr(part, revision, None)
            if isinstance(repo, str) and isinstance(sha, str) and _COMMIT.fullmatch(sha):
                yield f"{kind}:{repo}@{sha}", sha


def _check_history(pins: Mapping[str, str]) -> None:
    """Checks that every pinned commit is of the branch or tag that it is pinned for; says which are not the newest.

    Raises:
        UserError: one is not.
    """
    for name, sha in sorted(pins.items()):
        pin = _PIN.fullmatch(name)
        assert pin is not None
        kind: Literal["dataset", "model"] = "dataset" if pin["kind"] == "dataset" else "model"
        behind = hub.commits_behind(kind, pin["repo"], pin["revision"], sha)
        if behind:
            newer = "1 commit is" if behind == 1 else f"{behind:,} commits are"
            say(f"lock: {kind} {pin['repo']} is pinned at {sha[:12]}; {newer} newer in {pin['revision']!r}")
