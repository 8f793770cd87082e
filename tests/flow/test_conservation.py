"""Parts that do wrong are found out at the boundary, before anything of it is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from replayed import recipe, tree

from prefdata.errors import ConservationError
from prefdata.flow.build import build
from prefdata.records import Score
from prefdata.sampling import ExistingCompletions, SampleResult
from prefdata.scoring import GivenScores


class Faulty:
    """A scorer or sampler that does wrong, then right."""

    def __init__(self, monkeypatch, part, method, wrong):
        real = getattr(part, method)
        self.right = False

        def called(this, tasks, context):
            results = real(this, tasks, context)
            return results if self.right else map(wrong, results)

        monkeypatch.setattr(part, method, called)


def with_scores(change):
    return lambda scored: replace(scored, scores=change(scored.scores))


def other(score: Score) -> Score:
    return replace(score, index=score.index + 90)


class TestConservation:
    @pytest.mark.parametrize(
        "wrong",
        [
            lambda scores: scores[:-1],
            lambda scores: (),
            lambda scores: (*scores, other(scores[0])),
            lambda scores: (*scores[:-1], other(scores[-1])),
            lambda scores: (*scores[:-1], scores[0]),
            lambda scores: (*scores[:-1], replace(scores[-1], score=float("nan"))),
            lambda scores: (*scores[:-1], replace(scores[-1], score=None, unscored=None)),
            lambda scores: (*scores[:-1], replace(scores[-1], prompt_id="elsewhere")),
        ],
        ids=["loses one", "loses all", "invents one", "renames one", "repeats one", "NaN", "no reason", "other prompt"],
    )
    def test_a_scorer_that_does_not_account_for_every_candidate_is_a_bug_and_nothing_of_it_stays(
        self, work, monkeypatch, wrong
    ):
        expected = tree(build(recipe(), "expected").folder)
        scorer = Faulty(monkeypatch, GivenScores, "score", with_scores(wrong))
        with pytest.raises(ConservationError, match="scores"):
            build(recipe(), "out")
        assert not (work / "out" / "dataset").exists()
        scorer.right = True
        build(recipe(), "out")
        assert tree(work / "out") == expected

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda drawn: SampleResult(drawn.key),
            lambda drawn: replace(
                drawn, candidates=tuple(replace(found, prompt_id="elsewhere") for found in drawn.candidates)
            ),
        ],
        ids=["neither answer nor drop", "answers another prompt"],
    )
    def test_a_sampler_that_does_not_account_for_every_task_is_a_bug_and_nothing_of_it_stays(
        self, work, monkeypatch, wrong
    ):
        expected = tree(build(recipe(), "expected").folder)
        sampler = Faulty(monkeypatch, ExistingCompletions, "sample", wrong)
        with pytest.raises(ConservationError, match="candidates"):
            build(recipe(), "out")
        assert not (work / "out" / "dataset").exists()
        sampler.right = True
        build(recipe(), "out")
        assert tree(work / "out") == expected

    def test_a_rule_that_loses_a_prompt_is_a_bug(self, work, monkeypatch):
        from prefdata.pairing import BestVsWorst

        real = BestVsWorst.pair
        monkeypatch.setattr(
            BestVsWorst, "pair", lambda self, *args: replace(real(self, *args), pairs=real(self, *args).pairs[1:])
        )
        with pytest.raises(ConservationError, match="pairs: 12 in, but 9 out and 2 drops"):
            build(recipe(), "out")

    def test_a_layout_that_loses_a_pair_is_a_bug_and_the_old_dataset_stays(self, work, monkeypatch):
        from prefdata.dataset import TRLPairs

        before = tree(build(recipe(), "out").dataset)
        real = TRLPairs.rows
        monkeypatch.setattr(TRLPairs, "rows", lambda self, *args: real(self, *args).slice(1))
        with pytest.raises(ConservationError, match="dataset: 10 pairs in, 9 rows out"):
            build(recipe(), "out")
        assert tree(work / "out" / "dataset") == before
