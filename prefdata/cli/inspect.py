"""`prefdata inspect`."""

from __future__ import annotations

import click

from prefdata.cli.options import display, print_json

__all__ = ["command"]


@click.command("inspect")
@click.argument("folder")
@click.option("--pairs", "show", type=click.IntRange(min=0), default=3, metavar="N", help="How many pairs to show.")
@click.option("--config", metavar="NAME", help="The configuration of a dataset that prefdata has not written.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def command(folder: str, show: int, config: str | None, as_json: bool) -> None:
    """Summarise FOLDER: a build, a dataset folder, or OWNER/NAME[@REVISION] of a dataset of the Hub.

    Counts, drops, ties, lengths, margins, and a few pairs. Any other file, folder or dataset of pairs is audited, as
    `prefdata audit` does.
    """
    from dataclasses import asdict

    from prefdata.inspection import render
    from prefdata.inspection.summary import inspect

    summary = inspect(folder, pairs=show, config=config)
    if as_json:
        print_json(asdict(summary))
    else:
        display(render(summary))
