"""`prefdata rules`."""

from __future__ import annotations

import click

from prefdata.cli.options import display, print_json

__all__ = ["command"]


@click.command("rules")
@click.option("--json", "as_json", is_flag=True, help="Print names and descriptions as one JSON object.")
def command(as_json: bool) -> None:
    """List the pair rules in words, with their parameters."""
    from prefdata.recipe.listing import rules

    found = rules()
    if as_json:
        print_json(found)
        return
    width = max(map(len, found))
    display("\n".join(f"{name:<{width}}  {words.removeprefix(name + ': ')}" for name, words in found.items()))
