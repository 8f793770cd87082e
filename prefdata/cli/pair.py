"""`prefdata pair`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from prefdata.cli.options import (
    allow_code_option,
    columns_given,
    display,
    length_option,
    limit_option,
    one_rule,
    print_json,
    replace_option,
    rule_json_option,
)
from prefdata.records import LengthUnit

__all__ = ["command"]


@click.command("pair")
@click.argument("table")
@click.option(
    "--rule",
    metavar="NAME",
    help="A named pair rule, for instance wpo_hybrid_v2, or a Python function module:function.",
)
@rule_json_option
@click.option("--out", required=True, metavar="DIR", help="The dataset folder to write.")
@click.option(
    "--columns",
    metavar="ROLE=NAME,...",
    help="Names of the columns: prompt=…,response=…,score=…,source=…,index=… where they differ from the roles.",
)
@length_option
@limit_option
@click.option("--min-margin", type=click.FloatRange(min=0), metavar="X", help="The least difference of the scores.")
@click.option(
    "--max-length-difference",
    type=click.IntRange(min=0),
    metavar="N",
    help="The greatest difference of the lengths, in the unit of --length.",
)
@click.option(
    "--test-size", type=click.FloatRange(min=0), default=0, metavar="N", help="Prompts, or a share, to hold out."
)
@click.option("--layout", metavar="KIND", help="Columns of the dataset: trl or snorkel; left out, trl.")
@click.option("--also", metavar="KIND,...", help="The same pairs in further layouts: kto, full_conversation, ...")
@replace_option
@click.option("--with-candidates", is_flag=True, help="Write every answer with its score too.")
@allow_code_option
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
def command(
    table: str,
    rule: str | None,
    rule_json: str | None,
    out: str,
    columns: str | None,
    length: LengthUnit | None,
    limit: int | None,
    min_margin: float | None,
    max_length_difference: int | None,
    test_size: float,
    layout: str | None,
    also: str | None,
    replaces: bool,
    with_candidates: bool,
    allow_code: bool,
    as_json: bool,
) -> None:
    """Make pairs from TABLE: Parquet, JSON lines or CSV (also .gz, .zst), one row a candidate or lists a prompt.

    Exits with 1 when not a single pair came out, and says why.
    """
    # Of Arrow's allocators this one has the kernel clear the fewest pages, and keeps no more than it needs.
    # It is chosen once, when pyarrow is loaded.
    if sys.platform == "linux":
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
    from prefdata.flow.from_table import pair
    from prefdata.inspection.summary import inspect

    given = columns_given(columns)
    ledger = pair(
        table,
        one_rule(rule, rule_json, length),
        out,
        columns=given,
        length=length,
        with_candidates=with_candidates,
        limit=limit,
        min_margin=min_margin,
        max_length_difference=max_length_difference,
        test_size=test_size,
        layout=layout,
        also=[kind.strip() for kind in (also or "").split(",") if kind.strip()],
        replace=replaces,
        allow_code=allow_code,
    )
    if as_json:
        print_json(ledger)
    if not ledger["pairs"]:
        from prefdata.flow.no_pairs import explain_no_pairs, score_column_of_table

        raise explain_no_pairs(Path(out), score_column_of_table(Path(table), given))
    if as_json:
        return
    from prefdata.inspection import render

    display(render(inspect(Path(out))))
