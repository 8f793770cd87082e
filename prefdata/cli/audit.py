"""`prefdata audit`."""

from __future__ import annotations

import click

from prefdata.cli.options import columns_given, display, print_json

__all__ = ["command"]


@click.command("audit")
@click.argument("table")
@click.option("--config", metavar="NAME", help="The configuration, where there are several and no default one.")
@click.option(
    "--columns",
    metavar="ROLE=NAME,...",
    help="Names of the columns: prompt=…,chosen=…,rejected=…,score_chosen=…,score_rejected=… where they are not usual.",
)
@click.option("--tokenizer", metavar="PATH", help="A model's folder or tokenizer.json; with --max-length.")
@click.option("--max-length", type=click.IntRange(min=1), metavar="N", help="Tokens after which a training cuts.")
@click.option("--json", "as_json", is_flag=True, help="Print the audit as one JSON object.")
def command(
    table: str, config: str | None, columns: str | None, tokenizer: str | None, max_length: int | None, as_json: bool
) -> None:
    """Audit the pairs of TABLE: a file, a folder, or OWNER/NAME[@REVISION] of a dataset of the Hub, of any layout.

    Ties, equal texts, lengths, reasoning on one side, duplicates, contradictions, prompts in several splits, and what
    a training would cut; with or without scores.
    """
    from dataclasses import asdict

    from prefdata.inspection.audit import audit
    from prefdata.inspection.render import audit_lines

    found = audit(
        table, config=config, columns=columns_given(columns), tokenizer=tokenizer, max_length=max_length, show=0
    )
    if as_json:
        print_json(asdict(found))
    else:
        display("\n".join(audit_lines(found)))
