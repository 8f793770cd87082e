"""`prefdata build`."""

from __future__ import annotations

from pathlib import Path

import click

from prefdata.cli.options import allow_code_option, limit_option, out_option, profile_option, recipe_argument

__all__ = ["command"]


@click.command("build", short_help="Build the dataset of a recipe.")
@recipe_argument
@profile_option
@limit_option
@out_option
@click.option("--relock", is_flag=True, help="Resolve branches and tags anew instead of keeping the lock's commits.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done, as `prefdata check` does.")
@allow_code_option
@click.option("--json", "as_json", is_flag=True, help="Print the ledger as one JSON object.")
def command(
    recipe: str,
    profile: str | None,
    limit: int | None,
    out: str | None,
    relock: bool,
    dry_run: bool,
    allow_code: bool,
    as_json: bool,
) -> None:
    """Build the dataset of RECIPE: a .py or .json file, or the name of a shipped recipe.

    Runs again where it stopped: what is finished is never made again.
    """
    from prefdata.cli.options import allowing_code, print_json
    from prefdata.recipe import load_recipe

    loaded = load_recipe(recipe).with_profile(profile).with_limit(limit)
    if dry_run:
        from prefdata.cli.check import show_plan

        with allowing_code(allow_code, Path(recipe).parent):
            show_plan(loaded, out, as_json)
        return
    from prefdata.flow import build

    with allowing_code(allow_code, Path(recipe).parent):
        built = build(loaded, out, relock=relock)
    if as_json:
        print_json({**built.ledger, "dataset": str(built.dataset)})
        return
    from prefdata.inspection import render, summarise

    click.echo(render(summarise(built.dataset)))
    click.echo(f"\nDataset: {built.dataset}\nNext:    prefdata inspect {built.folder}")
