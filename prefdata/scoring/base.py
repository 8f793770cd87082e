"""`Scorer`: gives every candidate of a prompt a score, or says why it has none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

from prefdata.errors import ConservationError
from prefdata.records import Answers, Candidate, Scored
from prefdata.spec import JSON, Context, Part

__all__ = ["CompositeScorer", "Given", "Scorer"]

Given: TypeAlias = tuple[Answers, Mapping[str, Scored]]
"""A prompt with its candidates, and what each member of a composite scorer says of them, by the member's name."""


class Scorer(Part):
    """A judge, a reward model, a pairwise ranker, or a column that is there already."""

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

    def shown(self, answers: Answers, context: Context) -> tuple[Candidate, ...] | None:
        """The candidates in the order in which they were seen together; None when each was scored by itself."""
        return None


class CompositeScorer(Scorer):
    """Makes its scores of those of other scorers, its members.

    In a build every member is a stage of its own, one after the other, so that only one model is loaded at a time and
    another way to combine them scores nothing again.
    """

    @abstractmethod
    def members(self) -> Mapping[str, Scorer]:
        """The members by the name that their pins and their context have: `scorer`, or `members.0`, `members.1`, ..."""

    @abstractmethod
    def fit(self, given: Callable[[], Iterable[Given]]) -> JSON:
        """What must be known of all prompts before any can be combined (means, slopes), and facts for the report.

        Args:
            given: gives all prompts, in an order that nothing but the prompts decides; may be called several times.
        """

    @abstractmethod
    def combine(self, given: Given, fitted: JSON) -> Scored:
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

        def given() -> Iterator[Given]:
            return ((answers[key], said[key]) for key in sorted(answers) if answers[key].candidates)

        fitted = self.fit(given)
        for task in answers.values():
            if task.candidates:
                yield self.combine((task, said[task.prompt.prompt_id]), fitted)
            else:
                yield Scored(task.prompt.prompt_id, ())
