"""Published scores that do not follow from the comparisons and texts next to them are named."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import judging
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from answers_table import recipe, write_tables
from tiny_gpm import save_model
from tiny_pair_rm import save_ranker

from prefdata.flow.build import build
from prefdata.publish.manifest import write_manifest
from prefdata.recipe import Recipe
from prefdata.tables.schemas import write_parquet
from prefdata.verification import Mismatch, Report, verify

ANSWERS = "candidates/train-00000-of-00001.parquet"
COMPARISONS = "comparisons/train-00000-of-00001.parquet"
Row = dict[str, Any]
Plant = Callable[[list[Row], list[Row]], tuple[str, str | None, str | None]]


def scorers(folder: Path) -> Iterator[tuple[str, Recipe]]:
    """A recipe of each kind of scorer that says more than one thing of an answer."""
    rule = {"kind": "best_vs_worst"}
    limits = {"source_max_length": 40, "candidate_max_length": 9, "too_long": "unscored"}
    yield "pair_rm", recipe({"kind": "pair_rm", "model": str(save_ranker(folder / "models" / "ranker"))}, rule)
    yield "pair_rm_unread", recipe({"kind": "pair_rm", "model": str(folder / "models" / "ranker"), **limits}, rule)
    yield "gpm", recipe({"kind": "gpm", "model": str(save_model(folder / "models" / "gpm")), "max_length": 512}, rule)
    yield "baseline", recipe({"kind": "baseline", "comparisons": True}, rule)
    yield "plain", recipe({"kind": "baseline"}, rule)
    panel = [{"kind": "baseline"}, {"kind": "baseline", "comparisons": True}]
    yield "length_debiased", recipe({"kind": "length_debiased", "scorer": {"kind": "baseline"}}, rule)
    yield "ensemble", recipe({"kind": "ensemble", "scorers": panel, "combine_by": "mean"}, rule)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The dataset folder of each scorer; no test changes it."""
    folder = tmp_path_factory.mktemp("scored")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        write_tables()
        for name, made in scorers(folder):
            found[name] = build(made, folder / name, shard_size=4).dataset
        with judging.judging(dict.fromkeys((2, 7), judging.BROKEN[0])) as server:
            judge = judging.recipe(folder, {"kind": "pairwise_judge"}, server)
            found["judge"] = build(judge, folder / "judge", shard_size=4).dataset
    return found


DERIVED = ["pair_rm", "pair_rm_unread", "gpm", "judge"]
"""Whose scores follow from their comparisons."""
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # DeBERTa's module is scripted


@pytest.mark.parametrize("name", [*DERIVED, "baseline", "plain", "length_debiased", "ensemble"])
def test_a_build_of_each_scorer_verifies(datasets: dict[str, Path], name: str) -> None:
    report = verify(datasets[name])
    assert (report.mismatches, report.not_checked) == ([], [])
    assert "every score and comparison that can be recomputed" in report.checked


def test_the_datasets_have_what_is_hard(datasets: dict[str, Path]) -> None:
    reasons = {name: {row["unscored"] for row in rows(datasets[name] / ANSWERS)} for name in DERIVED}
    assert reasons == {
        "pair_rm": {None},
        "pair_rm_unread": {None, "too_long"},
        "gpm": {None},
        "judge": {None, "no_comparison"},
    }
    assert {row["undecided"] for row in rows(datasets["pair_rm_unread"] / COMPARISONS)} == {None, "too_long"}
    assert {row["probability"] for row in rows(datasets["judge"] / COMPARISONS)} == {None, 0.0, 0.5, 1.0}


def rows(path: Path) -> list[Row]:
    found: list[Row] = pq.ParquetFile(path).read().to_pylist()
    return found


