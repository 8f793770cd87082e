"""Limits of an audit: accepted values, messages, and a corrected recipe that continues."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from prefdata.dataset.audit import Audit, Limit
from prefdata.errors import AuditError, UserError
from prefdata.flow.build import build
from prefdata.inspection import render
from prefdata.inspection.summary import inspect
from prefdata.recipe import Recipe

# Three prompts; the chosen answer is longer in two of them, as long in the third.
ANSWERS = [
    ("p0", "long answer", 2),
    ("p0", "short", 1),
    ("p1", "longer", 3),
    ("p1", "no", 1),
    ("p2", "yes", 2),
    ("p2", "nah", 1),
]


@pytest.fixture
def work(tmp_path, monkeypatch):
    rows = [{"id": name, "prompt": f"Question {name}?"} for name in ("p0", "p1", "p2")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [{"id": name, "response": text, "score": score} for name, text, score in ANSWERS]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(*limits: dict) -> Recipe:
    sampler = {"kind": "existing", "name": "replayed", "path": "answers.jsonl", "prompt_id_column": "id"}
    return Recipe.model_validate(
        {
            "name": "audited",
            "prompts": {"kind": "file", "path": "prompts.jsonl", "prompt_id_column": "id"},
            "candidates": [{**sampler, "score_column": "score"}],
            "scores": {"kind": "given"},
            "pairs": {"kind": "best_vs_worst"},
            "audit": {"limits": limits},
        }
    )


def audit_of(built) -> dict:
    return json.loads((built.dataset / "audit.json").read_text())


@pytest.mark.parametrize(
    ("given", "value", "holds"),
    [
        ({"at_most": 0.7}, 0.7, True),
        ({"at_most": 0.7}, 0.7001, False),
        ({"at_least": 0.2}, 0.2, True),
        ({"at_least": 0.2}, 0.1999, False),
        ({"at_least": -0.1, "at_most": 0.1}, 0.0, True),
        ({"at_least": -0.1, "at_most": 0.1}, -0.2, False),
        ({"at_most": 0.0}, None, True),
    ],
)
def test_both_bounds_belong_to_what_is_in_order(given, value, holds):
    assert Limit(measure="chosen_longer", **given).holds(value) is holds


@pytest.mark.parametrize(
    "given",
    [
        {"measure": "chosen_longer"},
        {"measure": "chosen_longer", "at_least": 0.5, "at_most": 0.4},
        {"measure": "chosen_shorter", "at_most": 1},
        {"measure": "chosen_longer", "at_most": float("nan")},
        {"measure": "chosen_longer", "at_most": 1, "then": "explode"},
    ],
)
def test_a_limit_that_bounds_nothing_is_refused(given):
    with pytest.raises(ValidationError):
        Limit(**given)


def test_every_measure_that_can_be_limited_is_measured(work):
    from typing import get_args

    from prefdata.dataset.audit import Measure

    # The one that is left out where it is 0 is in `test_no_pairs.py`.
    assert {*get_args(Measure)} - {*audit_of(build(recipe(), "out"))["measures"]} == {
        "reasoning_on_one_side",
        "white_space_only",
    }


def test_a_build_without_limits_has_its_numbers(work):
    audit = audit_of(build(recipe(), "out"))
    assert audit["measures"]["chosen_longer"] == 0.6667
    assert audit["measures"]["length_difference"] == 3.3333
    assert audit["counts"]["pairs"] == 3
    assert audit["limits"] == []


def test_a_warning_is_said_and_stands_on_the_card_and_the_page(work, capsys):
    built = build(recipe({"measure": "chosen_longer", "at_most": 0.5}), "out")
    assert "audit: chosen_longer is 0.6667, the recipe's limit is at most 0.5\n" in capsys.readouterr().err
    outcome = audit_of(built)["limits"]
    assert outcome == [
        {"measure": "chosen_longer", "at_most": 0.5, "at_least": None, "then": "warn", "value": 0.6667, "holds": False}
    ]
    card = (built.dataset / "README.md").read_text()
    assert "| chosen_longer | 0.6667 |" in card
    assert "**Over the limit of its recipe:** chosen_longer should be at most 0.5." in card
    assert "Chosen is longer 66.7 % (the recipe's limit: at most 50.0 %)" in render(inspect(built.dataset))


def test_a_limit_that_holds_says_nothing(work, capsys):
    built = build(recipe({"measure": "chosen_longer", "at_most": 0.7, "then": "fail"}), "out")
    assert "audit" not in capsys.readouterr().err
    assert "Over the limit" not in (built.dataset / "README.md").read_text()
    assert audit_of(built)["limits"][0]["holds"] is True


def test_a_failed_limit_stops_the_build_and_a_mended_one_goes_on_from_there(work):
    strict = recipe(
        {"measure": "chosen_longer", "at_most": 0.5, "then": "fail"},
        {"measure": "length_difference", "at_most": 2, "at_least": -2, "then": "fail"},
    )
    with pytest.raises(AuditError) as stopped:
        build(strict, "out")
    assert isinstance(stopped.value, UserError)
    assert "chosen_longer is 0.6667, the recipe's limit is at most 0.5" in str(stopped.value)
    assert "length_difference is 3.3333, the recipe's limit is at least -2 and at most 2" in str(stopped.value)
    assert not (work / "out" / "dataset").exists()

    def stages():
        return {path: path.stat().st_mtime_ns for path in sorted((work / "out" / "stages").rglob("*"))}

    before = stages()
    assert before
    built = build(recipe({"measure": "chosen_longer", "at_most": 0.9, "then": "fail"}), "out")
    assert stages() == before
    assert audit_of(built)["limits"][0]["holds"] is True


def test_a_failed_limit_leaves_the_dataset_that_was_there(work):
    built = build(recipe(), "out")
    before = {path: path.read_bytes() for path in built.dataset.rglob("*") if path.is_file()}
    with pytest.raises(AuditError):
        build(recipe({"measure": "all_tied", "at_least": 0.5, "then": "fail"}), "out")
    assert {path: path.read_bytes() for path in built.dataset.rglob("*") if path.is_file()} == before


def test_limits_go_through_json_and_profiles(work):
    limited = recipe({"measure": "tied_chosen", "at_most": 0.3, "then": "fail"})
    assert Recipe.model_validate(json.loads(json.dumps(limited.dump()))) == limited
    profiled = Recipe.model_validate({**limited.dump(), "profiles": {"loose": {"audit": {"limits": []}}}})
    assert profiled.with_profile("loose").audit == Audit()
    assert profiled.with_profile(None).audit == limited.audit


def test_the_pairs_of_a_backfill_are_pairs_and_its_answers_are_no_answers(work):
    answers = [{"id": "p0", "response": text, "score": score} for text, score in (("abc", 2), ("ab", 1))]
    answers += [{"id": "p1", "response": text, "score": 1} for text in ("a", "b")]
    (work / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    published = {"id": "p1", "chosen": "published", "rejected": "worse", "score_chosen": 9.0, "score_rejected": 1.0}
    (work / "published.jsonl").write_text(json.dumps(published) + "\n")
    backfill = {"kind": "published_pairs", "name": "elsewhere", "path": "published.jsonl", "prompt_id_column": "id"}
    built = build(Recipe.model_validate({**recipe().dump(), "backfill": backfill}), "out")
    audit = audit_of(built)
    assert (built.ledger["pairs"], audit["counts"]["pairs"], audit["counts"]["answers"]) == (2, 2, 4)
    assert audit["measures"]["length_difference"] == (1 + 4) / 2
    assert audit["sources"]["elsewhere"] == {"candidates": 0.0, "chosen": 0.5, "rejected": 0.5}


def test_the_table_command_audits_as_well(work, prefdata):
    rows = [{"prompt_id": name, "response": text, "score": score} for name, text, score in ANSWERS]
    (work / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert prefdata("pair", "table.jsonl", "--rule", "best_vs_worst", "--out", "pairs").code == 0
    paired = json.loads((work / "pairs" / "audit.json").read_text())
    built = audit_of(build(recipe(), "out"))
    assert {name: value for name, value in paired["measures"].items() if "index" not in name} == {
        name: value for name, value in built["measures"].items() if "index" not in name
    }


def test_the_place_of_each_answer_enters_the_numbers_of_a_build(work, monkeypatch):
    from prefdata.scoring import GivenScores

    monkeypatch.setattr(GivenScores, "shown_order", lambda _, answers, __: answers.candidates[::-1])
    measures = audit_of(build(recipe(), "out"))["measures"]
    # Better answers come first in the table, so they are shown last.
    assert (measures["score_index_correlation"], measures["score_place_correlation"]) == (-1.0, 1.0)


def test_a_judge_tells_where_each_answer_stood_in_its_request():
    """The place is where the answer really stood in the judge's request, not its index."""
    from prefdata.models import ChatEndpoint
    from prefdata.records import Answers, Candidate, Prompt
    from prefdata.scoring import AdditiveJudge
    from prefdata.spec import Context

    judge = AdditiveJudge(generator=ChatEndpoint(model="nobody"))
    prompt = Prompt("p", ({"role": "user", "content": "Which?"},))
    answers = Answers(prompt, tuple(Candidate("p", "s", index, f"answer number {index}") for index in range(8)))
    context = Context(seed=3)
    shown = judge.shown_order(answers, context)
    request = judge.request(answers, context).messages[0]["content"]
    positions = [request.index(candidate.response) for candidate in shown]
    assert positions == sorted(positions)
    assert [candidate.index for candidate in shown] != list(range(8))
    plain = AdditiveJudge(generator=ChatEndpoint(model="nobody"), shuffle=False)
    assert plain.shown_order(answers, context) == answers.candidates
