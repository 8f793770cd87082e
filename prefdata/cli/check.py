"""`prefdata check`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from textwrap import indent
from typing import TYPE_CHECKING

import click

from prefdata.cli.options import (
    allow_code_option,
    allow_option,
    display,
    from_option,
    limit_option,
    no_reuse_option,
    out_option,
    print_json,
    profile_option,
    reuse_of,
    reuse_option,
)
from prefdata.cli.terminal import next_command
from prefdata.errors import UserError

if TYPE_CHECKING:
    from prefdata.flow.estimate import Estimate, StageCost
    from prefdata.flow.plan import Plan
    from prefdata.spec import JSON

__all__ = ["command", "show_plan"]


@click.command("check")
@click.argument("recipe", required=False)
@from_option
@profile_option
@limit_option
@out_option
@click.option(
    "--answer-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens that an answer is expected to have; left out, those of the answers that the build has, or 400.",
)
@reuse_option
@no_reuse_option
@allow_code_option
@allow_option
@click.option("--json", "as_json", is_flag=True, help="Print the plan as one JSON object.")
def command(
    recipe: str | None,
    origin: str | None,
    profile: str | None,
    limit: int | None,
    out: str | None,
    answer_tokens: int | None,
    reuse: str | None,
    no_reuse: bool,
    allow_code: bool,
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what `prefdata build RECIPE` would do, before anything is spent.

    Reads the prompts and resolves every input; starts no model and asks no endpoint. For every stage that asks a
    language model it reports requests, tokens, cost and hours that are left, counted on 200 of the prompts. Of a recipe
    from elsewhere it first lists what the recipe wants, each with the `--allow` that grants it.
    """
    from prefdata.flow.verbs import check

    planned = check(
        recipe,
        out,
        origin=origin,
        profile=profile,
        limit=limit,
        answer_tokens=answer_tokens,
        reuse=reuse_of(reuse, no_reuse),
        allow_code=allow_code,
        allow=allow,
    )
    # The profile `cpu` trains a small model, which costs next to nothing.
    show_plan(planned, as_json, with_training=profile != "cpu")


def show_plan(planned: Plan, as_json: bool, *, with_training: bool) -> None:
    """Prints the plan of a build, and what the recipe's training takes."""
    from dataclasses import asdict, fields

    from prefdata.flow.training_cost import size_of, training_cost
    from prefdata.publish.card.licence import derive_licence, licence_lines

    recipe = planned.recipe
    estimated, licence = planned.estimate, derive_licence(recipe.dump())
    training = recipe.training if with_training else None
    cost = None if training is None else training_cost(planned, size_of(training.model))
    if as_json:
        facts: dict[str, JSON] = {
            "folder": str(planned.folder),
            "recipe": recipe.fingerprint(),
            "estimate": estimated.as_json(),
        }
        facts["training"] = None if cost is None else asdict(cost)
        facts["licence"] = {**licence.header(), "reasons": licence_lines(licence)}
        shown = {field.name: getattr(planned, field.name) for field in fields(planned)}
        print_json({**shown, "stages": [asdict(stage) for stage in planned.stages], **facts})
        return
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in planned.drops.items()) or "none"
    display(f"recipe   {recipe.name} ({recipe.fingerprint()[:12]})")
    display(f"folder   {planned.folder}")
    display(f"prompts  {planned.prompts:,}; dropped: {dropped}\n")
    for stage in planned.stages:
        display(f"{stage.stage:<24} {stage.state:<12} {stage.asks:>9,} {stage.unit}\n  {stage.words}")
    if estimated.there:
        display("\n" + "\n".join(_there_lines(estimated)))
    if estimated.stages:
        display("\n" + "\n".join(_estimate_lines(estimated)))
    if cost is not None:
        hours = "hours unknown" if cost.hours is None else f"{cost.hours:,.2f} hours of one GPU"
        display(f"\ntraining   at most {cost.pairs:,} pairs, {cost.steps:,} steps; {hours}: {'; '.join(cost.basis)}")
    display("\n" + "\n".join(licence_lines(licence)))
    if planned.problems:
        raise UserError("the build could not run here:\n" + indent("\n".join(planned.problems), "    "))
    display("\n" + next_command("build", *_build_words()))


