"""`fetch_recipe`: reads the recipe and the lock of a published dataset, to rebuild it here.

Another person's recipe is data: it is JSON, and no file of its repository is ever executed. What would still act in
the name of the user who builds it is refused: code of a model's repository, requests with a key to an address of the
recipe's choice, files of this machine. A user who has read the recipe can build it as a file of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from prefdata import hub
from prefdata.errors import InputError, RecipeError
from prefdata.flow.disk import store_errors, write_json
from prefdata.flow.graph import FORMAT
from prefdata.flow.store import build_folder
from prefdata.recipe import Recipe, load_recipe
from prefdata.spec import JSON

__all__ = ["fetch_recipe"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LOOPBACK = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/|$)")
_KEY = "OPENAI_API_KEY"
_RECIPE, _LOCK = "recipe.json", "prefdata.lock.json"
_BYTES = 32 << 20


def fetch_recipe(where: str | Path, out: str | Path | None = None) -> Recipe:
    """Reads the recipe of a published dataset, and writes its lock into the build folder unless there is one already.

    Args:
        where: a dataset of the Hub (`owner/name` or `owner/name@revision`), a dataset folder or a build folder.
        out: the build folder; left out, `builds/<name of the recipe>`.

    Returns:
        The recipe, which `prefdata.build` with the same `out` builds from the same commits.

    Raises:
        InputError: there is no such dataset, or `prefdata build` has not made it.
        RecipeError: its recipe is not valid, or would act in the name of the user who builds it.
    """
    folder, where = hub.find_dataset(where, only=[_RECIPE, _LOCK]).dataset, str(where)
    data, lock = (_document(folder / name, where) for name in (_RECIPE, _LOCK))
    if "prompts" not in data:
        raise InputError(
            f"{where!r} was made from a table by `prefdata pair`, which is not published with it",
            valid="a dataset of `prefdata build`",
        )
    for problem in _acting(data):
        raise RecipeError(
            f"the recipe of {where!r} {problem}",
            hint="download its recipe.json, read it, and build it as a file: prefdata build recipe.json",
        )
    recipe = load_recipe(folder / _RECIPE)
    build = build_folder(recipe.name, out)
    commits = _commits(lock, where)
    if not build.lock_file.exists():
        with store_errors(build.root):
            build.root.mkdir(parents=True, exist_ok=True)
        write_json(build.lock_file, commits)
    return recipe


def _document(path: Path, where: str) -> dict[str, JSON]:
    if not path.is_file() or path.stat().st_size > _BYTES:
        raise InputError(f"{where!r} has no {path.name}", valid="a dataset that prefdata has published")
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} of {where!r} is not JSON") from error
    if not isinstance(value, dict):
        raise InputError(f"{path.name} of {where!r} is not a JSON object")
    return value


def _commits(lock: Mapping[str, JSON], where: str) -> dict[str, JSON]:
    """Makes a lock that pins the same commits, and nothing else."""
    commits = lock.get("commits", {})
    if lock.get("format") != FORMAT or not isinstance(commits, dict):
        raise InputError(
            f"the lock of {where!r} is of another version of prefdata", hint="build it with the version that made it"
        )
    if not all(isinstance(sha, str) and _COMMIT.fullmatch(sha) for sha in commits.values()):
        raise InputError(f"the lock of {where!r} pins more than commits")
    return {"format": FORMAT, "commits": commits}


def _acting(value: JSON) -> Iterator[str]:
    """Yields what a recipe would do in the name of the user who builds it, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from _acting(item)
    elif isinstance(value, dict):
        if value.get("trust_remote_code"):
            yield f"runs code of the repository {value.get('model')!r}"
        address, key = value.get("base_url"), value.get("api_key_env", _KEY)
        if isinstance(address, str) and not _LOOPBACK.match(address):
            yield f"sends requests with a key of yours ({key!r}) to {address!r}"
        elif address is None and key != _KEY:
            yield f"sends {key!r} of your environment as a key to the endpoint"
        path = value.get("path")
        if value.get("kind") != "python" and isinstance(path, str):
            yield f"reads the file {path!r} of this machine"
        for item in value.values():
            yield from _acting(item)
