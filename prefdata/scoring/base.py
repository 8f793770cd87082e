"""`Scorer`: gives every candidate of a prompt a score, or says why it has none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import ClassVar, Literal, TypeAlias

from prefdata.errors import ConservationError
from prefdata.records import Answers, Candidate, Scored
from prefdata.spec import JSON, Context, Part

__all__ = ["CompositeScorer", "MemberScores", "GroupScorer", "Scorer"]

MemberScores: TypeAlias = tuple[Answers, Mapping[str, Scored]]
"""A prompt with its candidates, and what each member of a composite scorer says of them, by the member's name."""


class Scorer(Part):
    """A judge, a reward model, a pairwise ranker, or a column that is there already."""

    room: ClassVar[str] = "scorer"

    @abstractmethod
    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Scores the candidates of each prompt.

        Args:
            tasks: prompts with their candidates in total order; streamed, pulled as there is room for them.
            context: seed, pins and log of this part.

        Yields:
            For each prompt, in any order, one `Scored` with exactly one `Score` for each of its candidates. What could
            not be scored has `score=None` and a reason slug, never 0.
        """

    @property
    def compares(self) -> Literal["", "probability", "log_odds"]:
        """What its comparisons hold, empty when it makes none. `log_odds`: every decided one has both."""
        return ""

    def shown_order(self, answers: Answers, context: Context) -> tuple[Candidate, ...] | None:
        """The candidates in the order in which they were seen together; None when each was scored by itself."""
        return None

    def recompute(self, answers: Answers, said: Scored, context: Context) -> Scored | None:
        """What it says of a prompt, as far as that follows from the candidates and from what it said of them.

        Scorers whose scores follow from their comparisons give these scores, and which candidates they compare, so that
        whoever has both can tell whether they belong together. No model runs.

        Args:
            answers: the prompt with its candidates.
            said: one score for each candidate, in their order, and comparisons of any two of these; not to be trusted.
            context: the seed and pins that the scorer had.

        Returns:
            One score for each candidate and one comparison for each two that are compared; what can't be known is as
            `said` has it. None where nothing follows from anything.
        """
        return None


class GroupScorer(Scorer):
    """Scores groups of prompts, each group as a whole.

    The last digits of a model's numbers depend on the texts that share a batch. Batches are made within a group only,
    in an order that nothing but the group decides, so a score is a function of its group, the model, the options and
    the machine, whatever else is scored before it or has been scored already.

    In a build, groups are cut from all its prompts in their order, wherever shards begin, and a group that a killed
    run had not finished is scored again as a whole. A judge that is paid by the request is no such scorer.
    """

    group: ClassVar[int]
    """Prompts of a group: enough for even batches, few enough to lose with a killed process."""

    @abstractmethod
    def score_groups(self, groups: Iterable[Sequence[Answers]], context: Context) -> Iterator[tuple[Scored, ...]]:
        """Scores each group.

        Args:
            groups: prompts with their candidates in total order, at least one a group; streamed, pulled as there is
                room for them.
            context: as for `score`.

        Yields:
            For each group, in any order, what `score` yields of its prompts, in their order.
        """

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Scores the prompts in groups as they come, `group` of them each; see `Scorer.score`."""
        rest = iter(tasks)
        for scored in self.score_groups(iter(lambda: tuple(islice(rest, self.group)), ()), context):
            yield from scored


class CompositeScorer(Scorer):
    """Makes its scores of those of other scorers, its members.

    In a build every member is a stage of its own, one after the other, so that only one model is loaded at a time and
    another way to combine them scores nothing again.
    """

    @abstractmethod
    def members(self) -> Mapping[str, Scorer]:
        """The members by the name that their pins and their context have: `scorer`, or `members.0`, `members.1`, ..."""

    @abstractmethod
    def fit(self, given: Callable[[], Iterable[MemberScores]]) -> JSON:
        """What must be known of all prompts before any can be combined (means, slopes), and facts for the report.

        Args:
            given: gives all prompts, in an order that nothing but the prompts decides; may be called several times.
        """

    @abstractmethod
    def combine(self, given: MemberScores, fitted: JSON) -> Scored:
        """The scores of one prompt's candidates."""

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Lets one member after the other score everything, then combines; holds all prompts in memory."""
        answers = {task.prompt.prompt_id: task for task in tasks}
        said: dict[str, dict[str, Scored]] = {prompt_id: {} for prompt_id in answers}
        for name, member in self.members().items():
            for scored in member.score((task for task in answers.values() if task.candidates), context.child(name)):
                said[scored.prompt_id][name] = scored
        if lost := [
            key for key, task in answers.items() if task.candidates and said[key].keys() != self.members().keys()
        ]:
            raise ConservationError(
                f"a member of {self.dump()['kind']!r} left out {len(lost)} prompts, {lost[0]!r} first"
            )

        def given() -> Iterator[MemberScores]:
            return ((answers[key], said[key]) for key in sorted(answers) if answers[key].candidates)

        fitted = self.fit(given)
        for task in answers.values():
            if task.candidates:
                yield self.combine((task, said[task.prompt.prompt_id]), fitted)
            else:
                yield Scored(task.prompt.prompt_id, ())
