"""`prefdata build`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from prefdata.cli.options import (
    actors_option,
    address_option,
    allow_code_option,
    allow_option,
    display,
    engine_of,
    engine_option,
    from_option,
    limit_option,
    no_reuse_option,
    out_option,
    print_json,
    profile_option,
    replace_option,
    reuse_of,
    reuse_option,
)
from prefdata.cli.terminal import next_command
from prefdata.errors import UserError

if TYPE_CHECKING:
    from prefdata.flow.build import Build
    from prefdata.spec import JSON

__all__ = ["command"]


@click.command("build")
@click.argument("recipe", required=False)
@from_option
@profile_option
@limit_option
@out_option
@click.option("--relock", is_flag=True, help="Resolve branches and tags anew instead of keeping the lock's commits.")
@click.option("--check", "checks", is_flag=True, help="First compare the SHA-256 of every file of the stages.")
@click.option("--repair", is_flag=True, help="Set damaged files of the build aside, and make only their shards again.")
@replace_option
@reuse_option
@no_reuse_option
@engine_option
@address_option
@actors_option
@click.option("--dry-run", is_flag=True, help="Only show what would be done, as `prefdata check` does.")
@allow_code_option
@allow_option
@click.option("--push", "publishes", is_flag=True, help="Publish it where the recipe's `publish` says.")
@click.option("--json", "as_json", is_flag=True, help="Print the ledger as one JSON object.")
@click.option(
    "--json-lines", "events", is_flag=True, help="Print progress and result as JSON, an object a line, for a program."
)
def command(
    recipe: str | None,
    origin: str | None,
    profile: str | None,
    limit: int | None,
    out: str | None,
    relock: bool,
    checks: bool,
    repair: bool,
    replaces: bool,
    reuse: str | None,
    no_reuse: bool,
    engine: str,
    address: str | None,
    actors: int | None,
    dry_run: bool,
    allow_code: bool,
    allow: tuple[str, ...],
    publishes: bool,
    as_json: bool,
    events: bool,
) -> None:
    """Build the dataset of RECIPE: a .py or .json file, or the name of a shipped recipe.

    Resumes where it stopped: what is finished is kept. A recipe from elsewhere (`--from`, or a .json file outside the
    current folder) may only do what `--allow` grants. Exits with 1 when not a single pair came out, and says why.
    """
    from prefdata.flow.verbs import build, check

    if events and (dry_run or as_json):
        raise UserError("--json-lines cannot be combined with --json or --dry-run", valid="--json-lines alone")
    common: dict[str, Any] = {"origin": origin, "profile": profile, "limit": limit, "allow_code": allow_code}
    common |= {"allow": allow, "reuse": reuse_of(reuse, no_reuse)}
    if dry_run:
        from prefdata.cli.check import show_plan

        show_plan(check(recipe, out, **common), as_json, with_training=common["profile"] != "cpu")
        return
    common["engine"] = engine_of(engine, address, actors)
    common |= {"relock": relock, "check": checks, "repair": repair, "replace": replaces, "push": publishes}
    if not events:
        _show(build(recipe, out, **common), as_json)
        return
    from prefdata.flow.progress import reporting_to

    print_event = partial(print_json, one_line=True)
    with reporting_to(print_event):
        built = build(recipe, out, **common)
    print_event({"event": "finished", **_result(built)})
    _refuse_no_pairs(built)


def _result(built: Build) -> JSON:
    commit = {"commit": built.pushed.url} if built.pushed else {}
    return {**built.ledger, "dataset": str(built.dataset), **commit}


def _refuse_no_pairs(built: Build) -> None:
    """Says why a build has no pair, if it has none."""
    if not built.ledger["pairs"]:
        from prefdata.flow.no_pairs import explain_no_pairs, score_columns_of

        raise explain_no_pairs(built.dataset, score_columns_of(built.recipe))


def _show(built: Build, as_json: bool) -> None:
    """Prints a finished build.

    Raises:
        NoPairsError: it has no pair.
    """
    if as_json:
        print_json(_result(built))
    _refuse_no_pairs(built)
    if as_json:
        return
    from prefdata.inspection import render
    from prefdata.inspection.summary import inspect

    display(render(inspect(built.dataset)))
    display(f"\nDataset: {built.dataset}")
    if built.pushed:
        from prefdata.cli.push import push_lines

        display("\n".join(push_lines(built.pushed)))
    display(next_command("inspect", built.folder, sort="margin"))
