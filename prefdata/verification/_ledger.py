"""The ledger, counted again from the answers, pairs and drops."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prefdata.lazy import pa
from prefdata.recipe import Recipe
from prefdata.spec import JSON
from prefdata.verification._derive import Counted
from prefdata.verification.report import Report


def check_build_ledger(
    recipe: Recipe, counted: Counted, answered: bool, drops: pa.Table, lost: pa.Table, found: JSON, report: Report
) -> JSON:
    """Compares the ledger of a build with what there is; returns what the ledger should be.

    Where a sampler's answers can't be told from another's (their sources are model names), its own counts are taken
    as they stand, and only their sum is checked.
    """
    names = [sampler.name for sampler in recipe.samplers]
    read = Counter(drops.filter(pa.compute.equal(drops["stage"], "prompts"))["reason"].to_pylist())
    unanswered = [row for row in lost.to_pylist() if row["stage"] == "candidates"]
    known = _stages_of(found)
    samplers = []
    apart = answered and (len(names) == 1 or {*counted.sources, *(row["source"] for row in unanswered)} <= {*names})
    for place, name in enumerate(names, 1):
        if apart:
            out = counted.answers if len(names) == 1 else counted.sources[name]
            reasons = Counter(row["reason"] for row in unanswered if len(names) == 1 or row["source"] == name)
        else:
            out, reasons = _as_told(known, place)
        samplers.append(_stage(f"candidates-{name}", out, reasons))
    answers = counted.answers if answered else sum(stage["out"] for stage in samplers)
    if sum(stage["out"] for stage in samplers) != answers:
        report.add("ledger", "ledger.json", field="stages", expected=f"{answers} answers", found=samplers)
    reasons = sum((Counter(stage["drops"]) for stage in samplers), Counter[str]())
    if reasons != Counter(row["reason"] for row in unanswered):
        report.add("ledger", "ledger.json", field="stages", expected=f"{len(unanswered)} drops", found=samplers)
    unscored = counted.unscored if answered else _as_told(known, len(names) + 1)[1]
    judged = sum(stage["out"] for stage in samplers[: len(recipe.candidates)])
    stages = [
        _stage("prompts", counted.prompts, read),
        *samplers,
        _stage("scores", judged - unscored.total(), unscored),
        _stage("pairs", counted.paired, counted.drops),
    ]
    expected = {
        "prompts": stages[0]["in"],
        "pairs": counted.pairs,
        "paired_prompts": counted.paired,
        "drops": _counts(read + counted.drops),
        "ineligible": _counts(counted.ineligible),
        "stages": stages,
    }
    report.compare("ledger", "ledger.json", expected, found)
    return expected


def check_pair_ledger(
    counted: Counted, rows: int | None, answered: bool, drops: pa.Table, found: JSON, report: Report
) -> JSON:
    """Compares the ledger of `prefdata pair` with what there is; returns what the ledger should be.

    Args:
        counted: what was made again.
        rows: answers of the table, where it was read.
        answered: whether the answers were there to be counted.
        drops: all dropped prompts.
        found: the ledger as it stands.
        report: takes the mismatches.
    """
    read = Counter(drops.filter(pa.compute.equal(drops["stage"], "prompts"))["reason"].to_pylist())
    if rows is None:
        told = found.get("candidates") if isinstance(found, dict) else None
        rows = told if isinstance(told, int) and (read or not answered) else counted.answers
    unfit = Counter(counted.ineligible)
    if answered and rows > counted.answers:
        unfit["of_dropped_prompts"] = rows - counted.answers
    elif not answered:
        told = found.get("ineligible") if isinstance(found, dict) else None
        known = told.get("of_dropped_prompts") if isinstance(told, dict) else None
        if isinstance(known, int) and read:
            unfit["of_dropped_prompts"] = known
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
    report.compare("ledger", "ledger.json", expected, found)
    return expected


def _stage(name: str, out: int, drops: Counter[str]) -> dict[str, Any]:
    return {"stage": name, "in": out + drops.total(), "out": out, "drops": _counts(drops)}


def _counts(reasons: Counter[str]) -> dict[str, int]:
    return dict(sorted(reasons.items()))


def _stages_of(ledger: JSON) -> list[Any]:
    stages = ledger.get("stages") if isinstance(ledger, dict) else None
    return stages if isinstance(stages, list) else []


def _as_told(stages: list[Any], place: int) -> tuple[int, Counter[str]]:
    """Rows out and drops of a stage as the ledger has them, where they are numbers at all."""
    stage = stages[place] if place < len(stages) and isinstance(stages[place], dict) else {}
    out, drops = stage.get("out"), stage.get("drops")
    named = drops if isinstance(drops, dict) else {}
    kept = {str(reason): count for reason, count in named.items() if type(count) is int}
    return (out if type(out) is int else 0), Counter(kept)
