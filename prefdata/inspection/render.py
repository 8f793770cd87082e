"""`render`: writes a summary as a page of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdata.errors import printable
from prefdata.inspection.audit import TableAudit
from prefdata.inspection.listing import Listing
from prefdata.inspection.meanings import FINDINGS, measure_lines, percent
from prefdata.inspection.summary import Summary
from prefdata.records import SIDES

__all__ = ["audit_lines", "listing_lines", "render"]

_SHOWN_ABOVE = ("Chosen is longer", "Length difference", "Ties for the chosen", "Ties for the rejected")
"""Measures of an audit that have a line of their own."""


def render(summary: Summary) -> str:
    """Writes the summary as text for a terminal; texts from the data can't move the cursor or change colours."""
    if summary.table is not None:
        return "\n".join([*audit_lines(summary.table), *_rows(summary.table)])
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
            f"ties           chosen {percent(summary.tied_chosen)}, rejected {percent(summary.tied_rejected)}",
            f"decided by     chosen: {_listed(summary.decided_chosen)}; rejected: {_listed(summary.decided_rejected)}",
            f"margin         {_spread(summary.margins)}",
            *(f"length         {name}: {_spread(spread)}" for name, spread in summary.lengths.items()),
            f"chosen longer  {percent(summary.chosen_longer)}",
            f"sources        {_listed(dict(list(summary.sources.items())[:8]))}",
        ]
    lines += _audit(summary.audit)
    for number, pair in enumerate(summary.examples, 1):
        lines += ["", f"pair {number}  {printable(pair['prompt_id'], 64)}", *_pair(pair)]
    return "\n".join(lines)


def listing_lines(listing: Listing) -> list[str]:
    """Writes the pairs that were looked for as lines for a terminal."""
    asked = [f"where {listing.where}"] if listing.where else []
    asked += [f"of the prompt {listing.prompt_id}"] if listing.prompt_id else []
    asked += [f"sorted by {listing.sort}"] if listing.sort else []
    lines = [f"{listing.matching:,} of {listing.pairs:,} pairs {printable(', '.join(asked), 1_000)}"]
    if listing.dropped is not None:
        dropped = listing.dropped
        lines.append(f"dropped        {printable(dropped['reason'], 60)} ({printable(dropped['detail'] or '-')})")
    for number, row in enumerate(listing.rows, 1):
        facts = [f"margin {_number(row['score_margin'])}", f"length difference {_number(row['length_difference'])}"]
        name = printable(str(row.get("prompt_id") or f"in {row['split']}"), 64)
        lines += ["", f"pair {number}  {name}", f"  {', '.join(facts)}"]
        for side in ("prompt", *SIDES):
            trace = "" if side == "prompt" else f"[{_trace(row, side)}] "
            lines.append(f"  {side:<9}{trace}{'-' if row[side] is None else printable(row[side])}")
    if listing.matching > len(listing.rows):
        lines += ["", f"{listing.matching - len(listing.rows):,} more pairs"]
    if listing.candidates is not None:
        lines += ["", "all answers, the highest score first"]
        for answer in listing.candidates:
            score = answer["unscored"] if answer["score"] is None else _number(answer["score"])
            who = f"{answer['source'] or '?'} {answer['index']}"
            mark = f"{answer['picked']}: " if answer["picked"] else ""
            lines.append(f"  {mark}[{printable(f'{score}, {who}', 80)}] {printable(answer['response'] or '')}")
    return lines


def _trace(row: Mapping[str, Any], side: str) -> str:
    parts = [_number(row[f"score_{side}"]), f"length {row[f'length_{side}']}"]
    return ", ".join([*parts, *([printable(row[f"source_{side}"], 60)] if row.get(f"source_{side}") else [])])


def audit_lines(table: TableAudit) -> list[str]:
    """Writes the audit of a table as lines for a terminal."""
    columns = ", ".join(f"{role}={printable(name, 60)}" for role, name in table.columns.items())
    configuration = f", configuration {printable(table.config, 60)}" if table.config else ""
    rows = sum(table.splits.values())
    lines = [
        f"{table.table}{configuration}",
        "",
        f"read as        {table.read_as}",
        f"columns        {columns}",
        f"splits         {_listed(table.splits)}",
        f"pairs          {table.pairs:,} of {rows:,} rows; {table.scored:,} with two scores",
        f"prompts        {'not shown by its rows' if table.prompts is None else f'{table.prompts:,} different ones'}",
        *(f"length         {name}: {_spread(points)}" for name, points in table.lengths.items()),
    ]
    if table.pairs:
        lines.append(f"chosen longer  {percent(table.chosen_longer)} of the pairs that are not equally long")
    lines += [f"margin         {_spread(table.margins)}"] if table.margins else []
    if any(table.thinking.values()):
        lines.append(f"reasoning      {_listed(table.thinking)}")
    if table.max_length is not None:
        lines.append(f"limit          {table.max_length:,} tokens of the texts, without a chat template")
    lines += ["", f"{'found':<28}{'rows':>9}"]
    for name, count in table.findings.items():
        where = ", ".join(f"{printable(place['split'], 40)} {place['row']:,}" for place in table.examples.get(name, ()))
        share = f"  {percent(count / rows):>7}" if rows else ""
        mark = "! " if count else "  "
        lines.append(f"{mark}{name:<26}{count:>9,}{share}  {FINDINGS[name]}" + (f" ({where})" if where else ""))
    return lines


def _rows(table: TableAudit) -> list[str]:
    lines: list[str] = []
    for row in table.first:
        lines += ["", f"row {row['row']}  {printable(row['split'], 60)}"]
        for name in ("prompt", *SIDES):
            score = row.get(f"score_{name}")
            shown = "" if score is None else f"[{score:g}] "
            lines.append(f"  {name:<9}{shown}{'-' if row[name] is None else printable(row[name])}")
    return lines


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
    """Lists what the lines above lack; what worries, and what is over a limit of the recipe, is marked by a `!`."""
    measures = measure_lines(audit)
    shown = [f"{each['title'].lower()} {each['shown']}" for each in measures if each["title"] not in _SHOWN_ABOVE]
    lines = [f"audit          {', '.join(shown)}"] if shown else []
    for state, label in (("worry", "worrying"), ("over", "over a limit")):
        for each in measures:
            if each["state"] == state:
                limit = f" (the recipe's limit: {each['limit']})" if state == "over" else ""
                lines.append(f"! {label:<13}{each['title']} {each['shown']}{limit}. {each['says']}")
    return lines


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{printable(str(name), 60)} {count:,}" for name, count in counts.items()) or "none"


def _spread(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,g}" for name, value in values.items())