def _build_words() -> Iterator[str]:
    """Gives the arguments that build what was checked: the same ones, without what only a plan takes."""
    words = iter(sys.argv[2:])
    for word in words:
        if word == "--answer-tokens":
            next(words, None)
        elif word not in ("--dry-run", "--json") and not word.startswith("--answer-tokens="):
            yield word


def _there_lines(estimated: Estimate) -> list[str]:
    """Says what need not be asked."""
    about = "" if estimated.counted == estimated.prompts else "about "
    return [f"{kept.stage}: {about}{kept.there:,} of {kept.requests:,} are there already" for kept in estimated.there]


def _estimate_lines(estimated: Estimate) -> list[str]:
    """Formats a table of what is left to ask, a column for each stage, and what it rests on."""
    columns = [_HEADER, *map(_cells, estimated.stages)]
    if len(estimated.stages) > 1:
        totals = estimated.totals
        money = [
            ", ".join(f"{cost:,.2f} {name}" for name, cost in totals[what].items()) for what in ("cost", "most_cost")
        ]
        counts = [totals[what] for what in ("requests", "prompt_tokens", "completion_tokens", "most_completion_tokens")]
        columns.append(
            ("total", *(f"{count:,}" for count in counts), *(text or "-" for text in money), _hours(totals["hours"]))
        )
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(f"{cell:{'<' if place == 0 else '>'}{widths[place]}}" for place, cell in enumerate(row)).rstrip()
        for row in zip(*columns, strict=True)
    ]
    return [*lines, "", *_notes(estimated)]


_HEADER = (
    *("left to ask", "requests", "prompt tokens", "answer tokens", "answer tokens at most"),
    *("cost", "cost at most", "hours"),
)


def _cells(stage: StageCost) -> tuple[str, ...]:
    counts = (stage.requests, stage.prompt_tokens, stage.completion_tokens, stage.most_completion_tokens)
    money = ["-" if cost is None else f"{cost:,.2f} {stage.currency}" for cost in (stage.cost, stage.most_cost)]
    return (stage.stage, *(f"{count:,}" for count in counts), *money, _hours(stage.hours))


def _hours(hours: float | None) -> str:
    return "unknown speed" if hours is None else f"{hours:,.2f}"


def _notes(estimated: Estimate) -> list[str]:
    """Lists what the numbers rest on, and how to make them better."""
    share = f"{estimated.counted:,} of {estimated.prompts:,} prompts, scaled"
    notes = [f"counted on   {'all prompts' if estimated.counted == estimated.prompts else share}"]
    for stage in estimated.stages:
        facts = [f"prompts by {stage.counted_by}", f"{stage.answer_tokens:,.0f} tokens an answer ({stage.basis})"]
        if stage.tokens_per_second is not None:
            facts.append(f"{stage.tokens_per_second:,.4g} tokens a second ({stage.speed})")
        notes.append(f"{stage.stage}: {'; '.join(facts)}")
        if stage.budget is not None and stage.most_cost is not None and stage.most_cost > stage.budget:
            notes.append(f"{stage.stage}: the budget of {stage.budget:,.2f} {stage.currency} may stop it")
    if any(stage.basis == "assumed" for stage in estimated.stages):
        notes.append("--answer-tokens N sets the expected length of an answer")
    if any(stage.hours is None for stage in estimated.stages):
        notes.append("`tokens_per_second` of a generator sets its speed")
    notes += [
        f"spent so far {account}: {paid['cost']:,.4f} {paid['currency']}".rstrip()
        for account, paid in estimated.spent.items()
    ]
    return notes
