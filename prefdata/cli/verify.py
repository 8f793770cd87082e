"""`prefdata verify`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from prefdata.cli.options import allow_code_option, display, print_json
from prefdata.errors import printable

if TYPE_CHECKING:
    from prefdata.verification import Mismatch, Report

__all__ = ["command"]

_SHOWN = 20


@click.command("verify")
@click.argument("folder")
@click.option("--table", metavar="TABLE", help="The table that `prefdata pair` read.")
@allow_code_option
@click.option("--json", "as_json", is_flag=True, help="Print everything, every mismatch included, as one JSON object.")
def command(folder: str, table: str | None, allow_code: bool, as_json: bool) -> None:
    """Verify FOLDER: a dataset folder, a build folder, or OWNER/NAME[@REVISION] of a dataset of the Hub.

    Recomputes every pair and drop from the answers, recounts the ledger, and compares hashes, lock, splits and
    columns. Exits with 0 when all holds, with 1 on any mismatch.
    """
    from prefdata.verification import verify

    report = verify(folder, table=table, keep=None if as_json else _SHOWN, allow_code=allow_code)
    if as_json:
        print_json(report.as_json())
    else:
        display("\n".join(_lines(report)))
    if not report.holds:
        sys.exit(1)


def _lines(report: Report) -> list[str]:
    commit = f" at commit {report.commit}" if report.commit else ""
    lines = [printable(f"{report.folder}{commit}"), ""]
    lines += [f"checked      {what}" for what in report.checked]
    lines += [f"not checked  {printable(what)}" for what in report.not_checked]
    for mismatch in report.mismatches:
        lines += ["", *(printable(line, 400) for line in _described(mismatch))]
    total = report.counts.total()
    if total > len(report.mismatches):
        lines += ["", f"... and {total - len(report.mismatches):,} more; --json shows all"]
    counts = ", ".join(f"{what} {count:,}" for what, count in sorted(report.counts.items()))
    return [*lines, "", f"{total:,} mismatches: {counts}" if total else "Everything that was checked holds."]


def _described(mismatch: Mismatch) -> list[str]:
    of = f", prompt {mismatch.prompt_id}" if mismatch.prompt_id is not None else ""
    of += f", answer {mismatch.candidate}" if mismatch.candidate is not None else ""
    what = f", {mismatch.field}" if mismatch.field else ""
    return [
        f"{mismatch.what}: {mismatch.where}{of}{what}",
        f"  expected {mismatch.expected}",
        f"  found    {mismatch.found}",
    ]
