"""What the stages write: rows as checked tables, what a journal holds, and the counts that must balance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from prefdata.errors import ConservationError, InputError
from prefdata.flow.disk import write_atomically
from prefdata.flow.store import StageFolder
from prefdata.lazy import pa
from prefdata.recipe import Recipe
from prefdata.records import Answers, Candidate, Comparison, Drop, Prompt, Score, Scored
from prefdata.sampling import SampleResult, SampleTask
from prefdata.spec import JSON, Context
from prefdata.tables.schemas import CANDIDATE_DROPS, CANDIDATE_KEY, CANDIDATES, checked, write_parquet

__all__ = [
    "balanced",
    "check_sample_result",
    "check_scored",
    "load_sample_result",
    "prompt_drop",
    "read_prompts",
    "scored_of",
    "write_sample_results",
    "write_rows",
]


def read_prompts(
    recipe: Recipe, context: Context, filters: Sequence[Context] = ()
) -> tuple[list[Prompt], list[Drop], int]:
    """The prompts of a recipe: different ones, that pass its filters, at most `limit` of them, sorted by id.

    Args:
        recipe: with its profile applied.
        context: of the source.
        filters: of each filter; those that are missing have no pins.

    Returns:
        The prompts, the drops, and the number of rows that these two account for: what comes after the last prompt
        that the limit lets in counts as not read.

    Raises:
        InputError: there is not a single prompt.
    """
    rows: list[Prompt | Drop] = []
    seen: dict[str, Prompt] = {}
    for record in recipe.prompts.read(context):
        if isinstance(record, Prompt) and (first := seen.setdefault(record.prompt_id, record)) is not record:
            detail = f"{record.origin} repeats {first.origin}"
            rows.append(Drop(record.prompt_id, "prompts", "duplicate", detail))
            continue
        rows.append(record)
        # A filter may look at all prompts, so only without one can reading end early.
        if not recipe.filters and len(seen) == recipe.limit:
            break
    for place, sieve in enumerate(recipe.filters):
        rows = _sifted(rows, sieve.filter, filters[place] if place < len(filters) else context)
    kept = [place for place, record in enumerate(rows) if isinstance(record, Prompt)][: recipe.limit]
    if recipe.limit is not None and len(kept) == recipe.limit:
        del rows[kept[-1] + 1 :]
    prompts = [record for record in rows if isinstance(record, Prompt)]
    drops = [record for record in rows if isinstance(record, Drop)]
    if not prompts:
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(drop.reason for drop in drops).items())
        raise InputError(f"the prompts of recipe {recipe.name!r} hold no prompt: {len(rows)} rows read ({reasons})")
    return sorted(prompts, key=lambda prompt: prompt.prompt_id), drops, len(rows)


def _sifted(rows: Sequence[Prompt | Drop], filter: Any, context: Context) -> list[Prompt | Drop]:
    """The rows with what a filter makes of the prompts among them.

    Raises:
        ConservationError: it did not give each prompt back, or drop it, in order.
    """
    prompts = [record for record in rows if isinstance(record, Prompt)]
    passed = list(filter(prompts, context))
    if [record.prompt_id for record in passed] != [prompt.prompt_id for prompt in prompts]:
        raise ConservationError(f"a filter was given {len(prompts)} prompts and gave others back ({len(passed)})")
    answers = iter(passed)
    return [next(answers) if isinstance(record, Prompt) else record for record in rows]


def balanced(stage: str, rows_in: int, rows_out: int, drops: Counter[str]) -> dict[str, Any]:
    """The report of a stage.

    Raises:
        ConservationError: rows in ≠ rows out + drops.
    """
    if rows_in != rows_out + drops.total():
        raise ConservationError(f"{stage}: {rows_in} in, but {rows_out} out and {drops.total()} drops")
    return {"stage": stage, "in": rows_in, "out": rows_out, "drops": dict(sorted(drops.items()))}


def write_rows(path: Any, rows: Iterable[dict[str, Any]], schema: pa.Schema, key: Sequence[str], stage: str) -> None:
    """Writes rows as one checked table."""
    table = checked(pa.Table.from_pylist(list(rows), schema), schema, key, stage)
    write_atomically(path, lambda beside: write_parquet(beside, table))


def write_sample_results(stage: StageFolder, shard: int, results: Sequence[SampleResult]) -> None:
    """Writes a shard of candidates, and their drops before it."""
    candidates = [asdict(candidate) for drawn in results for candidate in drawn.candidates]
    drops = [asdict(drop) for drawn in results for drop in drawn.drops]
    write_rows(stage.side_table("candidate_drops", shard), drops, CANDIDATE_DROPS, [], "candidates")
    write_rows(stage.shard(shard), candidates, CANDIDATES, CANDIDATE_KEY, "candidates")


def check_sample_result(task: SampleTask, drawn: SampleResult) -> None:
    """Whether a sampler's result accounts for its task.

    Raises:
        ConservationError: it doesn't.
    """
    found = {record.prompt_id for records in (drawn.candidates, drawn.drops) for record in records}
    if found != {task.prompt.prompt_id}:
        raise ConservationError(f"candidates: {task.key!r} came back with neither an answer to its prompt nor a drop")


def check_scored(answers: Answers, scored: Scored) -> None:
    """Whether a scorer's result has one sound score for each candidate, and comparisons of these candidates only.

    Raises:
        ConservationError: it hasn't.
    """
    asked = [(found.prompt_id, found.source, found.index) for found in answers.candidates]
    given = [(score.prompt_id, score.source, score.index) for score in scored.scores]
    if sorted(asked) != sorted(given):
        raise ConservationError(f"scores: the candidates {sorted(asked)} came back as {sorted(given)}")
    for score in scored.scores:
        if (score.score is None) == (score.unscored is None) or not math.isfinite(score.score or 0):
            raise ConservationError(f"scores: {score} is neither a finite number nor unscored with a reason")
    names = set(asked)
    for one in scored.comparisons:
        sides = {(one.prompt_id, one.source_a, one.index_a), (one.prompt_id, one.source_b, one.index_b)}
        if len(sides) < 2 or not sides <= names:
            raise ConservationError(f"scores: {one} compares what are not two candidates of its prompt")
        if (one.probability is None) == (one.undecided is None):
            raise ConservationError(f"scores: {one} is neither decided nor undecided with a reason")
        if not 0 <= (one.probability or 0) <= 1 or not math.isfinite(one.log_odds or 0):
            raise ConservationError(f"scores: {one} has a number that is no probability, or no finite log-odds")


def scored_of(record: JSON) -> Scored:
    """What a journal holds of a prompt's scores."""
    return Scored(
        record["prompt_id"],
        tuple(Score(**score) for score in record["scores"]),
        tuple(Comparison(**comparison) for comparison in record["comparisons"]),
    )


def load_sample_result(record: JSON) -> SampleResult:
    """What a journal holds of a sampler's task."""
    candidates = tuple(Candidate(**candidate) for candidate in record["candidates"])
    return SampleResult(record["key"], candidates, tuple(Drop(**drop) for drop in record["drops"]))


def prompt_drop(drop: Drop) -> dict[str, str]:
    """A row of the table of dropped prompts."""
    return {"prompt_id": drop.prompt_id, "stage": drop.stage, "reason": drop.reason, "detail": drop.detail}
