"""Defines `Ensemble`, which combines several scorers, for example judges to a panel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from prefdata.records import Answers, Comparison, Score, Scored, is_score
from prefdata.scoring.base import CompositeScorer, MemberScores, Scorer
from prefdata.scoring.combined._members import Name, Preferences, by_comparisons, by_scores, facts_of_members, z_score
from prefdata.spec import JSON, Context
from prefdata.spec.marks import Harmless

if TYPE_CHECKING:
    from prefdata.scoring import AnyScorer

__all__ = ["Ensemble"]

_DECIMALS = 12

_ByMember: TypeAlias = Mapping[str, Mapping[Name, Score]]
"""Each candidate's score by each member, for one prompt: member's name → candidate's name → score."""


class Ensemble(CompositeScorer):
    """Combines the scores of several scorers, and reports how far they agree.

    It also compares every two answers: P(a beats b) is the mean over the members. A member that compares answers itself
    counts with its own probability, any other with 1, 0 or one half by its scores. So a panel of judges gives soft
    labels.

    A build reports each member's mean and standard deviation over all candidates, Krippendorff's alpha and Kendall's
    tau-b (see `prefdata.scoring.combined.agreement`).
    """

    kind: Literal["ensemble"] = "ensemble"
    scorers: Annotated[tuple[AnyScorer, ...], Harmless, Field(min_length=2)]
    """The members."""
    combine_by: Annotated[Literal["mean", "z_mean", "minimum", "majority"], Harmless] = "z_mean"
    """How scores are combined. `mean`: the mean of the members' scores, for members of one scale. `z_mean`: the mean of
    their z-scores, each member's over all candidates of the dataset; a member whose scores are all equal adds 0.
    `minimum`: the least z-score, that of the strictest member. `majority`: the share of members for which the
    candidate is the best of its prompt; candidates that tie share the vote."""
    at_least: Annotated[Annotated[int, Field(ge=1)] | None, Harmless] = None
    """Number of members that must have scored a candidate; with fewer it is unscored (`member_unscored`). None requires
    all members."""

    @model_validator(mode="after")
    def _at_least_is_reachable(self) -> Ensemble:
        if self.at_least is not None and self.at_least > len(self.scorers):
            raise ValueError(f"at_least {self.at_least} of {len(self.scorers)} scorers leaves every candidate unscored")
        return self

    @property
    def compares(self) -> Literal["probability"]:
        """`probability`: the mean of the members' probabilities."""
        return "probability"

    def members(self) -> Mapping[str, Scorer]:
        """Returns the scorers as `scorers.0`, `scorers.1`, ..."""
        return {f"scorers.{number}": scorer for number, scorer in enumerate(self.scorers)}

    def fit(self, read_all: Callable[[], Iterable[MemberScores]]) -> JSON:
        """Computes each member's moments, and how far the members agree; see `CompositeScorer.fit`."""
        return facts_of_members(list(self.members()), read_all())

    def combine(self, member_scores: MemberScores, fitted: JSON) -> Scored:
        """Combines one prompt's scores; see `CompositeScorer.combine`.

        Reasons for being unscored: `member_unscored` (the detail says which member and why), and `not_finite`.
        """
        answers, scored = member_scores
        by_member = {name: {(s.source, s.index): s for s in scored[name].scores} for name in self.members()}
        names = [(candidate.source, candidate.index) for candidate in answers.candidates]
        prompt_id = answers.prompt.prompt_id
        complete = [name for name in names if self._missing(by_member, name) is None]
        values = self._values(by_member, complete, fitted)
        scores = [self._score(prompt_id, name, by_member, values) for name in names]
        preferences = {
            member: by_comparisons(scored[member].comparisons) if scorer.compares else by_scores(by_member[member])
            for member, scorer in self.members().items()
        }
        pairs = combinations(sorted(names), 2)
        comparisons = tuple(self._comparison(prompt_id, a, b, preferences) for a, b in pairs)
        return Scored(prompt_id, tuple(scores), comparisons)

    def recompute(self, answers: Answers, recorded: Scored, context: Context) -> Scored:
        """Recomputes which candidates are compared: every two. See `Scorer.recompute`.

        Values stay as recorded, since they depend on the members' scores.
        """
        by_pair = {((c.source_a, c.index_a), (c.source_b, c.index_b)): c for c in recorded.comparisons}
        names = sorted((candidate.source, candidate.index) for candidate in answers.candidates)
        undecided = {
            (a, b): Comparison(recorded.prompt_id, *a, *b, None, undecided="member_undecided")
            for a, b in combinations(names, 2)
        }
        comparisons = tuple(by_pair.get(pair, one) for pair, one in undecided.items())
        return Scored(recorded.prompt_id, recorded.scores, comparisons)

    @property
    def _n_required(self) -> int:
        return len(self.scorers) if self.at_least is None else self.at_least

    def _missing(self, by_member: _ByMember, name: Name) -> str | None:
        """Lists the members that have not scored a candidate, and why; None if enough have."""
        unscored = {member: scores[name].unscored for member, scores in by_member.items() if scores[name].score is None}
        if len(by_member) - len(unscored) >= self._n_required:
            return None
        return ", ".join(f"{member}: {reason}" for member, reason in unscored.items())

    def _score(self, prompt_id: str, name: Name, by_member: _ByMember, values: Mapping[Name, float]) -> Score:
        if (missing := self._missing(by_member, name)) is not None:
            return Score(prompt_id, *name, None, "member_unscored", missing)
        if not is_score(values[name]):
            return Score(prompt_id, *name, None, "not_finite", f"the members' scores combine to {values[name]}")
        return Score(prompt_id, *name, round(values[name], _DECIMALS))

    def _values(self, by_member: _ByMember, names: Sequence[Name], fitted: JSON) -> dict[Name, float]:
        """Computes the combined score of each of these candidates, which enough members have scored."""
        numbers = {
            member: {name: score for name in names if (score := scores[name].score) is not None}
            for member, scores in by_member.items()
        }
        if self.combine_by == "majority":
            return _votes(list(numbers.values()), names)
        if self.combine_by != "mean":
            moments = fitted["members"]
            numbers = {
                member: {name: z_score(score, moments[member]) for name, score in scores.items()}
                for member, scores in numbers.items()
            }
        by_name = {name: [scores[name] for scores in numbers.values() if name in scores] for name in names}
        if self.combine_by == "minimum":
            return {name: min(scores) for name, scores in by_name.items()}
        return {name: sum(score / len(scores) for score in scores) for name, scores in by_name.items()}

    def _comparison(self, prompt_id: str, a: Name, b: Name, preferences: Mapping[str, Preferences]) -> Comparison:
        of_pair = {member: own.get((a, b), "not_compared") for member, own in preferences.items()}
        probabilities = [p for p in of_pair.values() if not isinstance(p, str)]
        if len(probabilities) < self._n_required:
            reasons = ", ".join(f"{member}: {reason}" for member, reason in of_pair.items() if isinstance(reason, str))
            return Comparison(prompt_id, *a, *b, None, undecided="member_undecided", detail=reasons)
        return Comparison(prompt_id, *a, *b, round(math.fsum(probabilities) / len(probabilities), _DECIMALS))


def _votes(members: Sequence[Mapping[Name, float]], names: Sequence[Name]) -> dict[Name, float]:
    """Computes each candidate's share of the members' votes; a member that scored none of them has no vote."""
    votes = dict.fromkeys(names, 0.0)
    voters = [scores for scores in members if scores]
    for scores in voters:
        best = [name for name, score in scores.items() if score == max(scores.values())]
        for name in best:
            votes[name] += 1 / (len(best) * len(voters))
    return votes
