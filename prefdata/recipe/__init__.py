"""Recipes: `Recipe`, `Profile` and `Iterations`, loading them from files, and mistakes in plain words."""

from __future__ import annotations

from prefdata.recipe.iterations import Iterations
from prefdata.recipe.loading import (
    as_layouts,
    as_recipe,
    as_rule,
    folder_of,
    load_recipe,
    load_rule,
    read_recipe,
    shipped_recipes,
)
from prefdata.recipe.recipe import Profile, Recipe

__all__ = [
    "Iterations",
    "Profile",
    "Recipe",
    "as_layouts",
    "as_recipe",
    "as_rule",
    "folder_of",
    "load_recipe",
    "load_rule",
    "read_recipe",
    "shipped_recipes",
]
