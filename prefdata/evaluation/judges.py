"""Judges beside AlpacaEval's own: a reward model, and a pairwise judge behind an endpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefdata.errors import InputError, closest
from prefdata.evaluation.alpaca_eval import Annotator
from prefdata.evaluation.answering import Answer
from prefdata.evaluation.subject import chat_endpoint
from prefdata.flow.journal import Journal
from prefdata.flow.progress import Progress
from prefdata.models.folders import model_name
from prefdata.records import Answers, Candidate, Prompt, Scored, as_messages
from prefdata.scoring import GroupScorer, PairwiseJudge, RewardModel, Scorer
from prefdata.spec import JSON, Context, fingerprint

__all__ = ["Judges", "judge_beside", "judges_of", "mean_and_error"]

_MODEL, _BASELINE = "model", "baseline"
_KINDS = ("alpaca_eval=URL", "annotations=FILE", "annotator=NAME", "endpoint=MODEL@URL", "reward_model=MODEL")
_ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
"""AlpacaEval's name of the annotator of AlpacaEval 2."""


@dataclass(frozen=True)
class Judges:
    """Who judges the answers."""

    annotator: Annotator | None
    """AlpacaEval's own."""
    beside: tuple[tuple[str, Scorer], ...]
    """Name in the results → scorer."""


def judges_of(judge: Sequence[str], key_env: str) -> Judges:
    """Reads judges as the user names them.

    Args:
        judge: `alpaca_eval=URL`, `annotations=FILE`, `annotator=NAME`, `reward_model=MODEL` or `endpoint=MODEL@URL`,
            each.
        key_env: the variable that holds the key of endpoints.

    Raises:
        InputError: a judge is none of these.
    """
    file, address, annotator = None, None, _ANNOTATOR
    beside: dict[str, Scorer] = {}
    for text in judge:
        kind, equals, value = text.partition("=")
        if not (equals and value):
            raise InputError(f"the judge {text!r} is not KIND=VALUE", valid=", ".join(_KINDS))
        if kind == "annotations":
            file = Path(value)
        elif kind == "alpaca_eval":
            address = value
        elif kind == "annotator":
            annotator = value
        elif kind == "reward_model":
            beside[f"reward_model {model_name(value)}"] = RewardModel(model=value)
        elif kind == "endpoint":
            model, at, where = value.partition("@")
            if not (at and model):
                raise InputError(f"the judge {text!r} names no model", valid="endpoint=MODEL@URL")
            served = chat_endpoint(model, where, key_env)
            beside[f"endpoint {model}"] = PairwiseJudge(generator=served, against=_BASELINE)
        else:
            raise InputError(f"there is no judge {kind!r}", valid=closest(kind, _KINDS))
    own = None if file is None and address is None else Annotator(annotator, file, address, key_env)
    return Judges(own, tuple(beside.items()))


def judge_beside(
    scorer: Scorer, answers: Sequence[Answer], seed: int, work: Path, log: Callable[[str], None]
) -> dict[str, JSON]:
    """Scores the answers, and the baseline's outputs where there are any. What an earlier run has scored is kept.

    Args:
        scorer: a reward model or a pairwise judge.
        answers: to one evaluation set.
        seed: of the judge.
        work: the folder of journals.
        log: takes a line for the person who watches.

    Returns:
        `mean_reward` with its standard error from a reward model; `win_rate` in per cent with its standard error, and
        counts.

    Raises:
        UserError: the judge can't be found, started or reached.
    """
    pins = scorer.pins()
    tasks = [_task(answer) for answer in answers]
    key = fingerprint([scorer.identity(), pins, seed])[:16]
    journal = Journal(work / f"judged-{key}.jsonl")
    known: dict[str, JSON] = {record["key"]: record for record in journal.read()}
    unfinished = [group for group in _groups(scorer, tasks) if any(_key(task) not in known for task in group)]
    waiting = [task for group in unfinished for task in group]
    by_id = {task.prompt.prompt_id: task for task in waiting}
    try:
        with Progress.of("judged", len(tasks), "answers") as progress:
            progress.advance(len(tasks) - len(waiting), fresh=False)
            for scored in scorer.score(iter(waiting), Context(seed, pins, log)) if waiting else ():
                record = _record(_key(by_id[scored.prompt_id]), scored)
                known[record["key"]] = record
                journal.append(record)
                progress.advance(1)
        journal.sync()
    finally:
        journal.close()
    # A path of this machine would be published with the record.
    settings = {name: value for name, value in scorer.identity().items() if name != "model"}
    return {**_summary(scorer, [known[_key(task)] for task in tasks]), "pins": pins, "settings": settings}


def mean_and_error(values: Sequence[float], scale: float = 1.0) -> tuple[float | None, float | None]:
    """Returns the mean and its standard error (n - 1 in the variance); None where there are too few values."""
    if not values:
        return None, None
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean * scale, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean * scale, math.sqrt(variance / len(values)) * scale


def _task(answer: Answer) -> Answers:
    row = answer.instruction
    texts = {_BASELINE: row.baseline, _MODEL: answer.text}
    named = f"row {row.index}"
    candidates = tuple(Candidate(named, source, 0, text) for source, text in texts.items() if text is not None)
    return Answers(Prompt(named, as_messages(row.text)), candidates)


def _key(task: Answers) -> str:
    texts = [[candidate.source, candidate.response] for candidate in task.candidates]
    return fingerprint([task.prompt.prompt_id, list(task.prompt.messages), texts])


def _groups(scorer: Scorer, tasks: Sequence[Answers]) -> Iterator[Sequence[Answers]]:
    """A group is scored as a whole, so that its last digits don't depend on where a run was stopped."""
    size = scorer.group if isinstance(scorer, GroupScorer) else 1
    return (tasks[start : start + size] for start in range(0, len(tasks), size))


def _record(key: str, scored: Scored) -> dict[str, JSON]:
    scores = {score.source: score.score for score in scored.scores}
    record: dict[str, JSON] = {"key": key, "scores": scores, "reasons": [score.unscored for score in scored.scores]}
    for comparison in scored.comparisons:
        p = comparison.probability
        record["wins"] = p if p is None or comparison.source_a == _MODEL else 1 - p
    return record


def _summary(scorer: Scorer, records: Sequence[JSON]) -> dict[str, JSON]:
    rewards = {
        source: [score for record in records if (score := record["scores"].get(source)) is not None]
        for source in (_MODEL, _BASELINE)
    }
    if isinstance(scorer, PairwiseJudge):
        wins = [record["wins"] for record in records if record.get("wins") is not None]
        undecided = {"n_undecided": len(records) - len(wins)}
        return {**_rate(wins), **undecided}
    both = [
        (record["scores"][_MODEL], record["scores"][_BASELINE])
        for record in records
        if None not in (record["scores"].get(_MODEL), record["scores"].get(_BASELINE))
    ]
    mean, error = mean_and_error(rewards[_MODEL])
    found: dict[str, JSON] = {
        "mean_reward": mean,
        "standard_error_of_reward": error,
        "n_unscored": len(records) - len(rewards[_MODEL]),
    }
    if both or rewards[_BASELINE]:
        found["baseline_mean_reward"] = mean_and_error(rewards[_BASELINE])[0]
        found |= _rate([1.0 if ours > theirs else 0.5 if ours == theirs else 0.0 for ours, theirs in both])
    return found


def _rate(wins: Sequence[float]) -> dict[str, JSON]:
    rate, error = mean_and_error(wins, 100)
    draws = sum(win == 0.5 for win in wins)
    return {"win_rate": rate, "standard_error": error, "n_total": len(wins), "n_draws": draws}
