"""`prefdata inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from prefdata.cli.options import display, print_json
from prefdata.cli.terminal import next_command
from prefdata.errors import UserError

if TYPE_CHECKING:
    from prefdata.inspection.listing import Listing

__all__ = ["command"]


def _after(folder: str, config: str | None, listing: Listing) -> list[str]:
    """Says how to see the pairs that are left, or all answers of the first one's prompt."""
    if listing.matching > len(listing.rows):
        asked = {"where": listing.where, "sort": listing.sort, "prompt_id": listing.prompt_id}
        return ["", next_command("inspect", folder, config=config, **asked, pairs=listing.matching)]
    if listing.rows and listing.prompt_id is None and listing.rows[0].get("prompt_id"):
        return ["", next_command("inspect", folder, config=config, prompt_id=listing.rows[0]["prompt_id"])]
    return []


@click.command("inspect")
@click.argument("folder")
@click.option(
    "--pairs",
    "show",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many pairs to show; left out, 3, and 20 of a list.",
)
@click.option(
    "--where",
    metavar="CONDITION",
    help="List the pairs that meet a condition, for instance \"margin < 1 and source_chosen == 'policy'\".",
)
@click.option(
    "--sort", metavar="COLUMN", help="List pairs by a column, the smallest first; -COLUMN, the greatest first."
)
@click.option(
    "--prompt-id", metavar="ID", help="List the pairs and all answers of a prompt; the id's beginning will do."
)
@click.option("--config", metavar="NAME", help="The configuration of a dataset that prefdata has not written.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--html", metavar="PATH", help="Write a page for a browser: NAME.html, or a folder for one above 100 MB.")
@click.option("--html-pairs", type=click.IntRange(min=1), metavar="N", help="--html: a sample of N pairs.")
@click.option("--compare", metavar="OTHER", help="--html: show what differs from another dataset.")
def command(
    folder: str,
    show: int | None,
    where: str | None,
    sort: str | None,
    prompt_id: str | None,
    config: str | None,
    as_json: bool,
    html: str | None,
    html_pairs: int | None,
    compare: str | None,
) -> None:
    """Summarise FOLDER: a build, a dataset folder, or OWNER/NAME[@REVISION] of a dataset of the Hub.

    Counts, drops, ties, lengths, margins, and a few pairs. Any other file, folder or dataset of pairs is audited, as
    `prefdata audit` does.

    With --where, --sort or --prompt-id it lists pairs instead. A condition compares columns (margin, score_chosen,
    length_difference, source_chosen, prompt, chosen, rejected, ...) by <, <=, >, >=, ==, !=, contains, in (...), and is
    missing, joined by and, or, not; an unknown column lists those there are.

    With --html: a page that a browser opens without a network. It also shows builds under way and evaluated models.
    """
    from dataclasses import asdict

    lists = where is not None or sort is not None or prompt_id is not None
    if html is None and (html_pairs is not None or compare is not None):
        raise UserError(
            "--html-pairs and --compare are of --html", valid="--html page.html", hint="prefdata diff compares in text"
        )
    if html is not None:
        if lists or as_json or show is not None:
            raise UserError("--html writes a page of all pairs", valid="--html with --html-pairs, --compare, --config")
        _write_page(folder, html, html_pairs, compare, config)
        return
    if lists:
        from prefdata.inspection.listing import list_pairs
        from prefdata.inspection.render import listing_lines

        most = 20 if show is None else show
        listing = list_pairs(folder, where=where, sort=sort, prompt_id=prompt_id, pairs=most, config=config)
        if as_json:
            print_json(asdict(listing))
        else:
            display("\n".join([*listing_lines(listing), *_after(folder, config, listing)]))
        return

    from prefdata.inspection import render
    from prefdata.inspection.summary import inspect

    summary = inspect(folder, pairs=3 if show is None else show, config=config)
    if as_json:
        print_json(asdict(summary))
    else:
        display(render(summary))
        if summary.pairs:
            column = "margin" if summary.margins else "length_difference"
            display("\n" + next_command("inspect", folder, config=config, sort=column))


def _write_page(where: str, path: str, pairs: int | None, compare: str | None, config: str | None) -> None:
    from prefdata.flow.progress import say
    from prefdata.page import write_page

    page = write_page(where, path, compare=compare, pairs=pairs, config=config, log=say)
    display(f"{page.path}: {page.rows:,} rows, {page.size / 1e6:,.1f} MB")
