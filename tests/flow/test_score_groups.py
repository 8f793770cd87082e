"""Groups of prompts: each score is its group's, however prompts are cut into shards and wherever a run stopped."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.errors import ConservationError
from prefdata.flow.engines.local import carry_out
from prefdata.flow.score_groups import GroupScoreJob
from prefdata.flow.stage_tables import ScoreTables, StageTables
from prefdata.flow.store import StageFolder
from prefdata.records import Answers, Candidate, Prompt, Score, Scored, as_messages
from prefdata.scoring import GroupScorer
from prefdata.spec import Context, derive_seed

GROUP = 4


class StoppedError(Exception):
    """What a kill is to a process."""


class Together(GroupScorer):
    """Gives every candidate a number that tells which texts it was scored with, and in which order."""

    group: ClassVar[int] = GROUP
    kind: Literal["together"] = "together"
    stop_at: int = -1
    """Stops when this many groups are scored."""

    def score_groups(self, groups: Iterable[Sequence[Answers]], context: Context) -> Iterator[tuple[Scored, ...]]:
        for number, group in enumerate(groups):
            if number == self.stop_at:
                raise StoppedError
            context.counted("prompts", len(group))
            yield self.of(group)

    def of(self, group: Sequence[Answers]) -> tuple[Scored, ...]:
        texts = [candidate.response for answers in group for candidate in answers.candidates]
        return tuple(
            Scored(
                answers.prompt.prompt_id,
                tuple(
                    Score(one.prompt_id, one.source, one.index, float(derive_seed(one.response, *texts)))
                    for one in answers.candidates
                ),
            )
            for answers in group
        )


class Prompts(StageTables):
    """The prompts of a build, whose ids are `p000`, `p001`, ..., some of them without an answer."""

    def __init__(self, prompts: int, empty: frozenset[int], shard_size: int) -> None:
        ids = [f"p{number:03}" for number in range(prompts)]
        vars(self).update(ids=ids, empty=empty, shard_size=shard_size, shards=range(-(-prompts // shard_size)))

    @property
    def n_prompts(self) -> int:
        return len(self.ids)

    def prompt_ids(self, shard: int) -> list[str]:
        return self.ids[shard * self.shard_size :][: self.shard_size]

    def scorer_tasks(self, shard: int) -> list[Answers]:
        return self.answers_of(self.prompt_ids(shard))

    def n_candidates(self, shard: int) -> int:
        return sum(len(answers.candidates) for answers in self.scorer_tasks(shard))

    def answers_of(self, ids: Sequence[str]) -> list[Answers]:
        return [
            Answers(
                Prompt(name, as_messages(name)),
                tuple(Candidate(name, "policy", n, f"{name} {n}") for n in range(1 + int(name[1:]) % 3)),
            )
            for name in ids
            if int(name[1:]) not in self.empty
        ]


class Build:
    """The scoring stage of one build over a given number of prompts, some of them without an answer."""

    def __init__(self, folder: Path, prompts: int, empty: frozenset[int], shard_size: int) -> None:
        self.folder = StageFolder(folder)
        self.tables = Prompts(prompts, empty, shard_size)
        self.asked = 0

    def run(self, scorer: GroupScorer) -> None:
        def counted(_what: str, count: int) -> None:
            self.asked += count

        tables = self.tables
        job = GroupScoreJob(
            name="scores", folder=self.folder, seed=1, tables=tables, scorer=scorer, shard_size=tables.shard_size
        )
        self.asked = 0
        carry_out(job, job.context(counted=counted))
        scores = ScoreTables("scores", self.folder, compares=False)
        self.said = {key: scored for shard in tables.shards for key, scored in scores.scored(shard).items()}

    def expected(self) -> dict[str, Scored]:
        """Each group of the whole list scored by itself; those without answers keep their place and have no scores."""
        ids, answers_of = self.tables.ids, self.tables.answers_of
        groups = (answers_of(ids[start : start + GROUP]) for start in range(0, len(ids), GROUP))
        return {scored.prompt_id: scored for group in groups for scored in Together().of(group)}


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.integers(1, 23),
    shard_size=st.integers(1, 12),
    empty=st.frozensets(st.integers(0, 22), max_size=12),
    stops=st.lists(st.integers(0, 4), max_size=4),
)
def test_a_score_is_that_of_its_group_in_any_shards_and_after_any_stops(
    prompts: int, shard_size: int, empty: frozenset[int], stops: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Build(Path(folder), prompts, empty, shard_size)
        for stop in stops:
            try:
                stage.run(Together(stop_at=stop))
            except StoppedError:
                continue
        stage.run(Together())
        assert stage.said == stage.expected()


@pytest.mark.parametrize("shard_size", [1, 3, 4, 6, 8, 100])
def test_every_group_is_scored_once_however_shards_cut_it(tmp_path: Path, shard_size: int) -> None:
    stage = Build(tmp_path, 19, frozenset({0, 5, 8, 9, 10, 11}), shard_size)
    stage.run(Together())
    assert stage.asked == 13
    stage.run(Together())
    assert stage.asked == 0


def test_only_groups_that_were_not_finished_are_scored_again(tmp_path: Path) -> None:
    stage = Build(tmp_path, 16, frozenset(), 8)
    with pytest.raises(StoppedError):
        stage.run(Together(stop_at=3))
    assert stage.asked == 3 * GROUP
    stage.run(Together())
    assert stage.asked == GROUP
    assert stage.said == stage.expected()


def test_a_group_of_which_one_shard_is_written_is_scored_whole_for_the_other(tmp_path: Path) -> None:
    stage = Build(tmp_path, 8, frozenset(), 6)
    stage.run(Together())
    stage.folder.shard(1).unlink()
    (stage.folder.path / "stage.json").unlink()
    before = stage.folder.shard(0).stat().st_ino
    stage.run(Together())
    assert stage.asked == GROUP
    assert stage.said == stage.expected()
    assert stage.folder.shard(0).stat().st_ino == before


def test_a_journal_of_other_groups_is_of_no_use(tmp_path: Path) -> None:
    class Smaller(Together):
        group: ClassVar[int] = 3

    stage = Build(tmp_path, 12, frozenset(), 12)
    with pytest.raises(StoppedError):
        stage.run(Smaller(stop_at=2))
    stage.run(Together())
    assert stage.asked == 12
    assert stage.said == stage.expected()


def test_progress_counts_prompts_and_not_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Build(tmp_path, 12, frozenset(), 12)
    with pytest.raises(StoppedError):
        stage.run(Together(stop_at=1))
    stage.run(Together())
    assert "12/12" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["others", "fewer", "none", "turned"])
def test_a_group_that_comes_back_as_another_is_a_conservation_error(tmp_path: Path, wrong: str) -> None:
    class Wrong(Together):
        def of(self, group: Sequence[Answers]) -> tuple[Scored, ...]:
            right = super().of(group)
            given: dict[str, Any] = {
                "others": (*right[:-1], Scored("p999", right[-1].scores)),
                "fewer": right[:-1],
                "none": (),
                "turned": right[::-1],
            }
            return tuple(given[wrong])

    with pytest.raises(ConservationError, match="a group of prompts came back as"):
        Build(tmp_path, 12, frozenset(), 12).run(Wrong())


def test_outside_a_build_prompts_are_grouped_as_they_come() -> None:
    build = Build(Path(), 10, frozenset(), 100)
    answers = build.tables.answers_of(build.tables.ids)
    assert {one.prompt_id: one for one in Together().score(iter(answers), Context(seed=1))} == build.expected()
    assert list(Together().score([], Context(seed=1))) == []


def test_no_scorer_that_pays_for_requests_is_asked_by_groups() -> None:
    import prefdata.scoring as room

    grouped = {
        name for name in room.__all__ if isinstance(kind := getattr(room, name), type) and issubclass(kind, GroupScorer)
    }
    assert grouped == {"GroupScorer", "RewardModel", "ArmoRM", "PairRM", "GPM"}
