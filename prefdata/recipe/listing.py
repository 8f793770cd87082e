"""`recipes`, `rules` and `new`: what there is to start from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from prefdata.errors import RecipeError, StoreError, closest
from prefdata.pairing import AnyRule
from prefdata.pairing.words import rule_words
from prefdata.recipe.loading import load_recipe, shipped_recipes

__all__ = ["new", "recipes", "rules"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ORIGIN = "wpo_hybrid_v2"


def recipes() -> dict[str, str]:
    """Lists the shipped recipes: name → what the dataset is."""
    return {name: " ".join(load_recipe(name).description.split()) for name in shipped_recipes()}


def rules() -> dict[str, str]:
    """Lists the pair rules: name → the rule in words with its parameters, or what it is and which fields it needs."""
    found = {}
    for kind in get_args(get_args(AnyRule)[0]):
        name = str(kind.model_fields["kind"].default)
        try:
            found[name] = rule_words(kind())
        except ValidationError as error:
            needed = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors()}))
            found[name] = f"{(kind.__doc__ or '').partition(chr(10))[0]} Needs: {needed}"
    return found


def new(name: str, *, origin: str = _ORIGIN, out: str | Path | None = None) -> Path:
    """Writes a recipe file of one's own, a copy of a shipped recipe under another name.

    Args:
        name: the recipe's name.
        origin: the shipped recipe.
        out: the file; left out, `NAME.py` in the current folder.

    Raises:
        RecipeError: the name can't be one of a recipe, or there is no such shipped recipe.
        StoreError: there is a file of that name, or it can't be written.
    """
    shipped = shipped_recipes()
    if not _NAME.fullmatch(name):
        raise RecipeError(f"{name!r} is not a name of a recipe", valid="letters, digits, dots, dashes, underscores")
    if origin not in shipped:
        raise RecipeError(f"there is no shipped recipe {origin!r}", valid=closest(origin, shipped))
    path = Path(out) if out is not None else Path(f"{name}.py")
    text = shipped[origin].read_text("utf-8").replace(f'name="{load_recipe(origin).name}"', f'name="{name}"')
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise StoreError(f"there is a file {str(path)!r} already", hint="choose another name, or --out FILE") from error
    except OSError as error:
        raise StoreError(f"{str(path)!r} can't be written ({error.strerror})", hint="choose another --out") from error
    return path
