"""A whole build with a pair ranker: its comparisons reach the rule, the dataset and the verification."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from answers_table import ANSWERS, PROMPTS, recipe, texts_of, write_tables
from tiny_pair_rm import Reference, save_ranker

from prefdata.flow.build import build
from prefdata.verification import verify


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # DeBERTa's module is scripted
def test_a_build_pairs_by_the_comparisons_and_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_tables()
    folder = save_ranker(tmp_path / "model")
    ranked = recipe({"kind": "pair_rm", "model": str(folder)}, {"kind": "sppo", "probabilities": "pairwise"})
    built = build(ranked, "out", shard_size=4)
    assert built.ledger["pairs"] == PROMPTS
    reference = Reference(folder)
    for number, row in enumerate(built.pairs.sort("prompt_id").iter_rows(named=True)):
        texts = texts_of(number)
        s = reference.table(f"Question {number}", texts)
        p = [[1 / (1 + math.exp((s[j][i] - s[i][j]) / 2)) for j in range(ANSWERS)] for i in range(ANSWERS)]
        rates = [sum(row_of_p) / ANSWERS for row_of_p in p]
        assert row["chosen"][0]["content"] == texts[rates.index(max(rates))]
        assert row["chosen_probs_win"] == pytest.approx(max(rates), abs=1e-5)
        assert row["chosen_probs_lose"] == pytest.approx(min(rates), abs=1e-5)
    report = verify(built.folder)
    assert (report.mismatches, report.not_checked) == ([], [])
    assert build(ranked, "out", shard_size=4).ledger == built.ledger
