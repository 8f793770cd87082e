"""`prefdata pair`."""

from __future__ import annotations

from typing import get_args

import click

from prefdata.cli.options import print_json
from prefdata.errors import InputError, UserError, closest
from prefdata.pairing import LengthUnit, PairRule, rule_named

__all__ = ["command"]


@click.command("pair", short_help="Make pairs from a table of scored answers.")
@click.argument("table")
@click.option("--rule", required=True, metavar="NAME", help="A named pair rule, for instance wpo_hybrid_v2.")
@click.option("--out", required=True, metavar="DIR", help="The dataset folder to write.")
@click.option(
    "--columns",
    metavar="ROLE=NAME,...",
    help="Names of the columns: prompt=…,response=…,score=…,source=…,index=… where they differ from the roles.",
)
@click.option(
    "--length", type=click.Choice(get_args(LengthUnit)), default="characters", help="Unit of length for the rule."
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
def command(table: str, rule: str, out: str, columns: str | None, length: LengthUnit, as_json: bool) -> None:
    """Make pairs from TABLE: Parquet, JSON lines or CSV (also .gz, .zst), one row a candidate or lists a prompt."""
    from prefdata.pair_table import pair_table

    ledger = pair_table(table, _rule(rule, length), out, columns=_columns(columns))
    if as_json:
        print_json(ledger)
        return
    from pathlib import Path

    from prefdata.inspection import render, summarise

    click.echo(render(summarise(Path(out))))


def _rule(name: str, length: LengthUnit) -> PairRule:
    kinds = rule_named()
    if name not in kinds:
        raise UserError(f"there is no pair rule {name!r}", valid=closest(name, kinds))
    return kinds[name](length=length)


def _columns(text: str | None) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in (text or "").split(","):
        role, equals, name = part.partition("=")
        if part and not (equals and role.strip() and name.strip()):
            raise InputError(f"--columns: {part!r} is not ROLE=NAME", valid="--columns prompt=question,score=reward")
        if role.strip() in given:
            raise InputError(f"--columns: {role.strip()!r} is named twice", valid="one column a role")
        if part:
            given[role.strip()] = name.strip()
    return given
