"""`prefdata new`."""

from __future__ import annotations

import click

from prefdata.cli.options import display
from prefdata.cli.terminal import next_command

__all__ = ["command"]


@click.command("new")
@click.argument("name")
@click.option(
    "--from", "origin", default="wpo_hybrid_v2", show_default=True, metavar="RECIPE", help="The recipe to copy."
)
@click.option("--out", metavar="FILE", help="The file to write; left out, NAME.py.")
def command(name: str, origin: str, out: str | None) -> None:
    """Write the recipe NAME, a copy of a shipped recipe to change; `prefdata recipes` lists these."""
    from prefdata.recipe.listing import new

    path = new(name, origin=origin, out=out)
    display(f"Recipe:  {path}\n{next_command('check', path, profile='cpu')}")
