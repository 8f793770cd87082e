"""`Scorer`: gives every candidate of a prompt a score, or says why it has none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator

from prefdata.records import Answers, Candidate, Score
from prefdata.spec import Context, Part

__all__ = ["Scorer"]


class Scorer(Part):
    """A judge, a reward model, or a column that is there already."""

    @abstractmethod
    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[tuple[Score, ...]]:
        """Scores the candidates of each prompt.

        Args:
            tasks: prompts with their candidates in total order; streamed, pulled as there is room for them.
            context: seed, pins and log of this part.

        Yields:
            For each prompt, in any order, one tuple with exactly one `Score` for each of its candidates. What could
            not be scored has `score=None` and a reason slug, never 0.
        """

    def shown(self, answers: Answers, context: Context) -> tuple[Candidate, ...] | None:
        """The candidates in the order in which they were seen together; None when each was scored by itself."""
        return None
