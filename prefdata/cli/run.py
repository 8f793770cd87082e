"""`prefdata run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from prefdata.cli.options import (
    actors_option,
    address_option,
    allow_code_option,
    allow_option,
    display,
    engine_of,
    engine_option,
    limit_option,
    no_reuse_option,
    print_json,
    profile_option,
    replace_option,
    reuse_of,
    reuse_option,
)
from prefdata.cli.terminal import next_command

if TYPE_CHECKING:
    from prefdata.flow.iterate import Iterated
    from prefdata.flow.run_plan import RunPlan

__all__ = ["command"]


@click.command("run")
@click.argument("recipe")
@profile_option
@limit_option
@click.option("--out", metavar="DIR", help="The folder of the run; left out, runs/NAME.")
@click.option("--processes", type=click.IntRange(min=1), metavar="N", help="Of each training; left out, one a GPU.")
@click.option(
    "--push",
    is_flag=False,
    flag_value="",
    metavar="[OWNER/NAME]",
    help="Publish each dataset and model as NAME-iteration-K; without a name, where the recipe's `publish` says.",
)
@replace_option
@reuse_option
@no_reuse_option
@engine_option
@address_option
@actors_option
@click.option("--plan", "only_plan", is_flag=True, help="Print requests, hours, money and disk; do nothing.")
@allow_code_option
@allow_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    recipe: str,
    profile: str | None,
    limit: int | None,
    out: str | None,
    processes: int | None,
    push: str | None,
    replaces: bool,
    reuse: str | None,
    no_reuse: bool,
    engine: str,
    address: str | None,
    actors: int | None,
    only_plan: bool,
    allow_code: bool,
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Carry out the iterations of RECIPE: sample, score, pair and train, each with the model of the one before.

    Goes on where it stopped: what is finished is not done again.
    """
    if only_plan:
        from prefdata.flow.run_plan import plan_run

        planned = plan_run(recipe, out, profile=profile, limit=limit, allow_code=allow_code, allow=allow)
        if as_json:
            print_json(planned.as_json())
        else:
            display("\n".join(_plan_lines(planned)))
        return
    from prefdata.flow.iterate import run

    done = run(
        recipe,
        out,
        profile=profile,
        limit=limit,
        processes=processes,
        push=push or push is not None,
        replace=replaces,
        reuse=reuse_of(reuse, no_reuse),
        allow_code=allow_code,
        allow=allow,
        engine=engine_of(engine, address, actors),
    )
    if as_json:
        print_json({"folder": str(done.folder), **done.ledger})
    else:
        display("\n".join(_lines(done)))


def _lines(done: Iterated) -> list[str]:
    lines = ["iteration  prompts    pairs  steps  model"]
    for entry, model in zip(done.ledger["iterations"], done.models, strict=True):
        number = entry["iteration"]
        prompts = done.ledger["prompts"][str(number)]["prompts"]
        lines.append(f"{number:>9}  {prompts:>7,}  {entry['pairs']:>7,}  {entry['steps']:>5,}  {model}")
    last = f"Model:   {done.models[-1]} (a recipe can name it as its `model`)"
    return [*lines, last, next_command("inspect", done.builds[-1].folder)]


def _plan_lines(planned: RunPlan) -> list[str]:
    lines = [f"run      {planned.name}", f"folder   {planned.folder}", ""]
    for step in planned.iterations:
        totals, cost = step.build.estimate.totals, step.training
        money = ", ".join(f"{price:,.2f} {name}" for name, price in totals["cost"].items()) or "no prices"
        lines += [
            f"iteration {step.number}",
            f"  prompts   {step.build.prompts:,}",
            f"  requests  {totals['requests']:,} to language models; {_hours(totals['hours'])}; {money}",
            f"  training  at most {cost.pairs:,} pairs, {cost.steps:,} steps; {_hours(cost.hours)} of one GPU",
        ]
        lines += [f"  problem   {problem}" for problem in step.build.problems]
    disk = "unknown" if planned.disk_bytes is None else f"{planned.disk_bytes / 1e9:,.1f} GB at most"
    return [*lines, "", f"disk      {disk}", *(f"basis     {line}" for line in planned.basis)]


def _hours(hours: float | None) -> str:
    return "hours unknown" if hours is None else f"{hours:,.2f} hours"
