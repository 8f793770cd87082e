"""`prefdata recipes`."""

from __future__ import annotations

import click

from prefdata.cli.options import display, print_json

__all__ = ["command"]


@click.command("recipes")
@click.option("--json", "as_json", is_flag=True, help="Print names and descriptions as one JSON object.")
def command(as_json: bool) -> None:
    """List the shipped recipes, each with what its dataset is."""
    from prefdata.recipe.listing import recipes

    found = recipes()
    if as_json:
        print_json(found)
        return
    width = max(map(len, found))
    display("\n".join(f"{name:<{width}}  {words.removeprefix(name + ': ')}" for name, words in found.items()))
