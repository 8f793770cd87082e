"""`prefdata build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefdata.cli.options import allow_code_option, limit_option, out_option, profile_option
from prefdata.errors import UserError

if TYPE_CHECKING:
    from prefdata.recipe import Recipe

__all__ = ["command"]


@click.command("build", short_help="Build the dataset of a recipe.")
@click.argument("recipe", required=False)
@click.option("--from", "origin", metavar="REPO_ID", help="Build the recipe of a published dataset, with its lock.")
@profile_option
@limit_option
@out_option
@click.option("--relock", is_flag=True, help="Resolve branches and tags anew instead of keeping the lock's commits.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done, as `prefdata check` does.")
@allow_code_option
@click.option("--push", "publishes", is_flag=True, help="Publish it where the recipe's `publish` says.")
@click.option("--json", "as_json", is_flag=True, help="Print the ledger as one JSON object.")
def command(
    recipe: str | None,
    origin: str | None,
    profile: str | None,
    limit: int | None,
    out: str | None,
    relock: bool,
    dry_run: bool,
    allow_code: bool,
    publishes: bool,
    as_json: bool,
) -> None:
    """Build the dataset of RECIPE: a .py or .json file, or the name of a shipped recipe.

    Runs again where it stopped: what is finished is never made again.
    """
    from prefdata.cli.options import allowing_code, print_json

    loaded = _recipe(recipe, origin, out).with_profile(profile).with_limit(limit)
    if publishes and loaded.publish.repo is None:
        raise UserError(
            f"recipe {loaded.name!r} doesn't say where to publish",
            valid='publish=Publish(repo="owner/name")',
            hint="or build it, then: prefdata push FOLDER OWNER/NAME",
        )
    if dry_run:
        from prefdata.cli.check import show_plan

        with allowing_code(allow_code, Path(recipe or ".").parent):
            show_plan(loaded, out, as_json)
        return
    from prefdata.flow.build import build

    with allowing_code(allow_code, Path(recipe or ".").parent):
        built = build(loaded, out, relock=relock)
    published = _published(loaded, built.dataset) if publishes else []
    if as_json:
        print_json({**built.ledger, "dataset": str(built.dataset), **({"commit": published[-1]} if published else {})})
        return
    from prefdata.inspection import render, summarise

    click.echo(render(summarise(built.dataset)))
    click.echo(f"\nDataset: {built.dataset}\nNext:    prefdata inspect {built.folder}")
    if published:
        click.echo("\n".join(published))


def _recipe(recipe: str | None, origin: str | None, out: str | None) -> Recipe:
    if (recipe is None) == (origin is None):
        raise UserError("give one recipe", valid="RECIPE, or --from REPO_ID")
    if origin is not None:
        from prefdata.flow.from_hub import fetch_recipe

        return fetch_recipe(origin, out)
    from prefdata.recipe import load_recipe

    return load_recipe(recipe or "")


def _published(recipe: Recipe, folder: Path) -> list[str]:
    from prefdata.cli.push import push_lines
    from prefdata.flow.progress import say
    from prefdata.publish import push

    publish = recipe.publish
    return push_lines(push(folder, publish.repo or "", public=publish.public, tag=publish.tag, log=say))
