"""A whole build with a preference model: its comparisons reach the rule, the dataset and the verification."""

from __future__ import annotations

from pathlib import Path

import pytest
from answers_table import ANSWERS, PROMPTS, recipe, texts_of, write_tables
from tiny_gpm import Reference, save_model

from prefdata.flow.build import build
from prefdata.records import Answers, Candidate, Prompt, as_messages
from prefdata.verification import verify


def test_a_build_carries_the_preference_scores_and_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_tables()
    folder = save_model(tmp_path / "model")
    scores = {"kind": "gpm", "model": str(folder), "max_length": 512}
    built = build(recipe(scores, {"kind": "gpo", "preferences": "pairwise"}), "out", shard_size=4)
    assert built.ledger["pairs"] == PROMPTS
    reference = Reference(folder)
    for number, row in enumerate(built.pairs.sort("prompt_id").iter_rows(named=True)):
        texts = texts_of(number)
        candidates = tuple(Candidate("p", "s", place, text) for place, text in enumerate(texts))
        table = reference.scores(Answers(Prompt("p", as_messages(f"Question {number}")), candidates))
        means = [sum(row_of_table) / ANSWERS for row_of_table in table]
        best, worst = (texts.index(row[side][0]["content"]) for side in ("chosen", "rejected"))
        assert means[best] == pytest.approx(max(means), abs=5e-5)
        assert row["chosen_probs"] == pytest.approx(table[best][worst], abs=5e-5)
        assert row["chosen_probs_win"] == pytest.approx(max(means), abs=5e-5)
        assert row["chosen_probs_lose"] == pytest.approx(min(means), abs=5e-5)
    report = verify(built.folder)
    assert (report.mismatches, report.not_checked) == ([], [])