def planted(dataset: Path, folder: Path, plant: Plant) -> tuple[Report, tuple[str, str | None, str | None]]:
    """What is said of a copy with something changed and the hashes made again, and what must be said."""
    copy = shutil.copytree(dataset, folder / "dataset")
    tables = {name: pq.ParquetFile(copy / name).read() for name in (ANSWERS, COMPARISONS) if (copy / name).exists()}
    lists = {name: table.to_pylist() for name, table in tables.items()}
    expected = plant(lists[ANSWERS], lists.get(COMPARISONS, []))
    for name, table in tables.items():
        write_parquet(copy / name, pa.Table.from_pylist(lists[name], table.schema))
    write_manifest(copy)
    return verify(copy, keep=None), expected


def told(report: Report, what: str, prompt_id: str | None, candidate: str | None) -> list[Mismatch]:
    return [
        found
        for found in report.mismatches
        if (found.what, found.prompt_id, found.candidate) == (what, prompt_id, candidate)
        and found.expected != found.found
    ]


def decided(comparisons: list[Row]) -> Row:
    return next(row for row in comparisons if row["undecided"] is None and row["probability"] != 0.5)


def sides(row: Row) -> str:
    return f"{row['source_a']} {row['index_a']} against {row['source_b']} {row['index_b']}"


