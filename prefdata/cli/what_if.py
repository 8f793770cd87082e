"""`prefdata what-if`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from prefdata.cli.options import allow_code_option, columns_given, display, print_json
from prefdata.cli.terminal import next_command
from prefdata.errors import printable
from prefdata.records import LengthUnit

if TYPE_CHECKING:
    from prefdata.inspection.what_if import Outcome

__all__ = ["command"]


@click.command("what-if")
@click.argument("where", metavar="TABLE|BUILD|DATASET")
@click.option("--rules", metavar="NAME,...", default="", help="Named rules; the first is what the others differ from.")
@click.option("--rule-json", "files", multiple=True, metavar="FILE", help="A rule as JSON, as a recipe's `pairs`.")
@click.option(
    "--columns",
    metavar="ROLE=NAME,...",
    help="Names of a table's columns: prompt=…,response=…,score=…,source=…,index=… where they differ from the roles.",
)
@click.option("--config", metavar="NAME", help="The configuration of a dataset of the Hub, or of a folder like one.")
@click.option("--split", metavar="NAME", help="The split of a dataset of the Hub, or of a folder.")
@click.option(
    "--length", type=click.Choice(get_args(LengthUnit)), default="characters", help="Unit of length for named rules."
)
@allow_code_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    where: str,
    rules: str,
    files: tuple[str, ...],
    columns: str | None,
    config: str | None,
    split: str | None,
    length: LengthUnit,
    allow_code: bool,
    as_json: bool,
) -> None:
    """Show what several rules make of the same answers and scores. Nothing is sampled or scored again.

    They come from a table as `prefdata pair` takes it, a build, or a dataset with its candidates (a folder, or
    OWNER/NAME[@REVISION] of the Hub).
    """
    from dataclasses import asdict

    from prefdata.inspection.what_if import what_if

    taken: list[str | Path] = [*(name.strip() for name in rules.split(",") if name.strip()), *map(Path, files)]
    outcomes = what_if(
        where,
        taken,
        columns=columns_given(columns),
        config=config,
        split=split,
        length=length,
        allow_code=allow_code,
    )
    if as_json:
        print_json({"rules": [asdict(outcome) for outcome in outcomes]})
    else:
        display(_page(outcomes))
        display("\n" + _next(where, taken[0], length, {"columns": columns, "config": config, "split": split}))


def _next(where: str, rule: str | Path, length: LengthUnit, table: dict[str, str | None]) -> str:
    """Gives the command that takes the first rule, of a table; the rule of a build is in its recipe."""
    from prefdata.hub import is_path

    path = Path(where).expanduser()
    if (path / "stages").is_dir() and not (path / "dataset").is_dir():
        return next_command("inspect", where, html="page.html")
    if is_path(where) and (not path.exists() or any((path / name).is_dir() for name in ("stages", "candidates"))):
        return next_command("inspect", where, sort="margin")
    if isinstance(rule, Path):
        return next_command("pair", where, rule_json=rule, **table, out="DIR")
    unit = None if length == "characters" else length
    return next_command("pair", where, rule=rule, length=unit, **table, out="DIR")


def _page(outcomes: list[Outcome]) -> str:
    """One column a rule."""
    from prefdata.inspection.meanings import number, percent

    rows: dict[str, list[str]] = {"": [f"rule {number}" for number, _ in enumerate(outcomes, 1)]}

    def row(name: str, values: list[str]) -> None:
        rows[name] = values

    row("prompts", [f"{found.prompts:,}" for found in outcomes])
    row("pairs", [f"{found.pairs:,}" for found in outcomes])
    for reason in sorted({reason for found in outcomes for reason in found.drops}):
        row(f"dropped: {printable(reason, 40)}", [f"{found.drops.get(reason, 0):,}" for found in outcomes])
    row("mean margin", [number(found.mean_margin) for found in outcomes])
    for name in ("chosen", "rejected", "difference"):
        row(f"mean length: {name}", [number(found.length[name]) for found in outcomes])
    row("chosen longer", [percent(found.chosen_longer) for found in outcomes])
    for side in ("chosen", "rejected"):
        row(f"tied: {side}", [percent(found.tied[side]) for found in outcomes])
    for source in list({source: None for found in outcomes for source in found.sources})[:12]:
        for side in ("chosen", "rejected"):
            shares = [percent(found.sources.get(source, {}).get(side)) for found in outcomes]
            row(f"{side} from {printable(source, 30)}", shares)
    for name in ("chosen", "rejected", "pair"):
        row(f"other {name} than rule 1", [percent(found.differs[name]) for found in outcomes])
    for name in ("gained", "lost"):
        row(f"prompts {name}", [f"{found.differs[name]:,}" for found in outcomes])
    first = max(map(len, rows))
    widths = [max(len(values[place]) for values in rows.values()) for place in range(len(outcomes))]
    lines = [f"{number}  {printable(found.rule)}" for number, found in enumerate(outcomes, 1)] + [""]
    for name, values in rows.items():
        cells = "  ".join(f"{value:>{width}}" for value, width in zip(values, widths, strict=True))
        lines.append(f"{name:<{first}}  {cells}")
    return "\n".join(lines)
