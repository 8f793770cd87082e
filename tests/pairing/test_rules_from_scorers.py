"""From what the pairwise models say to the columns that SPPO and GPO train on, against the formulas by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from prefdata.pairing import (
    GPO,
    SPPO,
    BestVsWorst,
    ByComparisons,
    ComparisonLabel,
    Paired,
    PairRule,
    SnorkelPairRM,
)
from prefdata.pairing.comparisons import comparisons_for_a_rule
from prefdata.records import Answers, Candidate, Prompt, Scored, as_messages
from prefdata.scoring import GPM, PairRM, Scorer
from prefdata.spec import Context
from prefdata.tables.schemas import COMPARISONS

K = 5
LOGITS = [
    [0.0, 1.2, -0.3, 2.0, 0.4],
    [-0.8, 0.0, -1.5, 0.6, 0.1],
    [0.9, 1.0, 0.0, 2.5, -0.2],
    [-2.2, -0.4, -2.0, 0.0, -1.1],
    [0.2, 0.3, 0.5, 0.7, 0.0],
]
"""What a pair ranker says of answer i as the first and answer j as the second: the two orders never quite agree."""
ANGLES = [0.3, 1.0, 2.2, 2.9, 4.0]
"""Preference embeddings in the plane: s_ij is the sine of the angle from i to j, and so goes round in a circle."""


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def scored_by(scorer: Scorer, results: Sequence[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Scored:
    """What the scorer makes of results that its worker might send for one prompt with five answers."""

    def stream(_worker: str, _config: Any, items: Iterator[Any], **_: Any) -> Iterator[Any]:
        [group] = items
        keys = [text["key"] for text in group["texts"]]
        yield {
            "key": group["key"],
            "results": [{**result, "key": key} for result, key in zip(results, keys, strict=True)],
        }

    monkeypatch.setattr("prefdata.scoring.rewards._worker_model.stream", stream)
    monkeypatch.setattr(type(scorer), "_config", lambda *_: {})
    candidates = tuple(Candidate("p", "policy", index, f"answer {index}") for index in range(K))
    [scored] = scorer.score([Answers(Prompt("p", as_messages("q")), candidates)], Context(seed=1))
    return scored


def pair_rm(monkeypatch: pytest.MonkeyPatch, logits: Sequence[Sequence[float]] = LOGITS) -> tuple[Scorer, Scored]:
    scorer = PairRM()
    result = {"key": 0, "answers": [{"n_tokens": 9}] * K, "logits": logits}
    return scorer, scored_by(scorer, [result], monkeypatch)


def gpm(monkeypatch: pytest.MonkeyPatch) -> tuple[Scorer, Scored]:
    scorer = GPM(model="owner/name", tau=0.1)
    embeddings = [{"embedding": [math.cos(angle), math.sin(angle)], "gate": [1.0]} for angle in ANGLES]
    results = [{"key": [0, at], "n_tokens": 9, **one} for at, one in enumerate(embeddings)]
    return scorer, scored_by(scorer, results, monkeypatch)


def paired(rule: PairRule, scorer: Scorer, scored: Scored) -> dict[str, Any]:
    """The one pair of the rule, from records through the tables that a build keeps."""
    table = pa.Table.from_pylist([asdict(one) for one in scored.comparisons], COMPARISONS)
    candidates = pl.DataFrame(
        [(s.prompt_id, s.source, s.index, f"answer {s.index}", s.score) for s in scored.scores],
        schema={
            "prompt_id": pl.String,
            "source": pl.String,
            "index": pl.Int64,
            "response": pl.String,
            "score": pl.Float64,
        },
        orient="row",
    )
    compared = comparisons_for_a_rule(table, scorer.compares) if rule.needs_comparisons() else None
    found: Paired = rule.pair(candidates, comparisons=compared)
    [pair] = found.pairs.rows(named=True)
    return pair


def assert_pair(pair: dict[str, Any], best: int, worst: int, **numbers: float) -> None:
    assert (pair["index_chosen"], pair["index_rejected"]) == (best, worst)
    assert {name: pair[name] for name in numbers} == pytest.approx(numbers, abs=1e-11)


def ends(values: Sequence[float]) -> tuple[int, int]:
    return values.index(max(values)), values.index(min(values))


def test_pair_rm_scores_are_those_of_llm_blender(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, scored = pair_rm(monkeypatch)
    by_hand = [sum(LOGITS[i][j] - LOGITS[j][i] for j in range(K)) / K for i in range(K)]
    assert [score.score for score in scored.scores] == pytest.approx(by_hand)
    best, worst = ends(by_hand)
    assert_pair(paired(SnorkelPairRM(), scorer, scored), best, worst, score_margin=max(by_hand) - min(by_hand))


def test_sppo_of_the_code_takes_sigmoids_of_the_mean_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """compute_prob.py: P_ij = sigmoid(score_i - score_j); win rates are row sums over five, 0.5 for itself."""
    scorer, scored = pair_rm(monkeypatch)
    scores = [sum(LOGITS[i][j] - LOGITS[j][i] for j in range(K)) / K for i in range(K)]
    p = [[sigmoid(one - other) for other in scores] for one in scores]
    best, worst = ends(scores)
    columns = {"chosen_probs": p[best][worst], "chosen_probs_win": sum(p[best]) / K}
    columns["chosen_probs_lose"] = sum(p[worst]) / K
    assert_pair(paired(SPPO(), scorer, scored), best, worst, **columns)


def test_sppo_of_the_paper_takes_the_comparisons_in_both_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, scored = pair_rm(monkeypatch)
    p = [[sigmoid((LOGITS[i][j] - LOGITS[j][i]) / 2) for j in range(K)] for i in range(K)]
    rates = [sum(row) / K for row in p]
    best, worst = ends(rates)
    columns = {"chosen_probs": p[best][worst], "chosen_probs_win": rates[best], "chosen_probs_lose": rates[worst]}
    assert_pair(paired(SPPO(probabilities="pairwise"), scorer, scored), best, worst, **columns)
    label = paired(BestVsWorst(label=ComparisonLabel()), scorer, scored)
    assert label["label_chosen"] == pytest.approx(p[label["index_chosen"]][label["index_rejected"]], abs=1e-11)


@pytest.mark.parametrize("probabilities", ["aggregated", "pairwise"])
def test_five_answers_have_win_rates_from_a_tenth_to_nine_tenths(
    monkeypatch: pytest.MonkeyPatch, probabilities: Any
) -> None:
    far = [[0.0 if i == j else (500.0 if i < j else -500.0) for j in range(K)] for i in range(K)]
    scorer, scored = pair_rm(monkeypatch, far)
    pair = paired(SPPO(probabilities=probabilities), scorer, scored)
    assert_pair(pair, 0, K - 1, chosen_probs=1.0, chosen_probs_win=0.9, chosen_probs_lose=0.1)


@pytest.mark.parametrize("doubled", [False, True])
def test_gpo_takes_the_mean_preference_scores_once_or_as_the_code_doubled(
    monkeypatch: pytest.MonkeyPatch, doubled: bool
) -> None:
    """compute_score_from_raw.py: the table minus its transpose; win and lose are row means over five."""
    scorer, scored = gpm(monkeypatch)
    table = [[math.sin(other - one) / 0.1 for other in ANGLES] for one in ANGLES]
    cells = [[table[i][j] - table[j][i] if doubled else table[i][j] for j in range(K)] for i in range(K)]
    means = [sum(row) / K for row in cells]
    best, worst = ends(means)
    assert [score.score for score in scored.scores] == pytest.approx([sum(row) / K for row in table])
    columns = {"chosen_probs": cells[best][worst], "chosen_probs_win": means[best], "chosen_probs_lose": means[worst]}
    assert_pair(paired(GPO(preferences="pairwise", doubled=doubled), scorer, scored), best, worst, **columns)
    columns["chosen_probs"] = means[best] - means[worst]
    assert_pair(paired(GPO(doubled=doubled), scorer, scored), best, worst, **columns)
    # Preferences that go round in a circle: the difference of the means is not the preference.
    assert abs(columns["chosen_probs"] - cells[best][worst]) > 1


def test_rankings_by_name_see_cycles_each_in_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, scored = gpm(monkeypatch)
    table = [[math.sin(other - one) / 0.1 for other in ANGLES] for one in ANGLES]
    beaten = [sum(cell > 1e-9 for cell in row) for row in table]
    rates = [sum(sigmoid(cell) for cell in row) / K for row in table]
    means = [sum(row) / K for row in table]
    for ranking, scores in {"borda": beaten, "win_rate": rates, "mean_score": means}.items():
        pair = paired(ByComparisons.model_validate({"ranking": ranking}), scorer, scored)
        assert pair["score_chosen"] == pytest.approx(max(scores))
        assert pair["score_rejected"] == pytest.approx(min(scores))
        assert scores[pair["index_chosen"]] == max(scores)
    strengths = paired(ByComparisons(ranking="bradley_terry"), scorer, scored)
    assert strengths["score_chosen"] > 0 > strengths["score_rejected"]


def test_undecided_comparisons_and_unscored_answers_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = PairRM()
    answers: list[dict[str, Any]] = [{"n_tokens": 9}] * K
    answers[1] = {"failure": "control_tokens", "detail": "a text contains '[SEP]'"}
    result = {"key": 0, "answers": answers, "logits": LOGITS}
    scored = scored_by(scorer, [result], monkeypatch)
    assert [one.undecided for one in scored.comparisons].count("control_tokens") == 2 * (K - 1)
    there = [0, 2, 3, 4]
    p = {i: [sigmoid((LOGITS[i][j] - LOGITS[j][i]) / 2) for j in there] for i in there}
    rates = {i: sum(row) / 4 for i, row in p.items()}
    pair = paired(SPPO(probabilities="pairwise"), scorer, scored)
    best = max(rates, key=lambda i: rates[i])
    assert (pair["n_eligible"], pair["index_chosen"]) == (4, best)
    assert pair["chosen_probs_win"] == pytest.approx(rates[best], abs=1e-11)
