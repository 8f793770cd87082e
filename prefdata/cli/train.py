"""`prefdata train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from prefdata.cli.options import allow_code_option, allow_option, display, print_json, profile_option, settings_given
from prefdata.cli.terminal import next_command

if TYPE_CHECKING:
    from prefdata.training.launch import TrainedModel
    from prefdata.training.plan import TrainingPlan

__all__ = ["command"]


@click.command("train")
@click.argument("what", metavar="RECIPE|FOLDER|REPO_ID")
@click.option("--dataset", metavar="FOLDER", help="A build or dataset folder in place of the recipe's own build.")
@click.option("--model", metavar="M", help="The model that training starts from; left out, the recipe's.")
@click.option("--out", metavar="DIR", help="The folder of the model; left out, models/NAME.")
@profile_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Train on the first N rows only.")
@click.option("--split", metavar="NAME", help="The split to train on, where there are several.")
@click.option("--processes", type=click.IntRange(min=1), metavar="N", help="Processes; left out, one a GPU, or one.")
@click.option("--nodes", type=click.IntRange(min=1), default=1, metavar="N", help="Machines; see docs/train.md.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A field of the training: beta=0.1.")
@allow_code_option
@allow_option
@click.option("--plan", "only_plan", is_flag=True, help="Print steps, tokens, memory and command; train nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    what: str,
    dataset: str | None,
    model: str | None,
    out: str | None,
    profile: str | None,
    limit: int | None,
    split: str | None,
    processes: int | None,
    nodes: int,
    settings: tuple[str, ...],
    allow_code: bool,
    allow: tuple[str, ...],
    only_plan: bool,
    as_json: bool,
) -> None:
    """Train on what RECIPE describes, on a build or dataset FOLDER, or on a dataset of the Hub.

    The training is the recipe's, or the one of the dataset's `recipe.json`. Goes on where it stopped: the same command
    again resumes from the last checkpoint.
    """
    from prefdata.flow.progress import say
    from prefdata.flow.train import plan_training, train
    from prefdata.spec.code import allowing_code

    options: dict[str, Any] = {
        "model": model,
        "out": out,
        "profile": profile,
        "limit": limit,
        "split": split,
        "processes": processes,
        "nodes": nodes,
        "settings": settings_given(settings),
        "allow": allow,
        "log": say,
    }
    if only_plan:
        with allowing_code(allow_code):
            plan = plan_training(what, dataset, **options)
        if as_json:
            print_json(plan.dump())
        else:
            display("\n".join(_plan_lines(plan)))
        return
    trained = train(what, dataset, allow_code=allow_code, **options)
    if as_json:
        print_json({"folder": str(trained.folder), **trained.facts})
    else:
        display("\n".join(_result_lines(trained)))


def _plan_lines(plan: TrainingPlan) -> list[str]:
    stopped = "" if plan.stop_step == plan.steps else f", stopped after {plan.stop_step:,}"
    dropped = plan.rows_in - plan.rows_trained
    lines = [
        f"train     {plan.model} by {plan.kind}",
        f"rows      {plan.rows_in:,} in, {plan.rows_trained:,} trained on, {dropped:,} dropped",
        f"tokens    {plan.tokens:,} an epoch, {plan.padding:.2f} computed for each real one",
        f"batch     {plan.batch_size} = {plan.processes} processes x {plan.accumulation} accumulated",
        f"steps     {plan.steps:,}{stopped}",
        f"reference {plan.reference_rows:,} rows to compute",
        f"memory    GiB a device (and on the host), for {plan.parameters:,} parameters; an estimate",
    ]
    for name, need in plan.memory.items():
        host = f" + {need['host_gib']:g} on the host" if need["host_gib"] else ""
        lines.append(f"  {name:<14}{need['device_gib']:g}{host}")
    return [*lines, f"command   {' '.join(plan.command)}"]


def _result_lines(trained: TrainedModel) -> list[str]:
    losses = [entry["loss"] for entry in trained.metrics if isinstance(entry.get("loss"), int | float)]
    rows_in, kept, dropped = (
        trained.facts["preflight"][0][name] for name in ("rows_in", "rows_trained", "rows_dropped")
    )
    lines = [
        f"rows   {rows_in:,} in, {kept:,} trained on, {dropped:,} dropped",
        f"steps  {trained.facts['result']['steps']:,}",
    ]
    lines += [f"loss   {losses[0]:.4f} in the first step, {losses[-1]:.4f} in the last"] if losses else []
    return [
        *lines,
        f"Model:   {trained.folder} (a recipe can name it as its `model`)",
        f"Card:    {trained.folder / 'README.md'}",
        next_command("push", trained.folder, "OWNER/NAME"),
    ]
