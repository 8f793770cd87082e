"""`prefdata diff`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from prefdata.cli.options import display, print_json
from prefdata.errors import printable

if TYPE_CHECKING:
    from prefdata.inspection.diff import Difference

__all__ = ["command"]

_LINES = 20


@click.command("diff")
@click.argument("before")
@click.argument("after")
@click.option("--json", "as_json", is_flag=True, help="Print the differences as one JSON object.")
@click.pass_context
def command(context: click.Context, before: str, after: str, as_json: bool) -> None:
    """Show what differs between BEFORE and AFTER: build folders, dataset folders, or OWNER/NAME[@REVISION] of the Hub.

    Exits with 0 when they are equal, with 1 when they differ.
    """
    from dataclasses import asdict

    from prefdata.inspection.diff import diff

    found = diff(before, after)
    if as_json:
        print_json({**asdict(found), "equal": found.equal})
    else:
        display(_page(found))
    context.exit(0 if found.equal else 1)


def _page(found: Difference) -> str:
    if found.equal:
        return f"{found.before} and {found.after} hold the same dataset: {found.counts['pairs'][0]:,} pairs"
    lines = [f"{name:<15}{was:,} → {now:,}" for name, (was, now) in found.counts.items()]
    if found.gained or found.lost:
        lines.append(f"{'prompts':<15}{found.gained:,} gained, {found.lost:,} lost")
    for name in ("outcomes", "splits", "changed"):
        counts: Mapping[str, int] = getattr(found, name)
        if counts:
            listed = ", ".join(f"{printable(what, 80)} {count:,}" for what, count in counts.items())
            lines.append(f"{name:<15}{listed}")
    lines += [f"{'mean':<15}{name} {was} → {now}" for name, (was, now) in found.means.items() if was != now]
    lines += [f"{'schema':<15}{printable(name, 60)}: {was} → {now}" for name, (was, now) in found.schema.items()]
    for name in ("recipe", "lock", "audit", "ledger"):
        places: list[dict[str, Any]] = getattr(found, name)
        lines += [f"{name:<15}{printable(_place(place))}" for place in places[:_LINES]]
        lines += [f"{name:<15}... {len(places) - _LINES:,} more"] if len(places) > _LINES else []
    for what, prompt_ids in found.examples.items():
        lines.append(f"{what + ', e.g.':<15}{', '.join(printable(prompt_id, 16) for prompt_id in prompt_ids)}")
    return "\n".join([*lines, *(printable(line) for line in found.card)])


def _place(place: Mapping[str, Any]) -> str:
    was, now = (
        json.dumps(place[side], ensure_ascii=False, allow_nan=True) if side in place else "-"
        for side in ("before", "after")
    )
    return f"{place['path']}: {was} → {now}"
