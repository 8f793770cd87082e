"""Recomputes the ledger from the answers, pairs and drops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from prefdata.flow.graph import Stage, graph_of
from prefdata.lazy import pa
from prefdata.recipe import Recipe
from prefdata.sampling import Sampler
from prefdata.spec import JSON
from prefdata.verification._derive import Counted
from prefdata.verification.report import Report


def check_build_ledger(
    recipe: Recipe, counted: Counted, answered: bool, drops: pa.Table, lost: pa.Table, published: JSON, report: Report
) -> JSON:
    """Compares the ledger of a build with what there is; returns what the ledger should be.

    Where the answers of samplers can't be distinguished (their sources are model names), the counts of each sampler are
    taken from the ledger, and only their sum is checked.

    Args:
        recipe: of the build.
        counted: what was recomputed.
        answered: whether there were answers to count.
        drops: all dropped prompts.
        lost: all dropped candidates.
        published: the ledger of the folder.
        report: takes the mismatches.
    """
    graph = graph_of(recipe)
    samplers = graph.of_kind("candidates", "backfill")
    read = Counter(drops.filter(pa.compute.equal(drops["stage"], "prompts"))["reason"].to_pylist())
    unanswered = [row for row in lost.to_pylist() if row["stage"] == "candidates"]
    by_source = _by_source(samplers, counted, unanswered) if answered else None
    stages: list[dict[str, Any]] = []
    for position, stage in enumerate(stage for stage in graph.stages if stage.in_ledger):
        out, reasons = _as_published(published, position)
        if stage.kind == "prompts":
            out, reasons = counted.prompts, read
        elif stage in samplers and by_source is not None:
            out, reasons = by_source[stage.name]
        elif stage.kind == "scores":
            reasons = counted.unscored if answered else reasons
            scored = {other.name for other in graph.of_kind("candidates")}
            out = sum(other["out"] for other in stages if other["stage"] in scored) - reasons.total()
        elif stage.kind == "pairs":
            out, reasons = counted.paired, counted.drops
        stages.append(_stage(stage.name, out, reasons))
    sampled = [stage for stage in stages if stage["stage"] in {sampler.name for sampler in samplers}]
    _check_sums(sampled, counted.answers if answered else None, unanswered, report)
    expected = {
        "prompts": stages[0]["in"],
        "pairs": counted.pairs,
        "paired_prompts": counted.paired,
        "drops": _counts(read + counted.drops),
        "ineligible": _counts(counted.ineligible),
        "stages": stages,
    }
    report.compare("ledger", "ledger.json", expected, published)
    return expected


def _by_source(
    samplers: Sequence[Stage], counted: Counted, unanswered: Sequence[dict[str, Any]]
) -> dict[str, tuple[int, Counter[str]]] | None:
    """Counts the answers and drops of each sampler by their source; None where sources are not samplers' names."""
    if len(samplers) == 1:
        return {samplers[0].name: (counted.answers, Counter(row["reason"] for row in unanswered))}
    sources = {stage.name: stage.part.name for stage in samplers if isinstance(stage.part, Sampler)}
    if not {*counted.sources, *(row["source"] for row in unanswered)} <= {*sources.values()}:
        return None
    return {
        name: (counted.sources[source], Counter(row["reason"] for row in unanswered if row["source"] == source))
        for name, source in sources.items()
    }


def _check_sums(
    sampled: list[dict[str, Any]], answers: int | None, unanswered: Sequence[dict[str, Any]], report: Report
) -> None:
    """Checks the counts of all samplers together against the answers and drops that there are."""
    if answers is not None and sum(stage["out"] for stage in sampled) != answers:
        report.add("ledger", "ledger.json", field="stages", expected=f"{answers} answers", found=sampled)
    reasons = sum((Counter(stage["drops"]) for stage in sampled), Counter[str]())
    if reasons != Counter(row["reason"] for row in unanswered):
        report.add("ledger", "ledger.json", field="stages", expected=f"{len(unanswered)} drops", found=sampled)


def check_pair_ledger(
    counted: Counted, rows: int | None, answered: bool, drops: pa.Table, published: JSON, report: Report
) -> JSON:
    """Compares the ledger of `prefdata pair` with what there is; returns what the ledger should be.

    Args:
        counted: what was recomputed.
        rows: answers of the table, where it was read.
        answered: whether there were answers to count.
        drops: all dropped prompts.
        published: the ledger of the folder.
        report: takes the mismatches.
    """
    read = Counter(drops.filter(pa.compute.equal(drops["stage"], "prompts"))["reason"].to_pylist())
    if rows is None:
        candidates = published.get("candidates") if isinstance(published, dict) else None
        rows = candidates if isinstance(candidates, int) and (read or not answered) else counted.answers
    unfit = Counter(counted.ineligible)
    if answered and rows > counted.answers:
        unfit["of_dropped_prompts"] = rows - counted.answers
    elif not answered:
        ineligible = published.get("ineligible") if isinstance(published, dict) else None
        of_dropped = ineligible.get("of_dropped_prompts") if isinstance(ineligible, dict) else None
        if isinstance(of_dropped, int) and read:
            unfit["of_dropped_prompts"] = of_dropped
    prompts = counted.prompts + read.total()
    stages = [
        {"stage": "candidates", "in": rows, "out": rows - unfit.total(), "drops": _counts(unfit)},
        _stage("pairs", counted.paired, read + counted.drops),
    ]
    expected = {
        "prompts": prompts,
        "pairs": counted.pairs,
        "paired_prompts": counted.paired,
        "drops": _counts(read + counted.drops),
        "candidates": rows,
        "ineligible": _counts(unfit),
        "stages": stages,
    }
    report.compare("ledger", "ledger.json", expected, published)
    return expected


def _stage(name: str, out: int, drops: Counter[str]) -> dict[str, Any]:
    return {"stage": name, "in": out + drops.total(), "out": out, "drops": _counts(drops)}


def _counts(reasons: Counter[str]) -> dict[str, int]:
    return dict(sorted(reasons.items()))


def _as_published(ledger: JSON, position: int) -> tuple[int, Counter[str]]:
    """Reads rows out and drops of a stage from the published ledger, as far as they are numbers at all."""
    stages = ledger.get("stages") if isinstance(ledger, dict) else None
    stage = stages[position] if isinstance(stages, list) and position < len(stages) else {}
    out, drops = (stage.get("out"), stage.get("drops")) if isinstance(stage, dict) else (None, None)
    counts = drops.items() if isinstance(drops, dict) else ()
    kept = {str(reason): count for reason, count in counts if type(count) is int}
    return (out if type(out) is int else 0), Counter(kept)
