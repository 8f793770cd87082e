"""Recomputes scores and comparisons as far as they are derived from comparisons or from the answers."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeAlias

from prefdata.lazy import pa, pl
from prefdata.records import Answers, Candidate, Comparison, Prompt, Score, Scored, as_messages
from prefdata.scoring import LengthDebiased, Scorer
from prefdata.spec import JSON, Context
from prefdata.tables.documents import ABSENT
from prefdata.verification._fit import FitCheck
from prefdata.verification._tables import computed_id
from prefdata.verification.report import Report

_Name: TypeAlias = tuple[str, int]

_MAX_CANDIDATES = 1_000
"""Most candidates per prompt whose comparisons are re-checked; a hostile folder with more could stall verification."""
_LAST_BITS = 1e-12
"""Tolerated difference of exponentials, more than processors differ."""


def scored_prompts(frame: pl.DataFrame, prompts: pa.Table) -> Iterator[tuple[Answers, tuple[Score, ...]]]:
    """Yields each prompt with its candidates in the order in which the scorer got them, and their scores.

    Prompts that no scorer can have seen are left out: those without messages, with an answer without text or name, or
    with two answers of one name.

    Args:
        frame: answers, sorted by prompt.
        prompts: schema `prefdata.tables.schemas.PROMPTS`.
    """
    turns = dict(zip(prompts["prompt_id"].to_pylist(), prompts["messages"].to_pylist(), strict=True))
    for prompt_id, group in groupby(frame.iter_rows(named=True), key=lambda row: row["prompt_id"]):
        rows = list(group)
        names = {(row["source"], row["index"]) for row in rows}
        complete = all(row[name] is not None for row in rows for name in ("source", "index", "response"))
        if not complete or len(names) < len(rows) or computed_id(turns.get(prompt_id)) is None:
            continue
        rows.sort(key=lambda row: (row["source"], row["index"]))
        columns = ["prompt_id", "source", "index", "response", "model", "finish_reason"]
        candidates = tuple(Candidate(**{name: row[name] for name in columns}) for row in rows)
        scores = (Score(prompt_id, row["source"], row["index"], row["score"], row["unscored"]) for row in rows)
        yield Answers(Prompt(prompt_id, as_messages(turns[prompt_id])), candidates), tuple(scores)


@dataclass
class ScoreCheck:
    """Compares scores and comparisons with those that are recomputed."""

    scorer: Scorer
    context: Context
    """The context that the scorer had."""
    report: Report
    recompute: bool = True
    """Whether scores are recomputed where this is possible."""
    undecided: Counter[str | None] = field(default_factory=Counter)
    """Reason → comparisons without a decision; None → decided ones."""

    def __post_init__(self) -> None:
        """Sets up the check of length-debiased scores, which can't be recomputed one by one."""
        self.fit = FitCheck(self.scorer, self.report) if isinstance(self.scorer, LengthDebiased) else None

    @property
    def derives(self) -> bool:
        """Whether anything can be recomputed for this scorer."""
        return self.recompute and (self.fit is not None or type(self.scorer).recompute is not Scorer.recompute)

    def valid_comparisons(self, compared: pa.Table, names: Collection[tuple[str, str, int]]) -> pa.Table:
        """Returns the comparisons that a scorer can have made of the named answers; the others are mismatches."""
        valid: list[bool] = []
        seen: set[tuple[tuple[str, str, int], ...]] = set()
        for row in compared.to_pylist():
            a, b = ((row["prompt_id"], row[f"source_{side}"], row[f"index_{side}"]) for side in "ab")
            p, odds, reason = row["probability"], row["log_odds"], row["undecided"]
            self.undecided[reason] += 1
            decided = (p is None) != (reason is None) and 0 <= (p or 0) <= 1 and math.isfinite(odds or 0)
            valid.append(a != b and a in names and b in names and decided and (a, b) not in seen)
            seen.add((a, b))
            if not valid[-1]:
                expected = "two answers of the prompt, once, and a probability or the reason why there is none"
                self._mismatch("comparison", row["prompt_id"], "", None, expected, (a, b, p, odds, reason))
        return compared.filter(pa.array(valid, pa.bool_()))

    def check(self, frame: pl.DataFrame, prompts: pa.Table, compared: pa.Table | None) -> None:
        """Checks all prompts of a chunk.

        Args:
            frame: answers that the scorer saw.
            prompts: schema `prefdata.tables.schemas.PROMPTS`.
            compared: their valid comparisons; None for a scorer that makes none.
        """
        comparisons: dict[str, list[Comparison]] = defaultdict(list)
        for row in () if compared is None else compared.to_pylist():
            comparisons[row["prompt_id"]].append(Comparison(**row))
        for answers, scores in scored_prompts(frame, prompts):
            prompt_id, n_answers = answers.prompt.prompt_id, len(answers.candidates)
            if n_answers > _MAX_CANDIDATES:
                self.report.not_checked.append(f"scores of prompt {prompt_id!r}, which has {n_answers:,} answers")
                continue
            if self.fit is not None:
                self.fit.add(answers, scores)
            published = Scored(prompt_id, scores, tuple(comparisons[prompt_id]))
            try:
                expected = self.scorer.recompute(answers, published, self.context)
            except OverflowError as error:
                self._mismatch("comparison", prompt_id, "", None, "numbers that can be added up", str(error))
                continue
            if expected is not None:
                unknown = self._compare_comparisons(prompt_id, expected.comparisons, published.comparisons)
                self._compare_scores(expected.scores, scores, unknown)

    def check_document(self, document: JSON, stages: Collection[str]) -> None:
        """Compares the counts in `scoring.json` with the comparisons.

        Args:
            document: the content of `scoring.json`.
            stages: names of the stages of scores that it must have.
        """
        stages_of_document: dict[str, JSON] = document if isinstance(document, dict) else {}
        self.report.compare("scoring", "scoring.json", sorted(stages), sorted(stages_of_document), path="stages")
        of_scores: JSON = stages_of_document.get("scores")
        if self.fit is not None:
            self.fit.check(of_scores.get("fitted") if isinstance(of_scores, dict) else None)
        if not self.scorer.compares:
            return
        drops = {str(reason): count for reason, count in self.undecided.items() if reason is not None}
        counts = {
            "stage": "comparisons",
            "in": self.undecided.total(),
            "out": self.undecided[None],
            "drops": dict(sorted(drops.items())),
        }
        compared = of_scores.get("comparisons", ABSENT) if isinstance(of_scores, dict) else ABSENT
        self.report.compare("scoring", "scoring.json", counts, compared, path="scores.comparisons")

    def _compare_comparisons(
        self, prompt_id: str, expected: Sequence[Comparison], published: Sequence[Comparison]
    ) -> set[_Name]:
        """Compares the comparisons; returns candidates with a missing one, whose scores can't be recomputed."""
        by_sides = {_sides(one): one for one in published}
        unknown: set[_Name] = set()
        for right in expected:
            sides = _sides(right)
            wrong = by_sides.pop(sides, None)
            if wrong is None:
                unknown.update(sides)
                self._mismatch("comparison", prompt_id, _shown_sides(right), None, "a comparison", ABSENT)
                continue
            for name in ("probability", "log_odds", "undecided", "detail"):
                one, other = getattr(right, name), getattr(wrong, name)
                if one != other and not (name == "probability" and _is_sigmoid(right, wrong)):
                    self._mismatch("comparison", prompt_id, _shown_sides(right), name, one, other)
        for wrong in by_sides.values():
            self._mismatch("comparison", prompt_id, _shown_sides(wrong), None, ABSENT, "a comparison")
        return unknown

    def _compare_scores(
        self, expected: Sequence[Score], published: Sequence[Score], unknown: Collection[_Name]
    ) -> None:
        for right, wrong in zip(expected, published, strict=True):
            name = (wrong.source, wrong.index)
            if name not in unknown and (right.score, right.unscored) != (wrong.score, wrong.unscored):
                one, other = ((score.unscored if score.score is None else score.score) for score in (right, wrong))
                self._mismatch("score", wrong.prompt_id, _shown(name), "score", one, other)

    def _mismatch(
        self, what: str, prompt_id: str, candidate: str, column: str | None, expected: object, found: object
    ) -> None:
        where = "candidates/" if what == "score" else "comparisons/"
        self.report.add(
            what, where, prompt_id=prompt_id, field=column, candidate=candidate or None, expected=expected, found=found
        )


def _sides(one: Comparison) -> tuple[_Name, _Name]:
    return (one.source_a, one.index_a), (one.source_b, one.index_b)


def _shown(name: _Name) -> str:
    return f"{name[0]} {name[1]}"


def _shown_sides(one: Comparison) -> str:
    return " against ".join(map(_shown, _sides(one)))


def _is_sigmoid(right: Comparison, wrong: Comparison) -> bool:
    """Checks whether two probabilities belong to one log-odds; processors differ in the last bits."""
    both: list[Any] = [right.probability, wrong.probability]
    return right.log_odds is not None and None not in both and abs(both[0] - both[1]) <= _LAST_BITS
