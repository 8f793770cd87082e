"""A stage of scores: every candidate of a build gets a score, or the reason why it has none.

A scorer is one stage. One that is made of others is a stage for each of them, and one that combines. Every stage of
scores has the scores in its shards and, where its scorer compares, the comparisons in a side table of each shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from prefdata.errors import ConservationError
from prefdata.flow.balance import balanced, count_reasons, count_rows
from prefdata.flow.jobs import ShardJob, TaskJob
from prefdata.flow.results import check_scored, load_scored
from prefdata.flow.rows import write_table
from prefdata.flow.stage_tables import COMPARED, ScoreTables
from prefdata.lazy import pa
from prefdata.records import Answers, Scored
from prefdata.scoring import CompositeScorer, Scorer
from prefdata.scoring.base import MemberScores
from prefdata.spec import JSON, Context
from prefdata.tables.schemas import CANDIDATE_KEY, COMPARISONS, SCORES

__all__ = ["CombineJob", "ScoreJob", "score_report", "write_scores"]


@dataclass(frozen=True, kw_only=True)
class ScoreJob(TaskJob[Answers, Scored]):
    """Lets a scorer score prompt by prompt. The methods are described in `TaskJob`."""

    scorer: Scorer

    def tasks(self, shard: int) -> Sequence[Answers]:
        """Lists the prompts that have candidates, with these."""
        return self.tables.scorer_tasks(shard)

    def task_key(self, task: Answers) -> str:
        """Gives the prompt's id."""
        return task.prompt.prompt_id

    def run(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Lets the scorer score."""
        return self.scorer.score(tasks, context)

    def result_key(self, result: Scored) -> str:
        """Gives the prompt's id."""
        return result.prompt_id

    def dump(self, result: Scored) -> JSON:
        """Gives scores and comparisons."""
        return asdict(result)

    def load(self, record: JSON) -> Scored:
        """Reads scores and comparisons."""
        return load_scored(record)

    def check(self, task: Answers, result: Scored) -> None:
        """Checks that each candidate has one sound score."""
        check_scored(task, result)

    def write(self, shard: int, results: Sequence[Scored]) -> None:
        """Writes the comparisons, then the scores."""
        write_scores(_tables_of(self), shard, results, self.tables.n_candidates(shard))

    def report(self) -> JSON:
        """Counts scored and unscored candidates."""
        return score_report(_tables_of(self), self.shards)


@dataclass(frozen=True, kw_only=True)
class CombineJob(ShardJob):
    """Makes the scores of a composite scorer of those of its members."""

    scorer: CompositeScorer
    members: Mapping[str, ScoreTables]
    """Finished tables of the members, by the members' names."""
    fitted: JSON = None
    """What `CompositeScorer.fit` found of all prompts; filled by `prepared`."""

    def prepared(self) -> Self:
        """Gives the job with what the scorer must know of all prompts before it can combine any."""
        return replace(self, fitted=self.scorer.fit(self._all_member_scores))

    def make(self, shard: int) -> None:
        """Combines the members' scores of a shard."""
        tasks = list(self._member_scores(shard))
        results = [self.scorer.combine(each, self.fitted) for each in tasks]
        for (answers, _), scored in zip(tasks, results, strict=True):
            check_scored(answers, scored)
        write_scores(_tables_of(self), shard, results, sum(len(answers.candidates) for answers, _ in tasks))

    def report(self) -> JSON:
        """Counts scored and unscored candidates, and adds what was fitted."""
        report = score_report(_tables_of(self), self.tables.shards)
        return report if self.fitted is None else {**report, "fitted": self.fitted}

    def _all_member_scores(self) -> Iterator[MemberScores]:
        for shard in self.tables.shards:
            yield from self._member_scores(shard)

    def _member_scores(self, shard: int) -> Iterator[MemberScores]:
        scored = {name: member.scored(shard) for name, member in self.members.items()}
        for answers in self.tables.scorer_tasks(shard):
            yield answers, {name: by_prompt[answers.prompt.prompt_id] for name, by_prompt in scored.items()}


def write_scores(tables: ScoreTables, shard: int, results: Sequence[Scored], expected: int) -> None:
    """Writes a shard of scores, after its comparisons.

    Args:
        tables: of the stage.
        shard: its number.
        results: one for each prompt that has candidates, in order.
        expected: number of candidates.

    Raises:
        ConservationError: there are more or fewer scores than candidates, or two of one candidate.
    """
    rows = [asdict(score) for scored in results for score in scored.scores]
    if len(rows) != expected:
        raise ConservationError(f"{tables.name}: {expected} candidates in, {len(rows)} scores out")
    if tables.compares:
        compared = pa.Table.from_pylist([asdict(one) for scored in results for one in scored.comparisons], COMPARISONS)
        compared = compared.sort_by([(name, "ascending") for name in COMPARISONS.names])
        write_table(tables.folder.side_table(COMPARED, shard), compared, COMPARISONS, [], tables.name)
    scores = pa.Table.from_pylist(rows, SCORES)
    write_table(tables.folder.shard(shard), scores, SCORES, CANDIDATE_KEY, tables.name)


def score_report(tables: ScoreTables, shards: Sequence[int]) -> dict[str, Any]:
    """Counts scored and unscored candidates, decided and undecided comparisons: the report of a stage of scores."""
    report = _counted(tables.name, [tables.folder.shard(shard) for shard in shards], "unscored")
    if tables.compares:
        files = [tables.folder.side_table(COMPARED, shard) for shard in shards]
        report[COMPARED] = _counted(COMPARED, files, "undecided")
    return report


def _counted(name: str, files: Sequence[Any], reason: str) -> dict[str, Any]:
    rows, reasons = count_rows(files), count_reasons(files, reason)
    return balanced(name, rows, rows - reasons.total(), reasons)


def _tables_of(job: ScoreJob | CombineJob) -> ScoreTables:
    return ScoreTables(job.name, job.folder, bool(job.scorer.compares))
