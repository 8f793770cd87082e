"""Arguments and options that several commands share."""

from __future__ import annotations

import json

import click

from prefdata.spec import JSON

__all__ = ["limit_option", "out_option", "print_json", "profile_option", "recipe_argument"]

recipe_argument = click.argument("recipe")
profile_option = click.option("--profile", metavar="NAME", help="A profile of the recipe, for instance `cpu`.")
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Take only the first N different prompts."
)
out_option = click.option("--out", metavar="DIR", help="The build folder; left out, builds/NAME.")


def print_json(value: JSON) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True))
