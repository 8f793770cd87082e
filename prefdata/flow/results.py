"""Results of samplers and scorers: whether one accounts for its task, fits the tables, and its form in a journal."""

from __future__ import annotations

import functools
import math
from collections import Counter

from prefdata.errors import ConservationError
from prefdata.records import Answers, Candidate, Comparison, Drop, Score, Scored, is_score
from prefdata.sampling import SampleResult, SampleTask
from prefdata.spec import JSON
from prefdata.tables.schemas import CANDIDATE_DROPS, CANDIDATES, COMPARISONS, REASONING, SCORES

__all__ = [
    "check_sample_result",
    "check_scored",
    "check_storable",
    "failures_in",
    "load_sample_result",
    "load_scored",
    "tokens_in",
]

_MOST = 2**63
_SHOWN = 60


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
    drops = tuple(Drop(**drop) for drop in record["drops"])
    return SampleResult(record["key"], candidates, drops, record.get("kept"))


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


def check_storable(record: JSON) -> None:
    """Checks that the tables of a stage can hold the rows in a journal record.

    Raises:
        ValueError: they can't, or the record is not one of rows.
    """
    for name, rows in record.items():
        if name == "scored":
            for each in rows:
                check_storable(each)
        elif (kinds := _kinds().get(name)) is not None:
            for row in rows:
                for column, value in row.items():
                    if value is not None and not _fits(value, kinds[column]):
                        raise ValueError(f"{column} is {_shown(value)}")


def tokens_in(record: JSON) -> int:
    """Counts the tokens of the answers in a journal record, as far as they are known."""
    return sum(candidate.get("n_tokens") or 0 for candidate in record.get("candidates", ()))


def failures_in(record: JSON) -> Counter[str]:
    """Counts the drops and the answers without a score in a journal record, by reason."""
    reasons = Counter(str(drop["reason"]) for drop in record.get("drops", ()))
    for scored in (record, *record.get("scored", ())):
        reasons.update(str(score["unscored"]) for score in scored.get("scores", ()) if score["unscored"])
    return reasons


@functools.cache
def _kinds() -> dict[str, dict[str, str]]:
    """Gives the type of each column, by the name of the rows in a record."""
    tables = {"candidates": CANDIDATES, "drops": CANDIDATE_DROPS, "scores": SCORES, "comparisons": COMPARISONS}
    kinds = {name: {column.name: str(column.type) for column in schema} for name, schema in tables.items()}
    kinds["candidates"]["reasoning"] = str(REASONING.field("reasoning").type)
    return kinds


def _fits(value: object, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str) and (value.isascii() or _is_unicode(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, int):
        return -_MOST <= value < _MOST
    return kind == "double" and math.isfinite(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    # A whole number of more than 4,300 digits has no text.
    text = f"a number of {value.bit_length()} bits" if isinstance(value, int) else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def load_scored(record: JSON) -> Scored:
    """Reads a prompt's scores from their journal record, which `dataclasses.asdict` made."""
    return Scored(
        record["prompt_id"],
        tuple(Score(**score) for score in record["scores"]),
        tuple(Comparison(**comparison) for comparison in record["comparisons"]),
    )
