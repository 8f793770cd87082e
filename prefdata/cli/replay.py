"""`prefdata replay`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from prefdata.cli.options import (
    allow_code_option,
    columns_given,
    display,
    length_option,
    one_rule,
    print_json,
    rule_json_option,
)
from prefdata.errors import printable
from prefdata.records import LengthUnit

if TYPE_CHECKING:
    from prefdata.inspection.replay import Replay

__all__ = ["command"]


@click.command("replay")
@click.argument("table")
@click.option("--rule", metavar="NAME", help="A named pair rule, for instance best_vs_worst.")
@rule_json_option
@click.option(
    "--columns",
    metavar="ROLE=NAME,...",
    help="Names of the columns: prompt_id=…,prompt=…,response=…,score=…,chosen=…,rejected=… where they differ.",
)
@length_option
@click.option("--config", metavar="NAME", help="The configuration, where there are several and no default one.")
@click.option("--split", metavar="NAME", help="The split; left out, train or the only one.")
@click.option("--quirks", is_flag=True, help="First index on ties; identical texts and equal scores make pairs too.")
@allow_code_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def command(
    table: str,
    rule: str | None,
    rule_json: str | None,
    columns: str | None,
    length: LengthUnit | None,
    config: str | None,
    split: str | None,
    quirks: bool,
    allow_code: bool,
    as_json: bool,
) -> None:
    """Compare the pairs of TABLE with those that a rule makes of its answers and scores.

    TABLE is a file, a folder, or OWNER/NAME[@REVISION] of the Hub. It has all_generated_responses, all_rm_scores,
    chosen and rejected.
    """
    from dataclasses import asdict

    from prefdata.inspection.replay import replay

    report = replay(
        table,
        one_rule(rule, rule_json, length),
        columns=columns_given(columns),
        length=length,
        config=config,
        split=split,
        quirks=quirks,
        allow_code=allow_code,
    )
    if as_json:
        print_json({**asdict(report), "share": report.share})
    else:
        display(_page(report))


def _page(report: Replay) -> str:
    share = "-" if report.share is None else f"{report.share:.2%}"
    quirks = ", with the published quirks" if report.quirks else ""
    read = [f"configuration {printable(report.config, 60)}"] if report.config else []
    others = ", ".join(printable(name, 60) for name in report.other_splits[:20])
    read += [f"split {printable(report.split, 60)} (not {others})"] if report.split else []
    lines = [
        f"{report.table}{''.join(f', {part}' for part in read)}: {report.rule}{quirks}",
        f"reproduced     {report.reproduced:,} of {report.pairs:,} pairs ({share})",
    ]
    for name, count in report.classes.items():
        dropped = ", ".join(f"{reason} {n:,}" for reason, n in report.dropped.items())
        lines.append(f"{name:<30} {count:>9,}" + (f"  ({dropped})" if name == "rule_drops" else ""))
        for example in report.examples[name]:
            parts = [f"row {example['row']}", printable(example["prompt_id"], 16)]
            for side, found in example.items():
                if isinstance(found, dict):
                    scores = (
                        "/".join("?" if score is None else f"{score:g}" for score in found["scores"]) or "no answer"
                    )
                    parts.append(f"{side.replace('_', ' ')} {scores}, length {found['length']}")
            lines.append("  " + "; ".join(parts))
    return "\n".join(lines)
