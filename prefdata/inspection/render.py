"""`render`: writes a summary as a page of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdata.errors import printable
from prefdata.inspection.summary import Summary
from prefdata.records import SIDES

__all__ = ["render"]

_SHOWN_ABOVE = ("chosen_longer", "length_difference", "tied_chosen", "tied_rejected")


def render(summary: Summary) -> str:
    """Writes the summary as text for a terminal; texts from the data can't move the cursor or change colours."""
    lines = [
        summary.folder,
        "",
        f"{'stage':<24}{'in':>10}{'out':>10}  drops",
        *(
            f"{stage['stage']:<24}{stage['in']:>10,}{stage['out']:>10,}  {_listed(stage['drops'])}"
            for stage in summary.stages
        ),
        "",
        f"prompts        {summary.prompts:,} = {summary.paired_prompts:,} with a pair + "
        f"{sum(summary.drops.values()):,} dropped",
        *([f"pairs          {summary.pairs:,}"] if summary.pairs != summary.paired_prompts else []),
        f"dropped        {_listed(summary.drops)}",
        f"not eligible   {_listed(summary.ineligible)} (candidates)",
        f"splits         {_listed(summary.splits)}",
    ]
    if summary.pairs:
        lines += [
            f"ties           chosen {_percent(summary.tied_chosen)}, rejected {_percent(summary.tied_rejected)}",
            f"decided by     chosen: {_listed(summary.decided_chosen)}; rejected: {_listed(summary.decided_rejected)}",
            f"margin         {_spread(summary.margins)}",
            *(f"length         {name}: {_spread(spread)}" for name, spread in summary.lengths.items()),
            f"chosen longer  {_percent(summary.chosen_longer)}",
            f"sources        {_listed(dict(list(summary.sources.items())[:8]))}",
        ]
    lines += _audit(summary.audit)
    for number, pair in enumerate(summary.examples, 1):
        lines += ["", f"pair {number}  {printable(pair['prompt_id'], 12)}", *_pair(pair)]
    return "\n".join(lines)


def _pair(pair: dict[str, Any]) -> list[str]:
    prompt = " | ".join(_turns(pair.get("prompt")))
    sides = []
    for side in SIDES:
        source = printable(pair[f"source_{side}"] or "?", 60)
        trace = f"{_number(pair[f'score_{side}'])}, {source}, length {pair[f'length_{side}']}"
        answer = ["", *_turns(pair.get(side))][-1].removeprefix("assistant: ")
        sides.append(f"  {side:<9}[{trace}] {printable(answer)}")
    return [f"  prompt   {printable(prompt)}", *sides]


def _turns(cell: object) -> list[str]:
    """Returns the turns of a conversation, `role: text` each; a text alone is one."""
    if not isinstance(cell, list):
        return [] if cell is None else [str(cell)]
    return [f"{turn.get('role')}: {turn.get('content')}" if isinstance(turn, dict) else str(turn) for turn in cell]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _audit(audit: Mapping[str, Any]) -> list[str]:
    """Lists correlations and biases that the lines above lack, and the limits that are crossed."""
    measures = {name: value for name, value in audit.get("measures", {}).items() if value is not None}
    shown = {name: value for name, value in measures.items() if name not in _SHOWN_ABOVE}
    lines = [f"audit          {', '.join(f'{name} {value:g}' for name, value in shown.items())}"] if shown else []
    for limit in audit.get("limits", []):
        if not limit["holds"]:
            bounds = [(word, limit[word]) for word in ("at_least", "at_most") if limit[word] is not None]
            target = " and ".join(f"{word.replace('_', ' ')} {bound:g}" for word, bound in bounds)
            lines.append(f"over a limit   {limit['measure']} {limit['value']:g} should be {target}")
    return lines


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{printable(str(name), 60)} {count:,}" for name, count in counts.items()) or "none"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _spread(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,g}" for name, value in values.items())
