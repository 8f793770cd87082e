"""A whole build with a pair ranker: its comparisons reach the rule, the dataset and the verification."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from test_pair_rm import WORDS, Reference, save_ranker

from prefdata.flow.build import build
from prefdata.recipe import Recipe
from prefdata.verification import verify

PROMPTS, ANSWERS = 6, 4


def recipe(scores: dict[str, Any], pairs: dict[str, Any]) -> Recipe:
    """Four answers a prompt, two of them equal, from a table."""
    return Recipe.model_validate(
        {
            "name": "ranked",
            "seed": 5,
            "prompts": {"kind": "file", "path": "prompts.jsonl", "prompt_id_column": "id"},
            "candidates": [{"kind": "existing", "name": "replayed", "path": "answers.jsonl", "prompt_id_column": "id"}],
            "scores": scores,
            "pairs": pairs,
            "dataset": {"kind": "trl", "test_size": 2},
        }
    )


def texts_of(number: int) -> list[str]:
    return [
        " ".join(WORDS[(number * 5 + answer * 3 + at * (answer + 1)) % len(WORDS)] for at in range(2 + answer))
        for answer in (0, 1, 2, 2)
    ]


def write_tables() -> None:
    prompts = [{"id": f"p{number}", "prompt": f"Question {number}"} for number in range(PROMPTS)]
    answers = [{"id": f"p{number}", "response": text} for number in range(PROMPTS) for text in texts_of(number)]
    for file, rows in {"prompts.jsonl": prompts, "answers.jsonl": answers}.items():
        Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


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
