"""`prefdata diff`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from prefdata.cli.options import display, print_json
from prefdata.cli.terminal import next_command
from prefdata.errors import printable

if TYPE_CHECKING:
    from prefdata.inspection.diff import Difference

__all__ = ["command"]

_LINES = 20
_TURNS = ("prompt", "chosen", "rejected")


@click.command("diff")
@click.argument("before")
@click.argument("after")
@click.option("--ids", is_flag=True, help="Name every prompt that differs, one a line.")
@click.option("--json", "as_json", is_flag=True, help="Print the differences as one JSON object.")
@click.pass_context
def command(context: click.Context, before: str, after: str, ids: bool, as_json: bool) -> None:
    """Show what differs between BEFORE and AFTER: build folders, dataset folders, or OWNER/NAME[@REVISION] of the Hub.

    Exits with 0 when they are equal, with 1 when they differ.
    """
    from dataclasses import asdict

    from prefdata.inspection.diff import diff

    found = diff(before, after, ids=ids)
    if as_json:
        shown = {name: value for name, value in asdict(found).items() if name != "shown"}
        print_json({**shown, "equal": found.equal})
    else:
        display(_page(found, ids=ids))
        if found.examples and not ids:
            display("\n" + next_command("diff", before, after, "--ids"))
    context.exit(0 if found.equal else 1)


def _page(found: Difference, *, ids: bool) -> str:
    from prefdata.inspection.meanings import number

    if found.equal:
        return f"{found.before} and {found.after} hold the same dataset: {found.counts['pairs'][0]:,} pairs"
    lines = [_summary(found), ""]
    lines += [f"{name:<15}{was:,} → {now:,}" for name, (was, now) in found.counts.items()]
    if found.gained or found.lost:
        lines.append(f"{'prompts':<15}{found.gained:,} gained, {found.lost:,} lost")
    for name in ("outcomes", "splits", "changed"):
        counts: Mapping[str, int] = getattr(found, name)
        if counts:
            listed = ", ".join(f"{printable(what, 80)} {count:,}" for what, count in counts.items())
            lines.append(f"{name:<15}{listed}")
    lines += [
        f"{'mean':<15}{name} {number(was)} → {number(now)}" for name, (was, now) in found.means.items() if was != now
    ]
    lines += [f"{'schema':<15}{printable(name, 60)}: {was} → {now}" for name, (was, now) in found.schema.items()]
    for name in ("recipe", "lock", "audit", "ledger"):
        places: list[dict[str, Any]] = getattr(found, name)
        words = _measure if name == "audit" else _place
        lines += [f"{name:<15}{printable(words(place))}" for place in places[:_LINES]]
        lines += [f"{name:<15}... {len(places) - _LINES:,} more"] if len(places) > _LINES else []
    for what, prompt_ids in found.examples.items():
        if ids:
            lines += [f"{what:<15}{printable(prompt_id, 200)}" for prompt_id in prompt_ids]
        else:
            lines.append(f"{what + ', e.g.':<15}{', '.join(printable(prompt_id, 16) for prompt_id in prompt_ids)}")
    lines += [printable(line) for line in found.card]
    return "\n".join(sorted(lines, key=lambda line: _HASH.search(line) is not None and not line.startswith(_IDS)))


_HASH = re.compile(r"\b[0-9a-f]{40,}\b")
_IDS = ("gained", "lost", "outcomes", "splits", "prompt", "chosen", "rejected")
"""Lines that list prompts, whose ids look like hashes."""


def _summary(found: Difference) -> str:
    """Says in one line how much differs."""
    was, now = found.counts["pairs"]
    parts = [f"{was:,} pairs" if was == now else f"{was:,} → {now:,} pairs"]
    parts += [f"{count:,} prompts {what}" for what, count in (("gained", found.gained), ("lost", found.lost)) if count]
    parts += [f"{count:,} with another {name}" for name, count in found.changed.items() if name in _TURNS]
    if found.outcomes:
        parts.append(f"{sum(found.outcomes.values()):,} with another outcome")
    if found.splits:
        parts.append(f"{sum(found.splits.values()):,} in another split")
    if len(parts) == 1:
        parts.append("no pair differs in its texts")
    others = [name for name in ("recipe", "lock", "schema") if getattr(found, name)]
    return ", ".join(parts) + (f"; {', '.join(others)} differ" if others else "")


def _measure(place: Mapping[str, Any]) -> str:
    """Writes a difference of two audits; measures that are shares as percentages."""
    from prefdata.inspection.meanings import measure_words

    measures, dot, name = place["path"].partition(".")
    if measures != "measures" or not dot:
        return _place(place)
    was, now = (measure_words(name, place.get(side)) for side in ("before", "after"))
    return f"{name}: {was} → {now}"


def _place(place: Mapping[str, Any]) -> str:
    was, now = (
        json.dumps(place[side], ensure_ascii=False, allow_nan=True) if side in place else "-"
        for side in ("before", "after")
    )
    return f"{place['path']}: {was} → {now}"
