"""Recipes: `Recipe` and `Profile`, loading them from files, and mistakes in plain words."""

from __future__ import annotations

from prefdata.recipe.recipe import Profile, Recipe, load_recipe, load_rule, shipped_recipes

__all__ = ["Profile", "Recipe", "load_recipe", "load_rule", "shipped_recipes"]
