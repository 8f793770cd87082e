"""The scores of a build: a scorer is one stage; one that is made of others is a stage for each, and one that combines.

Every stage of scores has the scores in its shards and, where its scorer compares, the comparisons beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from prefdata.errors import ConservationError
from prefdata.flow.disk import write_atomically
from prefdata.flow.engines.local import Work, run_stage
from prefdata.flow.progress import Progress
from prefdata.flow.rows import balanced, check_scored, scored_of
from prefdata.flow.score_groups import Groups, Piece, check_piece, dump_piece, key_of_scores, load_piece
from prefdata.flow.store import StageFolder
from prefdata.lazy import pa
from prefdata.records import Answers, Comparison, Score, Scored
from prefdata.scoring import CompositeScorer, GroupScorer, Scorer
from prefdata.scoring.base import MemberScores
from prefdata.spec import JSON, Context
from prefdata.tables.schemas import CANDIDATE_KEY, COMPARISONS, SCORES, checked, column, read_parquet, write_parquet

__all__ = ["ScoreStage"]

_COMPARED = "comparisons"


@dataclass(frozen=True)
class ScoreStage:
    """One stage of scores."""

    name: str
    scorer: Scorer
    folder: StageFolder
    context: Context
    shards: range
    shard_size: int
    """Prompts of a shard; the last one may have fewer."""
    prompt_ids: Callable[[int], Sequence[str]]
    """The ids of a shard's prompts, sorted."""
    answers: Callable[[int], Sequence[Answers]]
    """The prompts of a shard that have candidates, with these."""
    members: Mapping[str, ScoreStage]
    """Those of a composite scorer's members, by the members' names; finished before this one runs."""

    def run(self, prompts: int) -> None:
        """Scores every candidate that is not scored yet.

        Args:
            prompts: number of all prompts, for the progress.

        Raises:
            ConservationError: a candidate came back without a score or with two.
        """
        self.folder.create()
        if isinstance(self.scorer, CompositeScorer):
            fitted = self._combine_all(self.scorer)
        else:
            fitted = None
            self._ask(self.scorer, prompts)
        self.folder.finish(self._report(fitted))

    def _ask(self, scorer: Scorer, prompts: int) -> None:
        with Progress.of(self.name, prompts, "prompts") as progress:
            if isinstance(scorer, GroupScorer):
                run_stage(self._by_group(scorer), self.folder, self.shards, progress)
            else:
                run_stage(self._by_prompt(scorer), self.folder, self.shards, progress)

    def _by_prompt(self, scorer: Scorer) -> Work[Answers, Scored]:
        return Work(
            tasks=self.answers,
            key_of_task=lambda answers: answers.prompt.prompt_id,
            run=lambda tasks: scorer.score(tasks, self.context),
            key_of_result=lambda scored: scored.prompt_id,
            dump=asdict,
            load=scored_of,
            write=self._write,
            check=check_scored,
        )

    def _by_group(self, scorer: GroupScorer) -> Work[Piece, tuple[Scored, ...]]:
        groups = Groups(scorer.group, self.shard_size, self.shards, self.prompt_ids, self.answers)
        return Work(
            tasks=groups.pieces,
            key_of_task=lambda piece: piece.key,
            run=lambda pieces: groups.score(scorer, pieces, self.context),
            key_of_result=key_of_scores,
            dump=dump_piece,
            load=load_piece,
            write=lambda shard, results: self._write(shard, list(chain.from_iterable(results))),
            count=len,
            check=check_piece,
        )

    def _combine_all(self, scorer: CompositeScorer) -> JSON:
        fitted = scorer.fit(self._all_given)
        for shard in self.shards:
            if not self.folder.shard(shard).exists():
                given = list(self._given(shard))
                results = [scorer.combine(each, fitted) for each in given]
                for (answers, _), scored in zip(given, results, strict=True):
                    check_scored(answers, scored)
                self._write(shard, results)
        return fitted

    def said(self, shard: int) -> dict[str, Scored]:
        """What the finished stage says of a shard's prompts, by prompt id."""
        scores: dict[str, list[Score]] = {}
        for row in read_parquet(self.folder.shard(shard)).to_pylist():
            scores.setdefault(row["prompt_id"], []).append(Score(**row))
        compared: dict[str, list[Comparison]] = {}
        for row in self.comparisons(shard).to_pylist():
            compared.setdefault(row["prompt_id"], []).append(Comparison(**row))
        return {key: Scored(key, tuple(rows), tuple(compared.get(key, ()))) for key, rows in scores.items()}

    def comparisons(self, shard: int) -> pa.Table:
        """The comparisons of a shard, schema `prefdata.tables.schemas.COMPARISONS`, in total order."""
        if not self.scorer.compares:
            return COMPARISONS.empty_table()
        return read_parquet(self.folder.side_table(_COMPARED, shard))

    def _all_given(self) -> Iterator[MemberScores]:
        for shard in self.shards:
            yield from self._given(shard)

    def _given(self, shard: int) -> Iterator[MemberScores]:
        said = {name: member.said(shard) for name, member in self.members.items()}
        for answers in self.answers(shard):
            yield answers, {name: found[answers.prompt.prompt_id] for name, found in said.items()}

    def _write(self, shard: int, results: Sequence[Scored]) -> None:
        rows = [asdict(score) for scored in results for score in scored.scores]
        table = checked(pa.Table.from_pylist(rows, SCORES), SCORES, CANDIDATE_KEY, self.name)
        asked = sum(len(answers.candidates) for answers in self.answers(shard))
        if table.num_rows != asked:
            raise ConservationError(f"{self.name}: {asked} candidates in, {table.num_rows} scores out")
        if self.scorer.compares:
            compared = pa.Table.from_pylist(
                [asdict(one) for scored in results for one in scored.comparisons], COMPARISONS
            )
            order = [(name, "ascending") for name in COMPARISONS.names]
            compared = checked(compared.sort_by(order), COMPARISONS, [], self.name)
            write_atomically(self.folder.side_table(_COMPARED, shard), lambda path: write_parquet(path, compared))
        write_atomically(self.folder.shard(shard), lambda path: write_parquet(path, table))

    def _report(self, fitted: JSON) -> dict[str, Any]:
        unscored, undecided = Counter[str](), Counter[str]()
        asked = compared = 0
        for shard in self.shards:
            reasons = column(read_parquet(self.folder.shard(shard), ["unscored"]), "unscored")
            asked += len(reasons)
            unscored.update(filter(None, reasons))
            verdicts = column(self.comparisons(shard), "undecided")
            compared += len(verdicts)
            undecided.update(filter(None, verdicts))
        report = balanced(self.name, asked, asked - unscored.total(), unscored)
        if self.scorer.compares:
            report[_COMPARED] = balanced(_COMPARED, compared, compared - undecided.total(), undecided)
        return report if fitted is None else {**report, "fitted": fitted}
