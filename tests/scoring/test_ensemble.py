"""`Ensemble`: four ways to combine, members that left something unscored, comparisons, and agreement."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scripted import task

from prefdata.errors import ConservationError
from prefdata.models import ChatEndpoint
from prefdata.records import Answers, Candidate, Comparison, Score, Scored
from prefdata.scoring import AdditiveJudge, AnyScorer, Ensemble, GivenScores, LengthDebiased, Scorer, kendall_tau_b
from prefdata.spec import JSON, Context

Value = float | str | None
"""A score, or why there is none."""


def _score(candidate: Candidate, value: float | str) -> Score:
    name = (candidate.prompt_id, candidate.source, candidate.index)
    return Score(*name, None, value) if isinstance(value, str) else Score(*name, value)


class Fixed(Scorer):
    """Gives the scores that it holds, in the order of prompts and candidates; a text is a reason for being unscored."""

    kind: Literal["fixed"] = "fixed"
    table: tuple[tuple[float | str, ...], ...]

    def pins(self) -> dict[str, JSON]:
        return {"table": self.fingerprint()}

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        assert context.pins == self.pins()
        made = [
            Scored(answers.prompt.prompt_id, tuple(map(_score, answers.candidates, row)))
            for answers, row in zip(tasks, self.table, strict=True)
        ]
        yield from reversed(made)


class Comparing(Fixed):
    """Also compares, the first answer with each other one, the other way round; a text leaves it undecided."""

    kind: Literal["comparing"] = "comparing"  # type: ignore[assignment]  # another kind than its base
    chances: tuple[float | str, ...]

    @property
    def compares(self) -> Literal["probability"]:
        return "probability"

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        for found in super().score(tasks, context):
            first, *others = found.scores
            comparisons = tuple(
                Comparison(
                    found.prompt_id, other.source, other.index, first.source, first.index,
                    None if isinstance(p, str) else p, undecided=p if isinstance(p, str) else None,
                )
                for other, p in zip(others, self.chances, strict=True)
            )  # fmt: skip
            yield Scored(found.prompt_id, found.scores, comparisons)


class Panel(Ensemble):
    scorers: tuple[Fixed | Comparing, ...]  # type: ignore[assignment]  # members that tests can script


def panel(*tables: Sequence[Sequence[Value]], **options: Any) -> tuple[list[list[Value]], list[Scored]]:
    """Scores or reasons of each prompt, and what was said in full."""
    return said(Panel(scorers=tuple(Fixed(table=tuple(map(tuple, table))) for table in tables), **options))


def said(ensemble: Panel) -> tuple[list[list[Value]], list[Scored]]:
    tasks = [task(number, *range(len(row))) for number, row in enumerate(ensemble.scorers[0].table)]
    found = list(ensemble.score(tasks, Context(seed=1, pins=ensemble.pins())))
    assert [one.prompt_id for one in found] == [answers.prompt.prompt_id for answers in tasks]
    assert [[(s.source, s.index) for s in one.scores] for one in found] == [
        [(c.source, c.index) for c in answers.candidates] for answers in tasks
    ]
    return [[s.unscored or s.score for s in one.scores] for one in found], found


def fitted(*tables: Sequence[Sequence[Value]]) -> JSON:
    ensemble = Panel(scorers=tuple(Fixed(table=tuple(map(tuple, table))) for table in tables))
    tasks = [task(number, *range(len(row))) for number, row in enumerate(tables[0])]
    given: list[Any] = [(answers, {}) for answers in tasks]
    for name, member in ensemble.members().items():
        for scored in member.score(tasks, Context(seed=1, pins=member.pins())):
            next(members for answers, members in given if answers.prompt.prompt_id == scored.prompt_id)[name] = scored
    fit = ensemble.fit(lambda: given)
    assert json.loads(json.dumps(fit, allow_nan=False)) == fit
    return fit


def test_the_mean_is_of_the_scores_as_they_are() -> None:
    found, _ = panel([[1, 5], [2, 2]], [[3, 4], [0, 9]], combine_by="mean")
    assert found == [[2.0, 4.5], [1.0, 5.5]]


def z(table: Sequence[Sequence[float]]) -> list[list[float]]:
    flat = [value for row in table for value in row]
    return [[(value - statistics.fmean(flat)) / statistics.pstdev(flat) for value in row] for row in table]


A, B = [[1.0, 5.0, 6.0], [2.0, 2.0, 0.0]], [[-300.0, 400.0, 90.0], [0.0, 900.0, 1.0]]


def test_the_mean_and_the_minimum_of_z_scores_are_over_the_whole_dataset() -> None:
    found, _ = panel(A, B)
    assert found == [
        pytest.approx([(x + y) / 2 for x, y in zip(a, b, strict=True)]) for a, b in zip(z(A), z(B), strict=True)
    ]
    strict, _ = panel(A, B, combine_by="minimum")
    assert strict == [pytest.approx([*map(min, a, b)]) for a, b in zip(z(A), z(B), strict=True)]


def test_z_scores_make_members_of_any_scale_count_the_same() -> None:
    stretched = [[7 + 1000 * value for value in row] for row in A]
    assert panel(A, B)[0] == [pytest.approx(row) for row in panel(stretched, B)[0]]


def test_a_member_that_gives_everything_one_score_adds_nothing_and_the_facts_say_so() -> None:
    same = [[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]]
    found, _ = panel(A, same)
    assert found == [pytest.approx([value / 2 for value in row]) for row in z(A)]
    members = fitted(A, same)["members"]
    assert members["scorers.1"] == {"scored": 6, "mean": 0.1, "sd": 0.0, "constant": True}
    assert members["scorers.0"]["constant"] is False


def test_the_majority_counts_whom_each_member_thinks_best_and_ties_share() -> None:
    found, _ = panel([[1, 2, 3]], [[9, 9, 0]], [[0, 0, 0]], [[5, 1, 1]], combine_by="majority")
    assert found == [pytest.approx([(0.5 + 1 / 3 + 1) / 4, (0.5 + 1 / 3) / 4, (1 + 1 / 3) / 4])]


def test_what_one_member_left_unscored_is_unscored_and_says_by_whom_and_why() -> None:
    found, full = panel([[1, "unparsed", 3]], [["cut_off", "refused", 6]], combine_by="mean")
    assert found == [["member_unscored", "member_unscored", 4.5]]
    assert [score.detail for score in full[0].scores] == [
        "scorers.1: cut_off",
        "scorers.0: unparsed, scorers.1: refused",
        "",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"combine_by": "mean", "at_least": 1}, [1.0, "member_unscored", 4.5]),
        ({"combine_by": "mean", "at_least": 2}, ["member_unscored", "member_unscored", 4.5]),
        # The second member saw only the last of those that are in the running.
        ({"combine_by": "majority", "at_least": 1}, [0.0, "member_unscored", 1.0]),
        # z of 1 and 3 of the first member, 0 of the second one's only score.
        ({"combine_by": "z_mean", "at_least": 1}, [-1.0, "member_unscored", 0.5]),
        ({"combine_by": "minimum", "at_least": 1}, [-1.0, "member_unscored", 0.0]),
    ],
)
def test_the_others_may_do_where_so_many_have_scored(options: dict[str, Any], expected: list[Value]) -> None:
    assert panel([[1, "unparsed", 3]], [["cut_off", "refused", 6]], **options)[0] == [expected]


def test_a_candidate_out_of_the_running_takes_no_vote() -> None:
    found, _ = panel([[9, 1, 0]], [["unparsed", 0, 1]], combine_by="majority")
    assert found == [["member_unscored", 0.5, 0.5]]


def test_members_that_scored_nothing_leave_everything_unscored() -> None:
    for how in ("mean", "z_mean", "minimum", "majority"):
        found, _ = panel([["a", "b"]], [["c", "d"]], combine_by=how)
        assert found == [["member_unscored"] * 2]
        half, _ = panel([["a", "b"]], [[1, 2]], combine_by=how, at_least=1)
        assert all(isinstance(value, float) for value in half[0])


def pairs(found: Scored) -> list[tuple[int, int, Value]]:
    return [(c.index_a, c.index_b, c.undecided or c.probability) for c in found.comparisons]


def test_a_panel_gives_soft_labels_by_the_share_of_its_members() -> None:
    _, [found] = panel([[1, 2, 2]], [[5, 1, 0]], [[0, 3, 3]], [[1, 1, 9]])
    assert pairs(found) == [(0, 1, 0.375), (0, 2, 0.25), (1, 2, 0.5)]


def test_a_member_that_compares_says_its_own_probability() -> None:
    members = (Fixed(table=((1, 2, 3),)), Comparing(table=((0.9, 0.5, 0.1),), chances=(0.25, 0.6)))
    _, [found] = said(Panel(scorers=members, at_least=1))
    # It says P(1 beats 0) = 0.25 and P(2 beats 0) = 0.6, and nothing of 1 and 2.
    assert pairs(found) == [(0, 1, 0.375), (0, 2, 0.2), (1, 2, 0.0)]


def test_a_member_that_compares_twice_counts_once_with_its_mean() -> None:
    class Twice(Comparing):
        def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
            for found in super().score(tasks, context):
                [c] = found.comparisons
                turned = replace(c, source_a=c.source_b, index_a=c.index_b, source_b=c.source_a, index_b=c.index_a)
                more = (replace(turned, probability=0.9), replace(c, probability=None, undecided="unparsed"))
                yield replace(found, comparisons=(*found.comparisons, *more))

    class Of(Panel):
        scorers: tuple[Fixed | Twice, ...]

    members = (Fixed(table=((1, 2),)), Twice(table=((1, 0),), chances=(0.3,)))
    _, [found] = said(Of(scorers=members))
    # P(0 beats 1) is 0 by the scores, and (0.7 + 0.9) / 2 by the comparisons.
    assert pairs(found) == [(0, 1, 0.4)]


def test_too_few_members_that_compare_two_leave_them_undecided_and_say_why() -> None:
    members = (Fixed(table=((1, 2, "unparsed"),)), Comparing(table=((0.9, 0.5, 0.1),), chances=("disagreement", 1.0)))
    _, [found] = said(Panel(scorers=members))
    assert pairs(found) == [(0, 1, "member_undecided"), (0, 2, "member_undecided"), (1, 2, "member_undecided")]
    assert [c.detail for c in found.comparisons] == [
        "scorers.1: disagreement",
        "scorers.0: unparsed",
        "scorers.0: unparsed, scorers.1: not_compared",
    ]
    _, [others] = said(Panel(scorers=members, at_least=1))
    assert pairs(others) == [(0, 1, 0.0), (0, 2, 0.0), (1, 2, "member_undecided")]


def test_agreement_is_told_for_members_of_one_scale_and_of_any() -> None:
    fit = fitted([[1, 2, 3], [3, 2, 1]], [[10, 20, 30], [30, 10, 20]])
    agreement = fit["agreement"]
    assert agreement["candidates"] == 6
    taus = [kendall_tau_b([1, 2, 3], [10, 20, 30]), kendall_tau_b([3, 2, 1], [30, 10, 20])]
    assert agreement["kendall_tau_b"] == {
        "scorers.0 scorers.1": {"mean": round(statistics.fmean(taus), 6), "prompts": 2}
    }
    assert agreement["alpha_interval"] < 0.1 < 0.7 < agreement["alpha_interval_z"] < 1
    assert fitted(A, A)["agreement"]["alpha_interval"] == fitted(A, A)["agreement"]["alpha_ordinal"] == 1
    assert fit["members"]["scorers.0"] == {
        "scored": 6, "mean": pytest.approx(2.0), "sd": pytest.approx(math.sqrt(2 / 3)), "constant": False,
    }  # fmt: skip


def test_agreement_leaves_out_what_is_unscored_and_is_null_where_it_is_not_defined() -> None:
    fit = fitted([[1, "x", 3]], [[2, 2, "y"]], [["x", "x", "x"]])
    assert fit["agreement"]["candidates"] == 1
    assert fit["members"]["scorers.2"] == {"scored": 0, "mean": None, "sd": None, "constant": False}
    names = ["scorers.0 scorers.1", "scorers.0 scorers.2", "scorers.1 scorers.2"]
    assert fit["agreement"]["kendall_tau_b"] == {name: {"mean": None, "prompts": 0} for name in names}
    assert fitted([["x"]], [["y"]])["agreement"]["alpha_ordinal"] is None
    assert Panel(scorers=(Fixed(table=()), Fixed(table=()))).fit(list)["agreement"]["candidates"] == 0


def test_huge_scores_overflow_into_no_number_without_a_reason() -> None:
    huge = [[1e308, -1.7e308, 1.7e308]]
    json.dumps(fitted(huge, huge), allow_nan=False)
    for how in ("mean", "z_mean", "minimum", "majority"):
        found, _ = panel(huge, huge, combine_by=how)
        assert all(value == "not_finite" or math.isfinite(value) for value in found[0])  # type: ignore[arg-type]


SCORES = st.one_of(st.integers(-3, 3).map(float), st.just("unparsed"))
TABLES = st.integers(1, 4).flatmap(lambda k: st.lists(st.lists(SCORES, min_size=k, max_size=k), min_size=2, max_size=4))


@settings(max_examples=80, deadline=None)
@given(rows=TABLES, how=st.sampled_from(["mean", "z_mean", "minimum", "majority"]), data=st.data())
def test_every_candidate_ends_as_a_finite_score_or_a_reason(rows: list[list[Value]], how: str, data: Any) -> None:
    at_least = data.draw(st.sampled_from([None, *range(1, len(rows) + 1)]))
    found, [full] = panel(*([row] for row in rows), combine_by=how, at_least=at_least)
    for place, value in enumerate(found[0]):
        scored = sum(not isinstance(row[place], str) for row in rows)
        assert isinstance(value, float) == (scored >= (at_least or len(rows)))
    if how == "majority" and any(isinstance(value, float) for value in found[0]):
        assert sum(value for value in found[0] if isinstance(value, float)) == pytest.approx(1)
    assert len(full.comparisons) == len(rows[0]) * (len(rows[0]) - 1) // 2
    assert all((c.probability is None) == (c.undecided is not None) for c in full.comparisons)


def test_prompts_without_candidates_and_none_at_all_go_through() -> None:
    ensemble = Panel(scorers=(Fixed(table=((1.0,),)), Fixed(table=((2.0,),))), combine_by="mean")
    context = Context(seed=1, pins=ensemble.pins())
    found = list(ensemble.score([task(0), task(1, 5)], context))
    assert [[s.score for s in one.scores] for one in found] == [[], [1.5]]
    empty = Panel(scorers=(Fixed(table=()), Fixed(table=())))
    assert list(empty.score([], Context(seed=1, pins=empty.pins()))) == []


def test_a_member_that_loses_a_prompt_is_found_out() -> None:
    class Losing(Fixed):
        def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
            yield from list(super().score(tasks, context))[1:]

    class Leaky(Panel):
        scorers: tuple[Fixed | Losing, ...]

    ensemble = Leaky(scorers=(Losing(table=((1.0,), (2.0,))), Fixed(table=((1.0,), (2.0,)))))
    with pytest.raises(ConservationError, match="left out 1"):
        list(ensemble.score([task(0, 1), task(1, 1)], Context(seed=1, pins=ensemble.pins())))


def test_an_ensemble_is_data_its_members_too_at_any_depth() -> None:
    judge = AdditiveJudge(generator=ChatEndpoint(model="m"))
    inner = Ensemble(scorers=(judge, LengthDebiased(scorer=GivenScores())), combine_by="minimum")
    outer = Ensemble(scorers=(inner, GivenScores()), at_least=1)
    assert TypeAdapter(AnyScorer).validate_python(json.loads(json.dumps(outer.dump()))) == outer
    assert list(outer.members()) == ["scorers.0", "scorers.1"]
    assert list(outer.pins()) == ["scorers.0"]
    assert outer.compares == "probability"
    faster = judge.replace(generator=ChatEndpoint(model="m", concurrency=99))
    again = outer.replace(scorers=(inner.replace(scorers=(faster, inner.scorers[1])), GivenScores()))
    assert again.fingerprint() == outer.fingerprint() != inner.fingerprint()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"scorers": (GivenScores(),)}, "at least 2"),
        ({"scorers": (GivenScores(), GivenScores()), "at_least": 3}, "leaves every candidate unscored"),
        ({"scorers": (GivenScores(), GivenScores()), "at_least": 0}, "greater than"),
        ({"scorers": (GivenScores(), {"kind": "unknown"})}, "unknown"),
    ],
)
def test_options_that_make_no_ensemble_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Ensemble(**options)
