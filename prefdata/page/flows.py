"""Pictures of what became of every row: boxes of counts, and streams between them that filter the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefdata.spec import JSON

__all__ = ["answer_flow", "flow", "prompt_flow"]


def flow(title: str, unit: str, links: Sequence[tuple[str, str, int, JSON]]) -> JSON:
    """Describes one picture.

    Args:
        title: above it.
        unit: what is counted.
        links: from, to, count, and the filter of the list (`[column, value]`) or None; those that count nothing are
            left out.
    """
    kept = [(start, end, count, filters) for start, end, count, filters in links if count > 0]
    nodes = list(dict.fromkeys(name for start, end, _, _ in kept for name in (start, end)))
    described = [
        {"from": nodes.index(start), "to": nodes.index(end), "count": count, "filter": filters}
        for start, end, count, filters in kept
    ]
    return {"title": title, "unit": unit, "nodes": nodes, "links": described}


def prompt_flow(outcomes: Mapping[tuple[str, str], int]) -> JSON:
    """Describes what became of every prompt.

    Args:
        outcomes: stage and outcome → prompts; `pair` is the outcome of those that have one.
    """
    first = {outcome: count for (stage, outcome), count in sorted(outcomes.items()) if stage == "prompts"}
    later = {outcome: count for (stage, outcome), count in sorted(outcomes.items()) if stage != "prompts"}
    links: list[tuple[str, str, int, JSON]] = [("prompts read", "prompts kept", sum(later.values()), None)]
    links += [("prompts read", reason, count, ["outcome", reason]) for reason, count in first.items()]
    pairs = later.pop("pair", 0)
    links.append(("prompts kept", "with a pair", pairs, ["outcome", "pair"]))
    links += [
        ("prompts kept", reason if reason not in first else f"{reason} (later)", count, ["outcome", reason])
        for reason, count in later.items()
    ]
    return flow("What became of the prompts", "prompts", links)


def answer_flow(sources: Mapping[tuple[str, str], int]) -> JSON:
    """Describes what became of every answer.

    Args:
        sources: source and fate (`chosen`, `rejected`, `not picked`, or why it could not be) → answers.
    """
    totals: dict[str, int] = {}
    for (source, _), count in sorted(sources.items()):
        totals[source] = totals.get(source, 0) + count
    first = sorted(totals, key=lambda name: (-totals[name], name))[:12]
    merged: dict[tuple[str, str], int] = {}
    for (source, fate), count in sorted(sources.items()):
        key = (source if source in first else "other sources", fate)
        merged[key] = merged.get(key, 0) + count
    links: list[tuple[str, str, int, JSON]] = []
    for (source, fate), count in merged.items():
        picked = fate in ("chosen", "rejected") and source in first
        links.append((f"by {source}", fate, count, [f"source_{fate}", source] if picked else None))
    return flow("What became of the answers", "answers", links)
