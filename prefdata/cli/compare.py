"""`prefdata compare`."""

from __future__ import annotations

import click

from prefdata.cli.options import display, print_json

__all__ = ["command"]


@click.command("compare")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--published/--no-published", default=True, help="Beside the published numbers of the two recipes.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as one JSON object.")
def command(models: tuple[str, ...], published: bool, as_json: bool) -> None:
    """Print evaluated models side by side; each MODEL is a folder with an evaluation.json, or that file."""
    from prefdata.evaluation.compare import compare

    compared = compare(*models, published=published)
    if as_json:
        print_json(compared.dump())
    else:
        display("\n".join(compared.table()))
