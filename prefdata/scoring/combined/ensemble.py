"""`Ensemble`: several scorers as one; of judges, a panel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from prefdata.records import Answers, Comparison, Score, Scored
from prefdata.scoring.base import CompositeScorer, MemberScores, Scorer
from prefdata.scoring.combined._members import Name, Preferences, by_comparisons, by_scores, facts_of_members, z_score
from prefdata.spec import JSON, Context

if TYPE_CHECKING:
    from prefdata.scoring import AnyScorer

__all__ = ["Ensemble"]

_DECIMALS = 12

_Known: TypeAlias = Mapping[str, Mapping[Name, Score]]
"""What each member gave each candidate of a prompt, by the member's name."""


class Ensemble(CompositeScorer):
    """Scores by what several scorers say together, and tells how far they agree.

    Two answers compare by the members too: P(a beats b) is the mean of what each member says, which is its own
    probability where it compares answers itself, and otherwise 1, 0 or one half by its scores. So a panel of judges
    gives soft labels.

    What a build reports of it: each member's mean and standard deviation over all candidates, Krippendorff's alpha and
    Kendall's tau-b (see `prefdata.scoring.combined.agreement`).
    """

    kind: Literal["ensemble"] = "ensemble"
    scorers: Annotated[tuple[AnyScorer, ...], Field(min_length=2)]
    """The members."""
    combine_by: Literal["mean", "z_mean", "minimum", "majority"] = "z_mean"
    """`mean` of the scores, for members of one scale. `z_mean`: of the z-scores, each member's over all candidates of
    the dataset; a member that gives everything the same score adds 0. `minimum` of the z-scores: as good as its
    strictest member says. `majority`: the share of members for which the candidate is its prompt's best; ties share a
    vote."""
    at_least: Annotated[int, Field(ge=1)] | None = None
    """How many members must have scored a candidate; one with fewer is unscored. None: all of them."""

    @model_validator(mode="after")
    def _has_so_many(self) -> Ensemble:
        if self.at_least is not None and self.at_least > len(self.scorers):
            raise ValueError(f"at_least {self.at_least} of {len(self.scorers)} scorers leaves every candidate unscored")
        return self

    @property
    def compares(self) -> Literal["probability"]:
        """The mean of the members' probabilities."""
        return "probability"

    def members(self) -> Mapping[str, Scorer]:
        """The scorers as `scorers.0`, `scorers.1`, ..."""
        return {f"scorers.{place}": scorer for place, scorer in enumerate(self.scorers)}

    def fit(self, given: Callable[[], Iterable[MemberScores]]) -> JSON:
        """Each member's moments, and how far the members agree; see `CompositeScorer.fit`."""
        return facts_of_members(list(self.members()), given())

    def combine(self, given: MemberScores, fitted: JSON) -> Scored:
        """Reasons for being unscored: `member_unscored` (the detail says which and why), and `not_finite`."""
        answers, said = given
        known = {name: {(s.source, s.index): s for s in said[name].scores} for name in self.members()}
        names = [(candidate.source, candidate.index) for candidate in answers.candidates]
        prompt_id = answers.prompt.prompt_id
        running = [name for name in names if self._missing(known, name) is None]
        values = self._values(known, running, fitted)
        scores = [self._score(prompt_id, name, known, values) for name in names]
        told = {
            member: by_comparisons(said[member].comparisons) if scorer.compares else by_scores(known[member])
            for member, scorer in self.members().items()
        }
        pairs = combinations(sorted(names), 2)
        return Scored(prompt_id, tuple(scores), tuple(self._comparison(prompt_id, a, b, told) for a, b in pairs))

    def recompute(self, answers: Answers, said: Scored, context: Context) -> Scored:
        """Every two candidates are compared. What the members said is not in `said`; see `Scorer.recompute`."""
        known = {((c.source_a, c.index_a), (c.source_b, c.index_b)): c for c in said.comparisons}
        names = sorted((candidate.source, candidate.index) for candidate in answers.candidates)
        silent = {
            (a, b): Comparison(said.prompt_id, *a, *b, None, undecided="member_undecided")
            for a, b in combinations(names, 2)
        }
        return Scored(said.prompt_id, said.scores, tuple(known.get(pair, one) for pair, one in silent.items()))

    @property
    def _needed(self) -> int:
        return len(self.scorers) if self.at_least is None else self.at_least

    def _missing(self, known: _Known, name: Name) -> str | None:
        """Why too few members have scored a candidate; None when enough have."""
        unscored = {member: scores[name].unscored for member, scores in known.items() if scores[name].score is None}
        if len(known) - len(unscored) >= self._needed:
            return None
        return ", ".join(f"{member}: {reason}" for member, reason in unscored.items())

    def _score(self, prompt_id: str, name: Name, known: _Known, values: Mapping[Name, float]) -> Score:
        if (missing := self._missing(known, name)) is not None:
            return Score(prompt_id, *name, None, "member_unscored", missing)
        if not math.isfinite(values[name]):
            return Score(prompt_id, *name, None, "not_finite", f"the members' scores come to {values[name]}")
        return Score(prompt_id, *name, round(values[name], _DECIMALS))

    def _values(self, known: _Known, running: Sequence[Name], fitted: JSON) -> dict[Name, float]:
        """The combined score of each candidate that enough members have scored."""
        given = {
            member: {name: score for name in running if (score := scores[name].score) is not None}
            for member, scores in known.items()
        }
        if self.combine_by == "majority":
            return _votes(list(given.values()), running)
        if self.combine_by != "mean":
            moments = fitted["members"]
            given = {
                member: {name: z_score(score, moments[member]) for name, score in scores.items()}
                for member, scores in given.items()
            }
        together = {name: [scores[name] for scores in given.values() if name in scores] for name in running}
        if self.combine_by == "minimum":
            return {name: min(scores) for name, scores in together.items()}
        return {name: sum(score / len(scores) for score in scores) for name, scores in together.items()}

    def _comparison(self, prompt_id: str, a: Name, b: Name, told: Mapping[str, Preferences]) -> Comparison:
        said = {member: preferences.get((a, b), "not_compared") for member, preferences in told.items()}
        given = [p for p in said.values() if not isinstance(p, str)]
        if len(given) < self._needed:
            silent = ", ".join(f"{member}: {reason}" for member, reason in said.items() if isinstance(reason, str))
            return Comparison(prompt_id, *a, *b, None, undecided="member_undecided", detail=silent)
        return Comparison(prompt_id, *a, *b, round(math.fsum(given) / len(given), _DECIMALS))


def _votes(members: Sequence[Mapping[Name, float]], running: Sequence[Name]) -> dict[Name, float]:
    """The share of the members' votes that each candidate has; a member that scored none of them has no vote."""
    votes = dict.fromkeys(running, 0.0)
    voters = [scores for scores in members if scores]
    for scores in voters:
        best = [name for name, score in scores.items() if score == max(scores.values())]
        for name in best:
            votes[name] += 1 / (len(best) * len(voters))
    return votes
