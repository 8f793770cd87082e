"""Results of samplers and scorers: whether one accounts for its task, and its form in a journal."""

from __future__ import annotations

import math

from prefdata.errors import ConservationError
from prefdata.records import Answers, Candidate, Comparison, Drop, Score, Scored, is_score
from prefdata.sampling import SampleResult, SampleTask
from prefdata.spec import JSON

__all__ = ["check_sample_result", "check_scored", "load_sample_result", "load_scored"]


def check_sample_result(task: SampleTask, result: SampleResult) -> None:
    """Checks that a sampler's result accounts for its task.

    Raises:
        ConservationError: it has neither an answer to the task's prompt nor a drop, or names another prompt.
    """
    prompts = {record.prompt_id for records in (result.candidates, result.drops) for record in records}
    if prompts != {task.prompt.prompt_id}:
        raise ConservationError(f"candidates: {task.key!r} came back with neither an answer to its prompt nor a drop")


def load_sample_result(record: JSON) -> SampleResult:
    """Reads a sampler's result from its journal record, which `dataclasses.asdict` made."""
    candidates = tuple(Candidate(**candidate) for candidate in record["candidates"])
    return SampleResult(record["key"], candidates, tuple(Drop(**drop) for drop in record["drops"]))


def check_scored(answers: Answers, scored: Scored) -> None:
    """Checks that a scorer's result has one sound score for each candidate, and compares these candidates only.

    Raises:
        ConservationError: it does not.
    """
    asked = [(candidate.prompt_id, candidate.source, candidate.index) for candidate in answers.candidates]
    returned = [(score.prompt_id, score.source, score.index) for score in scored.scores]
    if sorted(asked) != sorted(returned):
        raise ConservationError(f"scores: the candidates {sorted(asked)} came back as {sorted(returned)}")
    for score in scored.scores:
        if (score.score is None) == (score.unscored is None) or not is_score(score.score or 0):
            raise ConservationError(f"scores: {score} is neither a score nor unscored with a reason")
    names = set(asked)
    for one in scored.comparisons:
        sides = {(one.prompt_id, one.source_a, one.index_a), (one.prompt_id, one.source_b, one.index_b)}
        if len(sides) < 2 or not sides <= names:
            raise ConservationError(f"scores: {one} compares what are not two candidates of its prompt")
        if (one.probability is None) == (one.undecided is None):
            raise ConservationError(f"scores: {one} is neither decided nor undecided with a reason")
        if not 0 <= (one.probability or 0) <= 1 or not math.isfinite(one.log_odds or 0):
            raise ConservationError(f"scores: {one} has a number that is not a probability, or log-odds not finite")


def load_scored(record: JSON) -> Scored:
    """Reads a prompt's scores from their journal record, which `dataclasses.asdict` made."""
    return Scored(
        record["prompt_id"],
        tuple(Score(**score) for score in record["scores"]),
        tuple(Comparison(**comparison) for comparison in record["comparisons"]),
    )
