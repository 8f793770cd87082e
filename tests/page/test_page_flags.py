"""Flags that a page takes from filters and from an ensemble's members, where a build or a dataset knows them."""

from __future__ import annotations

import json

import pytest

import prefdata
from prefdata import Recipe
from prefdata.page.opening import open_source
from prefdata.pairing import BestVsWorst
from prefdata.prompts import ExactDuplicates, FilePrompts, NearDuplicates
from prefdata.sampling import ExistingCompletions
from prefdata.scoring import BaselineScorer, Ensemble, GivenScores, LengthDebiased

RIVER = "Why does the river bend around the old stone bridge before it meets the sea in spring"
PROMPTS = (RIVER, RIVER.upper() + "!", RIVER + " then", "Name a colour that few people like, and say why you like it.")
GOOD = "Because the bank there is of hard stone, the water turns, and in spring there is more than the bed can hold."


@pytest.fixture
def built(tmp_path):
    """The table prefers the good answer to the first prompt, and the blank one to the last."""
    table = tmp_path / "answers.jsonl"
    rows = [
        {"prompt": text, "response": [GOOD, "no"], "score": [2, 1] if text == RIVER else [1, 2]} for text in PROMPTS
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    panel = Ensemble(scorers=(BaselineScorer(), GivenScores()), combine_by="minimum")

    def build(name, scores=panel):
        recipe = Recipe(
            name=name,
            prompts=FilePrompts(path=table),
            filters=(ExactDuplicates(), NearDuplicates()),
            candidates=(ExistingCompletions(name="theirs", path=table, score_column="score"),),
            scores=scores,
            pairs=BestVsWorst(),
        )
        return prefdata.build(recipe, tmp_path / name)

    return build


def flags(where):
    """The flags of each pair, by what its prompt begins with."""
    rows = [row for row in open_source(where).rows() if row.outcome == "pair"]
    return {row.turns[0][1].split()[0]: row.flags for row in rows}


def test_a_build_flags_prompts_with_dropped_duplicates_and_pairs_whose_judges_disagree(built):
    build = built("panel")
    assert flags(build) == {
        "Why": ["duplicates dropped", "near-duplicates dropped"],
        "Name": ["members disagree"],
    }


def test_an_ensemble_within_another_scorer_is_found(built):
    panel = Ensemble(scorers=(BaselineScorer(), GivenScores()))
    assert "members disagree" in flags(built("inner", LengthDebiased(scorer=panel)))["Name"]


def test_a_dataset_knows_its_drops_and_not_the_members(built):
    dataset = built("alone").dataset
    assert flags(dataset) == {"Why": ["duplicates dropped", "near-duplicates dropped"], "Name": []}


def test_one_scorer_disagrees_with_nobody(built):
    assert flags(built("one", BaselineScorer()))["Name"] == []
