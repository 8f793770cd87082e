"""Scoring by groups of prompts: which prompts make a group, and how its scores come to the shards.

A group is a fixed number of consecutive prompts of the build, so it does not depend on shard size. The part of a group
that falls into one shard is the unit that is asked, journalled and written. It is always scored with its whole group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, groupby

from prefdata.errors import ConservationError
from prefdata.flow.jobs import TaskJob
from prefdata.flow.results import check_scored, load_scored
from prefdata.flow.score_stage import score_report, write_scores
from prefdata.flow.stage_tables import ScoreTables
from prefdata.models.reuse import Form, read_record, reuse, said_by
from prefdata.records import Answers, Scored
from prefdata.scoring import GroupScorer
from prefdata.spec import JSON, Context, Shelf, fingerprint

__all__ = ["GroupPart", "GroupScoreJob", "count_kept"]


@dataclass(frozen=True)
class GroupPart:
    """The prompts of one group that are in one shard and have candidates; at least one."""

    group: int
    """The group's number."""
    answers: tuple[Answers, ...]

    @property
    def key(self) -> str:
        """Unique among all parts: prompts are in the order of their ids."""
        return _key([one.prompt.prompt_id for one in self.answers])


@dataclass(frozen=True, kw_only=True)
class GroupScoreJob(TaskJob[GroupPart, tuple[Scored, ...]]):
    """Lets a scorer score group by group. The methods are described in `TaskJob`."""

    scorer: GroupScorer
    shard_size: int
    """Prompts of a shard; the last shard may have fewer."""

    def tasks(self, shard: int) -> list[GroupPart]:
        """Lists the parts of groups that are in a shard, in order."""
        start = shard * self.shard_size
        ids = enumerate(self.tables.prompt_ids(shard), start)
        group = {prompt_id: position // self.scorer.group for position, prompt_id in ids}
        by_group = groupby(self.tables.scorer_tasks(shard), key=lambda one: group[one.prompt.prompt_id])
        return [GroupPart(number, tuple(answers)) for number, answers in by_group]

    def task_key(self, task: GroupPart) -> str:
        """Gives the ids of the part's first and last prompt."""
        return task.key

    def run(self, tasks: Iterable[GroupPart], context: Context) -> Iterator[tuple[Scored, ...]]:
        """Scores each part with its whole group; parts of one group that follow each other, once together.

        Raises:
            ConservationError: the scorer returned a group that is not one of those that it got.
        """
        waiting: dict[str, tuple[tuple[Answers, ...], tuple[GroupPart, ...]]] = {}

        def wholes() -> Iterator[tuple[Answers, ...]]:
            for number, following in groupby(tasks, key=lambda part: part.group):
                parts = tuple(following)
                whole = self._whole(number, parts)
                waiting[whole[0].prompt.prompt_id] = whole, parts
                yield whole

        for results in self._scored(wholes(), context):
            ids = [scored.prompt_id for scored in results]
            whole, parts = waiting.pop(ids[0] if ids else "", ((), ()))
            if not whole or ids != [one.prompt.prompt_id for one in whole]:
                raise ConservationError(f"scores: a group of prompts came back as {ids}")
            by_id = dict(zip(ids, results, strict=True))
            for part in parts:
                yield tuple(by_id[one.prompt.prompt_id] for one in part.answers)

    def _scored(self, groups: Iterable[tuple[Answers, ...]], context: Context) -> Iterator[tuple[Scored, ...]]:
        shelf, score = _shelf_of(self.scorer, context), self.scorer.score_groups
        if shelf is None:
            return score(groups, context)
        return reuse(groups, lambda rest: score(rest, context), shelf, _Groups(), context.counted)

    def _whole(self, number: int, parts: Sequence[GroupPart]) -> tuple[Answers, ...]:
        """Gives all prompts of a group that have candidates, of which some parts are given."""
        begins, ends = number * self.scorer.group, (number + 1) * self.scorer.group
        last = self.shards[-1] + 1
        shards = range(begins // self.shard_size, min((ends - 1) // self.shard_size + 1, last))
        if len(shards) == 1:
            return parts[0].answers
        every = [part for shard in shards for part in self.tasks(shard) if part.group == number]
        return tuple(one for part in every for one in part.answers)

    def result_key(self, result: tuple[Scored, ...]) -> str:
        """Gives the ids of the part's first and last prompt."""
        return _key([scored.prompt_id for scored in result])

    def dump(self, result: tuple[Scored, ...]) -> JSON:
        """Gives scores and comparisons of each prompt."""
        return {"scored": [asdict(scored) for scored in result]}

    def load(self, record: JSON) -> tuple[Scored, ...]:
        """Reads scores and comparisons of each prompt."""
        return tuple(map(load_scored, record["scored"]))

    def count(self, result: tuple[Scored, ...]) -> int:
        """Counts the prompts."""
        return len(result)

    def check(self, task: GroupPart, result: tuple[Scored, ...]) -> None:
        """Checks that each candidate of each prompt has one sound score."""
        for answers, scored in zip(task.answers, result, strict=True):
            check_scored(answers, scored)

    def write(self, shard: int, results: Sequence[tuple[Scored, ...]]) -> None:
        """Writes the comparisons, then the scores."""
        write_scores(self._scores, shard, list(chain.from_iterable(results)), self.tables.n_candidates(shard))

    def report(self) -> JSON:
        """Counts scored and unscored candidates."""
        return score_report(self._scores, self.shards)

    @property
    def _scores(self) -> ScoreTables:
        return ScoreTables(self.name, self.folder, bool(self.scorer.compares))


def count_kept(scorer: GroupScorer, read: Callable[[], Iterable[Answers]], context: Context) -> tuple[int, int] | None:
    """Counts prompts whose scores are in the store, and all prompts; None where nothing can be there.

    Args:
        scorer: of groups of one prompt; of others it depends on the whole build which prompts share a group.
        read: gives prompts with their answers.
        context: the scorer's.
    """
    shelf = _shelf_of(scorer, context)
    if shelf is None or scorer.group != 1 or not len(shelf):
        return None
    form, answers = _Groups(), list(read())
    names = [fingerprint(form.content((one,))) for one in answers]
    return sum(shelf.get(name) is not None for name in names), len(answers)


def _shelf_of(scorer: GroupScorer, context: Context) -> Shelf | None:
    # What code of the user's own depends on is not known.
    if context.store is None or scorer.is_own():
        return None
    return context.store.shelf(["scores", scorer.identity(), context.pins, context.seed])


_PASSING = frozenset({"template_failed"})
"""Reasons without a score that may be gone at the next try: a template has limits of time and memory."""


class _Groups(Form[tuple[Answers, ...], tuple[Scored, ...]]):
    """The scores of a group, which depend on all its prompts and answers: see `GroupScorer`."""

    def task_key(self, task: tuple[Answers, ...]) -> str:
        return task[0].prompt.prompt_id

    def result_key(self, result: tuple[Scored, ...]) -> str:
        return result[0].prompt_id if result else ""

    def content(self, task: tuple[Answers, ...]) -> JSON:
        return [
            # No scorer reads the reasoning that lies beside an answer.
            [
                one.prompt.prompt_id,
                one.prompt.messages,
                [said_by(replace(candidate, reasoning=None)) for candidate in one.candidates],
            ]
            for one in task
        ]

    def dump(self, result: tuple[Scored, ...]) -> JSON | None:
        failed = any(score.unscored in _PASSING for scored in result for score in scored.scores)
        return None if failed else [asdict(scored) for scored in result]

    def load(self, task: tuple[Answers, ...], text: str) -> tuple[Scored, ...] | None:
        found = read_record(tuple[Scored, ...], text)
        if found is None or [one.prompt_id for one in found] != [one.prompt.prompt_id for one in task]:
            return None
        try:
            for answers, scored in zip(task, found, strict=True):
                check_scored(answers, scored)
        except ConservationError:
            return None
        return found


def _key(prompt_ids: Sequence[str]) -> str:
    return f"{prompt_ids[0]} to {prompt_ids[-1]}"
