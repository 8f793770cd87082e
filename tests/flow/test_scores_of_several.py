"""Scorers that are made of others, and scorers that compare: stages, tables, what is published, and its proof."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest
from pydantic import ValidationError
from replayed import PAIRS, recipe, tree

from prefdata.errors import ConservationError, RecipeError
from prefdata.flow.build import build
from prefdata.flow.plan import plan
from prefdata.inspection.what_if import what_if
from prefdata.publish.manifest import write_manifest
from prefdata.recipe import load_recipe
from prefdata.scoring import Ensemble, GivenScores
from prefdata.verification import verify

PANEL = {"kind": "ensemble", "scorers": [{"kind": "given"}, {"kind": "given"}], "combine_by": "mean"}
LABELLED = {"kind": "best_vs_worst", "label": {"kind": "comparison"}}


def panel(**changes):
    return recipe(scores={**PANEL, **changes.pop("scores", {})}, **changes)


def test_every_member_is_a_stage_and_another_combination_asks_no_member_again(work, monkeypatch):
    asked = []
    real = GivenScores.score

    def counted(this, tasks, context):
        for scored in real(this, tasks, context):
            asked.append(scored.prompt_id)
            yield scored

    monkeypatch.setattr(GivenScores, "score", counted)
    first = build(panel(), "out")
    stages = sorted(path.name.rpartition("-")[0].rpartition("-")[0] for path in (first.folder / "stages").iterdir())
    expected = ["candidates-replayed", "pairs", "prompts", "scores", "scores-scorers.0", "scores-scorers.1"]
    assert stages == expected
    assert [stage.stage for stage in plan(panel(), "out").stages] == [
        *("prompts", "candidates-replayed", "scores-scorers.0", "scores-scorers.1", "scores", "pairs")
    ]
    assert len(asked) == 22
    build(panel(scores={"combine_by": "minimum"}), "out")
    assert len(asked) == 22


def test_the_mean_of_one_scorer_twice_is_the_scorer(work):
    alone, twice = build(recipe(), "alone"), build(panel(), "twice")
    assert twice.ledger["pairs"] == PAIRS
    same = ["prompt_id", "chosen", "rejected", "score_chosen", "score_rejected"]
    assert twice.pairs.select(same).equals(alone.pairs.select(same))


def test_what_members_say_together_is_published_and_proved(work):
    folder = build(panel(pairs=LABELLED), "out").dataset
    compared = pl.read_parquet(folder / "comparisons" / "train-00000-of-00001.parquet")
    assert compared.height == 33 + 3
    assert compared.filter(pl.col("undecided").is_not_null())["undecided"].to_list() == ["member_undecided"] * 3
    assert set(pl.read_parquet(folder / "data" / "train-00000-of-00001.parquet")["label_chosen"]) == {1.0}
    scoring = json.loads((folder / "scoring.json").read_text())
    assert scoring["scores"]["comparisons"]["drops"] == {"member_undecided": 3}
    assert scoring["scores"]["fitted"]["members"].keys() == {"scorers.0", "scorers.1"}
    card = (folder / "README.md").read_text()
    assert "config_name: comparisons" in card
    assert "## Scores over all prompts" in card
    report = verify(folder)
    assert report.holds, report.mismatches
    datasets = pytest.importorskip("datasets")
    assert datasets.load_dataset(str(folder), "comparisons", split="train").num_rows == 36


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("probability", 0.25, "field"),
        ("probability", None, "comparison"),
        ("source_b", "nobody", "comparison"),
        ("log_odds", float("inf"), "comparison"),
    ],
)
def test_a_comparison_that_was_changed_is_found(work, column, value, what):
    folder = build(panel(pairs=LABELLED), "out").dataset
    path = folder / "comparisons" / "train-00000-of-00001.parquet"
    from prefdata.publish.folder import with_features
    from prefdata.tables.schemas import COMPARISONS, read_parquet, write_parquet

    rows = read_parquet(path).to_pylist()
    ours = ("index_a", 0), ("index_b", 2)
    place = next(i for i, row in enumerate(rows) if all(row[name] == index for name, index in ours))
    rows[place][column] = value
    import pyarrow as pa

    write_parquet(path, with_features(pa.Table.from_pylist(rows, COMPARISONS)))
    write_manifest(folder)
    report = verify(folder)
    assert what in report.counts
    assert set(report.counts) <= {"comparison", "field", "audit"}


def test_published_comparisons_that_no_scorer_made_and_missing_ones_are_found(work):
    folder = build(panel(), "out").dataset
    (folder / "comparisons" / "train-00000-of-00001.parquet").unlink()
    (folder / "comparisons").rmdir()
    assert "file" in verify(folder).counts


def test_a_rule_that_needs_comparisons_is_refused_with_a_scorer_that_makes_none(work):
    with pytest.raises(ValidationError, match=r"'best_vs_worst', as set, needs comparisons.*'given' makes none"):
        recipe(pairs=LABELLED)
    (work / "recipe.json").write_text(json.dumps({**recipe().dump(), "pairs": LABELLED}))
    with pytest.raises(RecipeError, match="needs comparisons"):
        load_recipe(work / "recipe.json")


@pytest.mark.parametrize(
    "rule", [{"kind": "gpo", "preferences": "pairwise"}, {"kind": "by_comparisons", "ranking": "mean_score"}]
)
def test_a_rule_that_needs_log_odds_is_refused_with_a_scorer_of_probabilities(work, rule):
    with pytest.raises(ValidationError, match="needs log-odds, and the scorer 'ensemble' gives probabilities"):
        panel(pairs=rule)
    assert recipe(scores={"kind": "baseline", "comparisons": True}, pairs=rule)


def test_what_if_reads_the_comparisons_of_builds_and_of_datasets(work):
    rule = panel(pairs=LABELLED).pairs
    made = build(panel(), "out")
    for where in (made.folder, made.dataset):
        (outcome,) = what_if(where, [rule])
        assert outcome.pairs == PAIRS


@pytest.mark.parametrize(
    "wrong",
    [
        lambda made: replace(made, index_b=made.index_a, source_b=made.source_a),
        lambda made: replace(made, source_a="nobody"),
        lambda made: replace(made, probability=1.5),
        lambda made: replace(made, probability=None),
        lambda made: replace(made, undecided="both"),
        lambda made: replace(made, log_odds=float("inf")),
        lambda made: replace(made, log_odds=float("nan")),
    ],
    ids=["itself", "a stranger", "1.5", "neither", "both", "infinite", "NaN"],
)
def test_a_comparison_that_can_not_be_is_a_bug_and_nothing_of_it_stays(work, monkeypatch, wrong):
    real = Ensemble.combine

    def called(this, given, fitted):
        scored = real(this, given, fitted)
        decided = [made for made in scored.comparisons if made.undecided is None]
        return replace(scored, comparisons=(wrong(decided[0]), *decided[1:]))

    expected = tree(build(panel(), "expected").folder)
    with monkeypatch.context() as patched:
        patched.setattr(Ensemble, "combine", called)
        with pytest.raises(ConservationError, match="scores: Comparison"):
            build(panel(), "out")
    assert not (work / "out" / "dataset").exists()
    build(panel(), "out")
    assert tree(work / "out") == expected


def test_shards_and_interruptions_change_no_byte_of_a_panels_dataset(work):
    whole = tree(build(panel(pairs=LABELLED), "whole").dataset)
    assert tree(build(panel(pairs=LABELLED), "cut", shard_size=1).dataset) == whole