def alter_a_score(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
    row = [row for row in answers if row["score"] is not None][5]
    row["score"] += 1e-9
    return "score", row["prompt_id"], f"{row['source']} {row['index']}"


def swap_two_scores(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
    one, other = next(
        (one, other)
        for one in answers
        for other in answers
        if one["prompt_id"] == other["prompt_id"]
        and None not in (one["score"], other["score"])
        and one["score"] != other["score"]
    )
    one["score"], other["score"] = other["score"], one["score"]
    return "score", one["prompt_id"], f"{one['source']} {one['index']}"


def unscore_an_answer(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
    compared = decided(comparisons)
    row = next(
        row
        for row in answers
        if (row["prompt_id"], row["source"], row["index"])
        == (compared["prompt_id"], compared["source_a"], compared["index_a"])
    )
    row.update(score=None, unscored="no_comparison" if compared["log_odds"] is None else "control_tokens")
    if compared["log_odds"] is None:
        return "score", row["prompt_id"], f"{row['source']} {row['index']}"
    return "comparison", row["prompt_id"], sides(compared)


def score_what_has_none(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
    row = next((row for row in answers if row["score"] is None), answers[0])
    row.update(score=0.25, unscored=None)
    return "score", row["prompt_id"], f"{row['source']} {row['index']}"


def alter_a_comparison(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
    row = decided(comparisons)
    row["probability"] = 1 - row["probability"]
    if row["log_odds"] is not None:
        row["log_odds"] = -row["log_odds"]
    return "score", row["prompt_id"], f"{row['source_a']} {row['index_a']}"


def leave_a_comparison_open(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
    row = decided(comparisons)
    row.update(probability=None, log_odds=None, undecided="disagreement")
    return "score", row["prompt_id"], f"{row['source_b']} {row['index_b']}"


def remove_a_comparison(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
    row = decided(comparisons)
    comparisons.remove(row)
    return "comparison", row["prompt_id"], sides(row)


def repeat_a_comparison(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
    row = decided(comparisons)
    comparisons.insert(comparisons.index(row), dict(row))
    return "comparison", row["prompt_id"], None


def compare_with_nobody(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
    row = decided(comparisons)
    missing = sides(row)
    row["index_b"] = 77
    return "comparison", row["prompt_id"], missing


def turn_a_comparison_round(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
    first = sides(row := decided(comparisons))
    for one, other in (("source_a", "source_b"), ("index_a", "index_b")):
        row[one], row[other] = row[other], row[one]
    return "comparison", row["prompt_id"], first


PLANTS = [
    *(alter_a_score, swap_two_scores, unscore_an_answer, score_what_has_none, alter_a_comparison),
    *(leave_a_comparison_open, remove_a_comparison, repeat_a_comparison, compare_with_nobody, turn_a_comparison_round),
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
@pytest.mark.parametrize("name", DERIVED)
def test_what_does_not_fit_the_comparisons_is_named(
    datasets: dict[str, Path], tmp_path: Path, name: str, plant: Plant
) -> None:
    report, expected = planted(datasets[name], tmp_path, plant)
    assert report.counts["manifest"] == 0
    assert told(report, *expected)


@pytest.mark.parametrize("plant", [alter_a_score, swap_two_scores], ids=lambda plant: plant.__name__)
def test_a_score_of_the_baseline_follows_from_its_text(datasets: dict[str, Path], tmp_path: Path, plant: Plant) -> None:
    report, expected = planted(datasets["baseline"], tmp_path, plant)
    assert told(report, *expected)


def alter_the_probability_alone(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
    row = decided(comparisons)
    row["probability"] *= 1 - 1e-9
    return "comparison", row["prompt_id"], sides(row)


@pytest.mark.parametrize("name", ["pair_rm", "gpm", "baseline"])
def test_a_probability_is_that_of_its_log_odds(datasets: dict[str, Path], tmp_path: Path, name: str) -> None:
    report, expected = planted(datasets[name], tmp_path, alter_the_probability_alone)
    [found] = told(report, *expected)
    assert (found.field, report.counts.total()) == ("probability", 1)


@pytest.mark.parametrize("name", ["pair_rm", "gpm"])
def test_a_score_is_told_although_neither_pair_nor_audit_hangs_on_it(
    datasets: dict[str, Path], tmp_path: Path, name: str
) -> None:
    def plant(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
        row = next(row for row in answers if is_between(row, answers))
        row["score"] += 1e-12
        return "score", row["prompt_id"], f"{row['source']} {row['index']}"

    report, expected = planted(datasets[name], tmp_path, plant)
    [found] = told(report, *expected)
    assert report.counts == {"score": 1}
    assert (found.field, found.where) == ("score", "candidates/")
    assert float(found.found) - float(found.expected) == pytest.approx(1e-12, rel=0.01)


def is_between(row: Row, answers: list[Row]) -> bool:
    scores = [one["score"] for one in answers if one["prompt_id"] == row["prompt_id"]]
    return min(scores) < row["score"] < max(scores) and scores.count(row["score"]) == 1


@pytest.mark.parametrize("table", [ANSWERS, COMPARISONS])
@pytest.mark.parametrize("name", ["judge", "pair_rm_unread", "baseline"])
def test_cells_without_a_value_are_mismatches_and_no_traceback(
    datasets: dict[str, Path], tmp_path: Path, name: str, table: str
) -> None:
    copy = shutil.copytree(datasets[name], tmp_path / "dataset")
    before = pq.ParquetFile(copy / table).read()
    for column in before.schema.names:
        changed = before.to_pylist()
        place = next((place for place, row in enumerate(changed) if row[column] not in (None, "")), None)
        if place is None or column in ("model", "n_tokens", "finish_reason", "detail"):
            continue
        changed[place][column] = None
        write_parquet(copy / table, pa.Table.from_pylist(changed, before.schema))
        write_manifest(copy)
        assert not verify(copy).holds, column


def test_an_ensembles_comparisons_are_of_every_two_answers(datasets: dict[str, Path], tmp_path: Path) -> None:
    for plant in (remove_a_comparison, repeat_a_comparison, compare_with_nobody, turn_a_comparison_round):
        report, expected = planted(datasets["ensemble"], tmp_path / plant.__name__, plant)
        assert told(report, *expected)


def test_log_odds_that_overflow_are_a_mismatch(datasets: dict[str, Path], tmp_path: Path) -> None:
    def plant(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
        for row in comparisons:
            row.update(probability=1.0, log_odds=1.7e308)
        return "comparison", comparisons[0]["prompt_id"], None

    report, expected = planted(datasets["gpm"], tmp_path, plant)
    assert told(report, *expected)


@pytest.mark.parametrize("name", ["gpm", "ensemble"])
def test_the_counts_of_comparisons_and_the_stages_that_tell_are_checked(
    datasets: dict[str, Path], tmp_path: Path, name: str
) -> None:
    copy = shutil.copytree(datasets[name], tmp_path / "dataset")
    file = copy / "scoring.json"
    before = json.loads(file.read_text("utf-8"))
    for change, field in (
        (lambda told: told["scores"]["comparisons"].update(out=1), "scores.comparisons.out"),
        (lambda told: told["scores"]["comparisons"]["drops"].update(unparsed=1), "scores.comparisons.drops.unparsed"),
        (lambda told: told["scores"].pop("comparisons"), "scores.comparisons"),
        (lambda told: told.pop("scores"), "stages[0]"),
    ):
        value = json.loads(json.dumps(before))
        change(value)
        file.write_text(json.dumps(value), "utf-8")
        write_manifest(copy)
        report = verify(copy, keep=None)
        assert set(report.counts) == {"scoring"}
        assert field in [found.field for found in report.mismatches]
    file.unlink()
    write_manifest(copy)
    assert [(found.what, found.where) for found in verify(copy).mismatches] == [("file", "scoring.json")]


def test_scores_that_another_version_of_the_code_made_are_not_made_again(
    datasets: dict[str, Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(datasets["plain"], tmp_path / "dataset")
    lock = json.loads((copy / "prefdata.lock.json").read_text("utf-8"))
    lock["parts"]["scores"]["packages"]["prefdata"] = "0.0.7"
    (copy / "prefdata.lock.json").write_text(json.dumps(lock), "utf-8")
    write_manifest(copy)
    report = verify(copy)
    assert report.mismatches == []
    [note] = report.not_checked
    assert "0.0.7" in note
    assert not any("every score" in what for what in report.checked)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("of", ["log", "length"])
def test_the_line_through_corrected_scores_is_what_was_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str, strength: float
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tables()
    scores = {"kind": "length_debiased", "scorer": {"kind": "baseline"}, "of": of, "strength": strength}
    made = build(recipe(scores, {"kind": "best_vs_worst"}), "build", shard_size=4).dataset
    fitted = json.loads((made / "scoring.json").read_text("utf-8"))["scores"]["fitted"]
    assert fitted["slope"] > 0
    report = verify(made)
    assert (report.mismatches, report.not_checked) == ([], [])

    table = pq.ParquetFile(made / ANSWERS).read()
    changed = table.to_pylist()
    row = next(row for row in changed if is_between(row, changed))
    row["score"] += 1e-7
    write_parquet(made / ANSWERS, pa.Table.from_pylist(changed, table.schema))
    write_manifest(made)
    report = verify(made)
    assert set(report.counts) == {"scoring"}
    assert "scores.fitted.slope" in [found.field for found in report.mismatches]

    for wrong in (None, "0.1", math.nan, True, 1e300):
        rewritten = {"scores": {"fitted": {**fitted, "slope": wrong}}}
        (made / "scoring.json").write_text(json.dumps(rewritten), "utf-8")
        write_manifest(made)
        assert verify(made).counts["scoring"] >= 1


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("name", ["length_debiased", "judge", "gpm", "ensemble"])
def test_scores_that_are_no_numbers_are_mismatches_and_no_traceback(
    datasets: dict[str, Path], tmp_path: Path, name: str, score: float
) -> None:
    def plant(answers: list[Row], comparisons: list[Row]) -> tuple[str, str | None, str | None]:
        for row in answers[:2]:
            row.update(score=score, unscored=None)
        return "score", None, None

    report, _ = planted(datasets[name], tmp_path, plant)
    assert not report.holds


def test_the_command_names_the_answer_and_both_scores(datasets: dict[str, Path], tmp_path: Path, prefdata: Any) -> None:
    report, (_, prompt_id, candidate) = planted(datasets["gpm"], tmp_path, alter_a_score)
    said = prefdata("verify", report.folder)
    assert said.code == 1
    assert f"score: candidates/, prompt {prompt_id}, answer {candidate}, score\n  expected " in said.out
    said = prefdata("verify", report.folder, "--json")
    assert candidate in [found["candidate"] for found in json.loads(said.out)["mismatches"]]
