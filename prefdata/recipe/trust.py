"""Recipes from elsewhere: what they want is refused unless it is granted, and they never say where to publish."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from prefdata.errors import RecipeError
from prefdata.publish import Publish
from prefdata.recipe.recipe import Recipe
from prefdata.spec import Spec
from prefdata.spec.marks import Acts, mark_of
from prefdata.spec.trust import Grants, option_of, wants

__all__ = ["check_wants", "is_foreign", "is_trusted", "of_a_stranger"]

_CACHED = re.compile(r"(datasets|models|spaces)--.*")
"""Folders of repositories in the cache of the Hub's clients."""
_MOST_LINES = 30
_SpecT = TypeVar("_SpecT", bound=Spec)


def is_trusted(path: str | Path) -> bool:
    """Tells whether a file counts as the user's own: it lies below the current folder, and in no hidden folder.

    A link counts as what it leads to.
    """
    try:
        below = Path(path).resolve().relative_to(Path.cwd().resolve())
    except ValueError:
        return False
    return not any(part.startswith(".") or _CACHED.fullmatch(part) for part in below.parts)


def is_foreign(recipe: object) -> bool:
    """Tells whether what names a recipe is a JSON file that counts as somebody else's."""
    return isinstance(recipe, str | Path) and str(recipe).endswith(".json") and not is_trusted(recipe)


def check_wants(part: Spec, where: str, allow: Iterable[str] = ()) -> None:
    """Checks that a part from elsewhere does nothing that is not granted.

    Args:
        part: a recipe, or a part of one.
        where: what it is, for messages: `the recipe of 'owner/name'`.
        allow: what is granted: see `prefdata.spec.trust.GRANTS`.

    Raises:
        RecipeError: it does more; the message lists all of it, each with what grants it.
    """
    grants = Grants(allow)
    open_wants = [want for want in wants(part) if want.mark.group != "publish" and not grants.cover(want)]
    # Code is refused where it would run: a recipe that names code can be looked at without it.
    if all(want.mark.group == "code" for want in open_wants):
        return
    lines = [f"- {want}" for want in open_wants[:_MOST_LINES]]
    if len(open_wants) > _MOST_LINES:
        lines.append(f"- and {len(open_wants) - _MOST_LINES} more")
    # One option for everything is offered only to people who have everything before their eyes.
    whole = len(open_wants) <= _MOST_LINES and all(want.is_shown_whole for want in open_wants)
    every = f"All of it: {option_of(*(want.grant for want in open_wants))}"
    raise RecipeError(
        "\n".join([f"{where} comes from elsewhere. This recipe wants:", *lines]),
        hint="read the recipe; what you agree to, allow. "
        + (every if whole else "Not all of it is shown here: read the file before you allow any of it"),
    )


def of_a_stranger(recipe: Recipe, where: str, allow: Iterable[str] = ()) -> Recipe:
    """Gives a recipe from elsewhere without the place to publish that it names.

    Args:
        recipe: as it was read.
        where: see `check_wants`.
        allow: see `check_wants`.

    Raises:
        RecipeError: see `check_wants`.
    """
    check_wants(recipe, where, allow)
    profiles = {name: _unpublished(profile) for name, profile in recipe.profiles.items()}
    return _unpublished(recipe).replace(profiles=profiles)


def _unpublished(part: _SpecT) -> _SpecT:
    """Gives a recipe or a profile whose `publish` keeps only statements for the card."""
    publish = getattr(part, "publish", None)
    if not isinstance(publish, Publish):
        return part
    kept: Mapping[str, object] = {
        name: getattr(publish, name) for name in Publish.model_fields if not isinstance(mark_of(Publish, name), Acts)
    }
    return part.replace(publish=Publish.model_validate(kept))
