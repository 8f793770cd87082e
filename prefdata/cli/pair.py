"""`prefdata pair`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from prefdata.cli.terminal import next_command
from prefdata.errors import printable
from prefdata.records import LengthUnit

if TYPE_CHECKING:
    from prefdata.spec import JSON

__all__ = ["command"]


@click.command("pair")
@click.argument("table")
@click.option(
    "--rule",
    metavar="NAME",
    help="A named pair rule, for instance wpo_hybrid_v2, or a Python function module:function.",
)
@rule_json_option
@click.option("--out", metavar="DIR", help="The dataset folder to write.")
@click.option(
    "--columns",
    metavar="ROLE=NAME,...",
    help="Names of the columns: prompt=…,system=…,input=…,response=…,score=…,source=…,index=… where they differ from "
    "the roles; COLUMN.KEY in lists of objects; - for a role that is not to be read.",
)
@click.option("--config", metavar="NAME", help="The configuration of a dataset of the Hub, or of a folder like one.")
@click.option("--split", metavar="NAME", help="The split of a dataset of the Hub, or of a folder.")
@click.option("--dry-run", is_flag=True, help="Show the first prompts as they are understood, and write nothing.")
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
@click.option(
    "--keep", metavar="NAME,...", help="Columns that travel along to pairs, candidates and drops; one value a prompt."
)
@replace_option
@click.option("--with-candidates", is_flag=True, help="Write every answer with its score too.")
@allow_code_option
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
def command(
    table: str,
    rule: str | None,
    rule_json: str | None,
    out: str | None,
    columns: str | None,
    config: str | None,
    split: str | None,
    dry_run: bool,
    length: LengthUnit | None,
    limit: int | None,
    min_margin: float | None,
    max_length_difference: int | None,
    test_size: float,
    layout: str | None,
    also: str | None,
    keep: str | None,
    replaces: bool,
    with_candidates: bool,
    allow_code: bool,
    as_json: bool,
) -> None:
    """Make pairs from TABLE, a table of scored answers.

    TABLE is a file (Parquet, Arrow, JSON lines, a JSON array, CSV or TSV; also .gz, .zst), a folder or a pattern of
    shards, a folder of `save_to_disk`, - for standard input, or hf:OWNER/NAME[@REVISION]. It has one row an answer,
    or lists a prompt, or lists of objects: docs/tables.md.

    Exits with 1 when not a single pair came out, and says why.
    """
    if out is None and not dry_run:
        raise click.UsageError("Missing option '--out'.")
    place: dict[str, Any] = {"columns": columns_given(columns), "config": config, "split": split}
    made: dict[str, Any] = {"limit": limit, "min_margin": min_margin, "max_length_difference": max_length_difference}
    made |= {"test_size": test_size, "layout": layout, "also": _listed(also), "replace": replaces, "length": length}
    made |= {"keep": _listed(keep)}
    made |= {"with_candidates": with_candidates, "allow_code": allow_code, "dry_run": dry_run}
    ledger = _pair(table, None if dry_run else one_rule(rule, rule_json, length), out, **place, **made)
    if as_json:
        print_json(ledger)
    elif dry_run:
        display(_page(ledger))
        if table != "-":
            asked = {"columns": columns, "config": config, "split": split}
            display("\n" + next_command("pair", table, rule="best_vs_worst", out="pairs", **asked))
    if not dry_run:
        _show(Path(out or ""), table, place, ledger, as_json)


def _listed(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _pair(*arguments: Any, **options: Any) -> JSON:
    # Of Arrow's allocators this one has the kernel clear the fewest pages, and keeps no more than it needs.
    # It is chosen once, when pyarrow is loaded.
    if sys.platform == "linux":
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
    from prefdata.flow.from_table import pair

    return pair(*arguments, **options)


def _show(folder: Path, table: str, place: Mapping[str, Any], ledger: JSON, as_json: bool) -> None:
    """Prints a dataset that was paired.

    Raises:
        NoPairsError: it has no pair.
    """
    if not ledger["pairs"]:
        from prefdata.flow.no_pairs import explain_no_pairs, score_column_of_table

        raise explain_no_pairs(folder, score_column_of_table(table, **place))
    if not as_json:
        from prefdata.inspection import render
        from prefdata.inspection.summary import inspect

        display(render(inspect(folder)))
        display(f"\nDataset: {folder}\n{next_command('inspect', folder, sort='margin')}")


def _page(shown: JSON) -> str:
    """Renders the first prompts of a table."""
    lines = ["columns   " + ", ".join(f"{role}={path}" for role, path in shown["columns"].items())]
    for number, prompt in enumerate(shown["prompts"], 1):
        lines += ["", f"prompt {number}  {printable(prompt['prompt_id'], 64)}"]
        if prompt["reason"]:
            lines.append(f"  dropped as {prompt['reason']} {prompt['detail']}".rstrip())
        lines += [f"  {turn['role']:<9} {_short(turn['content'])}" for turn in prompt["messages"] or ()]
        for answer in prompt["answers"]:
            score = answer["unscored"] if answer["score"] is None else f"{answer['score']:g}"
            who = f"{answer['source'] or '?'} {'' if answer['index'] is None else answer['index']}".rstrip()
            lines.append(f"  answer    [{score}, {who}] {_short(answer['response'] or '')}")
    return "\n".join([*lines, "", "nothing was written"])


def _short(text: str) -> str:
    return printable(text, 200)
