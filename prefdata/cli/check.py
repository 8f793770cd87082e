"""`prefdata check`."""

from __future__ import annotations

from pathlib import Path

import click

from prefdata.cli.options import (
    allow_code_option,
    allowing_code,
    limit_option,
    out_option,
    print_json,
    profile_option,
    recipe_argument,
)
from prefdata.errors import UserError
from prefdata.recipe import Recipe, load_recipe

__all__ = ["command", "show_plan"]


@click.command("check", short_help="Show what a build would do.")
@recipe_argument
@profile_option
@limit_option
@out_option
@allow_code_option
@click.option("--json", "as_json", is_flag=True, help="Print the plan as one JSON object.")
def command(
    recipe: str, profile: str | None, limit: int | None, out: str | None, allow_code: bool, as_json: bool
) -> None:
    """Show what `prefdata build RECIPE` would do, before anything is spent.

    Reads the prompts and resolves every input; starts no model and asks no endpoint.
    """
    with allowing_code(allow_code, Path(recipe).parent):
        show_plan(load_recipe(recipe).with_profile(profile).with_limit(limit), out, as_json)


def show_plan(recipe: Recipe, out: str | None, as_json: bool) -> None:
    """Prints the plan of a build."""
    from dataclasses import asdict

    from prefdata.flow import plan

    planned = plan(recipe, out)
    if as_json:
        print_json({**asdict(planned), "folder": str(planned.folder), "recipe": recipe.fingerprint()})
        return
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in planned.drops.items()) or "none"
    click.echo(f"recipe   {recipe.name} ({recipe.fingerprint()[:12]})")
    click.echo(f"folder   {planned.folder}")
    click.echo(f"prompts  {planned.prompts:,}; dropped: {dropped}\n")
    for stage in planned.stages:
        click.echo(f"{stage.stage:<24} {stage.state:<12} {stage.asks:>9,} {stage.unit:<18} {stage.words}")
    if planned.problems:
        raise UserError("the build could not run here:\n" + "\n".join(planned.problems))
    click.echo(f"\nNext:    prefdata build ... --out {planned.folder}")
