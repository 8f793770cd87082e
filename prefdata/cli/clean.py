"""`prefdata clean`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from prefdata.cli.options import display, print_json
from prefdata.cli.terminal import next_command

if TYPE_CHECKING:
    from prefdata.flow.clean import OldStage

__all__ = ["command"]


@click.command("clean")
@click.argument("build")
@click.option("--yes", is_flag=True, help="Remove them; otherwise they are only listed.")
@click.option("--json", "as_json", is_flag=True, help="Print them as one JSON object.")
def command(build: str, yes: bool, as_json: bool) -> None:
    """List the stages in the folder BUILD that its recipe does not use any more, with their sizes, or remove them.

    They are left by earlier recipes, limits and shard sizes. No other file is touched.
    """
    from dataclasses import asdict

    from prefdata.flow.clean import clean

    cleaned = clean(build, yes=yes)
    if as_json:
        stages = [{**asdict(stage), "folder": str(stage.folder)} for stage in cleaned.stages]
        print_json(
            {"folder": str(cleaned.folder), "stages": stages, "bytes": cleaned.bytes, "removed": cleaned.removed}
        )
        return
    display("\n".join([_line(stage) for stage in cleaned.stages] or ["no old stages"]))
    if cleaned.stages:
        display(f"\n{_size(cleaned.bytes)} {'removed' if yes else 'in old stages'}")
        if not yes:
            display(next_command("clean", build, "--yes"))


def _line(stage: OldStage) -> str:
    others = f"; stays with what is not of prefdata: {', '.join(stage.others[:3])}" if stage.others else ""
    return f"{_size(stage.bytes):>10}  {stage.folder.name}{others}"


def _size(size: int) -> str:
    amount = float(size)
    for unit in ("bytes", "KB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"
        amount /= 1000
    raise AssertionError(size)
