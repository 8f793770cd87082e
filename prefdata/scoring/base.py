"""Defines `Scorer`, which gives every candidate of a prompt a score or a reason for having none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import ClassVar, Literal, TypeAlias

from prefdata.errors import ConservationError
from prefdata.records import Answers, Candidate, Scored
from prefdata.spec import JSON, Context, Part

__all__ = ["CompositeScorer", "GroupScorer", "MemberScores", "Scorer"]

MemberScores: TypeAlias = tuple[Answers, Mapping[str, Scored]]
"""A prompt with its candidates, and the scores by each member of a composite scorer, by the member's name."""


class Scorer(Part):
    """A judge, a reward model, a pairwise ranker, or an existing column."""

    room: ClassVar[str] = "scorer"

    @abstractmethod
    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Scores the candidates of each prompt.

        Args:
            tasks: prompts with their candidates in total order; a stream that is pulled when there is room.
            context: seed, pins and log of this part.

        Yields:
            For each prompt, in any order, one `Scored` with exactly one `Score` for each of its candidates. A candidate
            that could not be scored has `score=None` and a reason slug, never 0.
        """

    @property
    def compares(self) -> Literal["", "probability", "log_odds"]:
        """Kind of value in this scorer's comparisons; empty if it makes none.

        With `log_odds`, every decided comparison has a probability and log-odds.
        """
        return ""

    def shown_order(self, answers: Answers, context: Context) -> tuple[Candidate, ...] | None:
        """Returns the candidates in the order in which a model saw them together; None if it saw each by itself."""
        return None

    def recompute(self, answers: Answers, recorded: Scored, context: Context) -> Scored | None:
        """Recomputes a prompt's scores from its candidates and its recorded comparisons, without running a model.

        Used by `verify`. A scorer whose scores follow from its comparisons returns these scores, and the comparisons
        that it makes, so that recorded ones can be checked against them.

        Args:
            answers: the prompt with its candidates.
            recorded: one score for each candidate, in their order, and comparisons of any two candidates; not trusted.
            context: the seed and pins that the scorer had.

        Returns:
            One score for each candidate and one comparison for each two that are compared; values that can't be
            recomputed are those of `recorded`. None if nothing can be recomputed.
        """
        return None


class GroupScorer(Scorer):
    """Scores groups of prompts, each group as a whole.

    The last digits of a model's numbers depend on the texts that share a batch. Batches are made within a group only,
    in an order that depends on the group alone. So a score is a function of its group, the model, the options and the
    machine, and of nothing that is scored before or after it.

    In a build, groups are cut from all its prompts in their order, independently of shards. A group that a killed run
    had not finished is scored again as a whole. A judge that is paid by the request is not a `GroupScorer`.
    """

    group: ClassVar[int]
    """Number of prompts in a group: enough for even batches, few enough to lose with a killed process."""

    @abstractmethod
    def score_groups(self, groups: Iterable[Sequence[Answers]], context: Context) -> Iterator[tuple[Scored, ...]]:
        """Scores each group.

        Args:
            groups: prompts with their candidates in total order, at least one in each group; a stream that is pulled
                when there is room.
            context: as for `score`.

        Yields:
            For each group, in any order, one `Scored` for each of its prompts, in their order.
        """

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Scores the prompts in groups of `group`, in the order in which they come; see `Scorer.score`."""
        rest = iter(tasks)
        for scored in self.score_groups(iter(lambda: tuple(islice(rest, self.group)), ()), context):
            yield from scored


class CompositeScorer(Scorer):
    """Combines the scores of other scorers, its members.

    In a build every member is a stage of its own, one after the other, so only one model is loaded at a time, and
    changing the combination recomputes no member's score.
    """

    @abstractmethod
    def members(self) -> Mapping[str, Scorer]:
        """Returns the members by the name of their pins and context: `scorer`, or `members.0`, `members.1`, ..."""

    @abstractmethod
    def fit(self, read_all: Callable[[], Iterable[MemberScores]]) -> JSON:
        """Computes values over all prompts that combining needs (means, slopes), and facts for the report.

        Args:
            read_all: returns all prompts, in an order that depends on the prompts alone; may be called several times.
        """

    @abstractmethod
    def combine(self, member_scores: MemberScores, fitted: JSON) -> Scored:
        """Computes the scores of one prompt's candidates.

        Args:
            member_scores: the prompt, and its scores by each member.
            fitted: the result of `fit`.
        """

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Scores all prompts by one member after the other, then combines; holds all prompts in memory."""
        answers = {task.prompt.prompt_id: task for task in tasks}
        scored_by: dict[str, dict[str, Scored]] = {prompt_id: {} for prompt_id in answers}
        for name, member in self.members().items():
            for scored in member.score((task for task in answers.values() if task.candidates), context.child(name)):
                scored_by[scored.prompt_id][name] = scored
        if lost := [
            key for key, task in answers.items() if task.candidates and scored_by[key].keys() != self.members().keys()
        ]:
            raise ConservationError(
                f"a member of {self.dump()['kind']!r} left out {len(lost)} prompts, {lost[0]!r} first"
            )

        def read_all() -> Iterator[MemberScores]:
            return ((answers[key], scored_by[key]) for key in sorted(answers) if answers[key].candidates)

        fitted = self.fit(read_all)
        for task in answers.values():
            if task.candidates:
                yield self.combine((task, scored_by[task.prompt.prompt_id]), fitted)
            else:
                yield Scored(task.prompt.prompt_id, ())
