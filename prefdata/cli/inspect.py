"""`prefdata inspect`."""

from __future__ import annotations

import click

from prefdata.cli.options import display, print_json
from prefdata.errors import UserError

__all__ = ["command"]


@click.command("inspect")
@click.argument("folder")
@click.option("--pairs", "show", type=click.IntRange(min=0), default=3, metavar="N", help="How many pairs to show.")
@click.option("--config", metavar="NAME", help="The configuration of a dataset that prefdata has not written.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--html", metavar="PATH", help="Write a page for a browser: NAME.html, or a folder for one above 100 MB.")
@click.option("--html-pairs", type=click.IntRange(min=1), metavar="N", help="--html: a sample of N pairs.")
@click.option("--compare", metavar="OTHER", help="--html: show what differs from another dataset.")
def command(
    folder: str,
    show: int,
    config: str | None,
    as_json: bool,
    html: str | None,
    html_pairs: int | None,
    compare: str | None,
) -> None:
    """Summarise FOLDER: a build, a dataset folder, or OWNER/NAME[@REVISION] of a dataset of the Hub.

    Counts, drops, ties, lengths, margins, and a few pairs. Any other file, folder or dataset of pairs is audited, as
    `prefdata audit` does.

    With --html: a page that a browser opens without a network. It also shows builds under way and evaluated models.
    """
    from dataclasses import asdict

    from prefdata.inspection import render
    from prefdata.inspection.summary import inspect

    if html is not None:
        _write_page(folder, html, html_pairs, compare, config)
        return
    if html_pairs is not None or compare is not None:
        raise UserError(
            "--html-pairs and --compare are of --html", valid="--html page.html", hint="prefdata diff compares in text"
        )
    summary = inspect(folder, pairs=show, config=config)
    if as_json:
        print_json(asdict(summary))
    else:
        display(render(summary))


def _write_page(where: str, path: str, pairs: int | None, compare: str | None, config: str | None) -> None:
    from prefdata.flow.progress import say
    from prefdata.page import write_page

    page = write_page(where, path, compare=compare, pairs=pairs, config=config, log=say)
    display(f"{page.path}: {page.rows:,} rows, {page.size / 1e6:,.1f} MB")
