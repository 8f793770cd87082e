"""Comparisons become scores as their definitions say, and the rules that read them carry the right numbers."""

from __future__ import annotations

import math
import random
from typing import Any

import oracle
import polars as pl
import pytest

from prefdata.errors import InputError
from prefdata.pairing import (
    GPO,
    SPPO,
    BestVsWorst,
    ByComparisons,
    ComparisonLabel,
    Highest,
    Selection,
    borda_counts,
    bradley_terry,
    comparisons_of_tables,
    mean_scores,
    preferences,
    win_rates,
)

COLUMNS = ["prompt_id", "source_a", "index_a", "source_b", "index_b", "probability"]
Name = tuple[str, int]
AGGREGATIONS = [win_rates, mean_scores, borda_counts, bradley_terry]


def games(seed: str, n_prompts: int = 40) -> list[tuple[str, str, int, str, int, float]]:
    """Comparisons in any order and direction, some pairs twice, some never, draws and self-comparisons among them."""
    dice = random.Random(seed)
    rows = []
    for number in range(n_prompts):
        names = [(dice.choice("ab"), index) for index in range(dice.randint(2, 6))]
        for one in names:
            for other in names:
                if dice.random() < 0.8:
                    p = 0.5 if one == other or dice.random() < 0.2 else dice.uniform(0.02, 0.98)
                    rows.append((f"prompt {number}", *one, *other, p))
    dice.shuffle(rows)
    return rows


def frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def chances(rows: list[tuple[Any, ...]]) -> dict[str, dict[tuple[Name, Name], list[float]]]:
    """Prompt → (i, j) → every observation of P(i beats j), in both directions."""
    found: dict[str, dict[tuple[Name, Name], list[float]]] = {}
    for prompt_id, source_a, index_a, source_b, index_b, p in rows:
        a, b = (source_a, index_a), (source_b, index_b)
        if a != b:
            of_prompt = found.setdefault(prompt_id, {})
            of_prompt.setdefault((a, b), []).append(p)
            of_prompt.setdefault((b, a), []).append(1 - p)
    return found


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def scores_of(found: pl.DataFrame) -> dict[tuple[str, str, int], float | None]:
    assert found.columns == ["prompt_id", "source", "index", "score", "unscored"]
    keys = found.select("prompt_id", "source", "index").rows()
    assert keys == sorted(set(keys))
    return dict(zip(keys, found["score"].to_list(), strict=True))


@pytest.mark.parametrize("self_term", [True, False])
def test_win_rates_are_the_mean_chance_against_everybody(self_term: bool) -> None:
    rows = games("win rates")
    expected = {}
    for prompt_id, pairs in chances(rows).items():
        for name in {one for one, _ in pairs}:
            met = [mean(values) for (one, _), values in pairs.items() if one == name]
            expected[(prompt_id, *name)] = mean(met + [0.5] * self_term)
    assert scores_of(win_rates(frame(rows), self_term=self_term)) == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("doubled", [True, False])
def test_mean_scores_are_the_mean_log_odds_with_a_zero_for_the_candidate_itself(doubled: bool) -> None:
    scored = [(*row[:5], 10 * row[5] - 5) for row in games("mean scores")]
    expected = {}
    found: dict[tuple[Any, ...], dict[Name, list[float]]] = {}
    for prompt_id, source_a, index_a, source_b, index_b, score in scored:
        if (source_a, index_a) != (source_b, index_b):
            one = found.setdefault((prompt_id, source_a, index_a), {})
            one.setdefault((source_b, index_b), []).append(score)
            other = found.setdefault((prompt_id, source_b, index_b), {})
            other.setdefault((source_a, index_a), []).append(-score)
    for name, met in found.items():
        expected[name] = (2 if doubled else 1) * sum(mean(values) for values in met.values()) / (len(met) + 1)
    table = frame(scored).rename({"probability": "score"})
    assert scores_of(mean_scores(table, doubled=doubled)) == pytest.approx(expected, abs=1e-9)


def test_probabilities_and_their_log_odds_say_the_same() -> None:
    # Each pair once: the mean of two log-odds is not the log-odds of the mean.
    one_way = frame([row for row in games("logit") if row[1:3] < row[3:5]])
    logits = one_way.with_columns(score=(pl.col("probability") / (1 - pl.col("probability"))).log()).drop("probability")
    for aggregate in AGGREGATIONS:
        assert scores_of(aggregate(one_way)) == pytest.approx(scores_of(aggregate(logits)), abs=1e-7)


def test_borda_counts_wins_and_half_of_each_draw() -> None:
    rows = games("borda")
    expected = {}
    for prompt_id, pairs in chances(rows).items():
        for name in {one for one, _ in pairs}:
            met = [round(mean(values), 12) for (one, _), values in pairs.items() if one == name]
            expected[(prompt_id, *name)] = sum(1.0 if p > 0.5 else 0.5 if p == 0.5 else 0.0 for p in met)
    assert any(count % 1 for count in expected.values())
    assert scores_of(borda_counts(frame(rows))) == expected


def test_bradley_terry_expects_the_wins_that_there_were() -> None:
    """At the maximum of the likelihood, every candidate's expected wins are its wins; strengths are centred."""
    rows = games("bradley terry", 60)
    scores = scores_of(bradley_terry(frame(rows)))
    scored = 0
    for prompt_id, pairs in chances(rows).items():
        names = {one for one, _ in pairs}
        if scores[(prompt_id, *min(names))] is None:
            continue
        strength = {name: float(scores[(prompt_id, *name)] or 0.0) for name in names}
        assert sum(strength.values()) == pytest.approx(0, abs=1e-9)
        for name in names:
            met = {other: values for (one, other), values in pairs.items() if one == name}
            wins = sum(sum(values) for values in met.values())
            expected = sum(
                len(values) * oracle.sigmoid(strength[name] - strength[other]) for other, values in met.items()
            )
            assert wins == pytest.approx(expected, abs=1e-6)
        scored += 1
    assert scored > 40


def test_bradley_terry_of_two_is_the_log_odds() -> None:
    found = bradley_terry(frame([("p", "a", 0, "a", 1, 0.8), ("p", "a", 0, "a", 1, 0.6)]))
    assert found["score"].to_list() == pytest.approx([math.log(7 / 3) / 2, -math.log(7 / 3) / 2])


def test_bradley_terry_leaves_unscored_what_has_no_maximum() -> None:
    rows = [
        ("always wins", "a", 0, "a", 1, 1.0),
        ("two islands", "a", 0, "a", 1, 0.6),
        ("two islands", "a", 2, "a", 3, 0.6),
        ("a circle", "a", 0, "a", 1, 1.0),
        ("a circle", "a", 1, "a", 2, 1.0),
        ("a circle", "a", 2, "a", 0, 1.0),
        ("one loses to all", "a", 0, "a", 1, 0.5),
        ("one loses to all", "a", 0, "a", 2, 1.0),
        ("one loses to all", "a", 1, "a", 2, 1.0),
    ]
    found = bradley_terry(frame(rows))
    reasons = dict(found.group_by("prompt_id").agg(pl.col("unscored").unique().first()).rows())
    assert reasons == {
        "a circle": None,
        "always wins": "disconnected",
        "one loses to all": "disconnected",
        "two islands": "disconnected",
    }
    assert found.filter(pl.col("prompt_id") == "a circle")["score"].to_list() == pytest.approx([0, 0, 0])
    assert (found["score"].is_null() == found["unscored"].is_not_null()).all()


def test_bradley_terry_says_when_it_gave_up() -> None:
    rows = [("p", "a", 0, "a", 1, 0.9), ("p", "a", 1, "a", 2, 0.9), ("q", "a", 0, "a", 1, 0.5)]
    found = bradley_terry(frame(rows), max_iterations=2)
    assert found["unscored"].to_list() == ["not_converged"] * 3 + [None] * 2


@pytest.mark.parametrize("aggregate", AGGREGATIONS)
def test_the_order_of_comparisons_changes_no_bit(aggregate: Any) -> None:
    rows = games("order", 30)
    expected = aggregate(frame(rows))
    random.Random(7).shuffle(rows)
    assert aggregate(frame(rows)).equals(expected, null_equal=True)
    assert aggregate(frame([])).schema == expected.schema


def test_tables_are_comparisons_of_each_with_each() -> None:
    tables = pl.DataFrame({"prompt_id": ["p", "q"], "table": [[[0.5, 0.9], [0.1, 0.5]], [[0.5, None], [0.25, 0.5]]]})
    found = comparisons_of_tables(tables, of="probability", source="policy")
    assert found.rows() == [
        ("p", "policy", 0, "policy", 1, 0.9),
        ("p", "policy", 1, "policy", 0, 0.1),
        ("q", "policy", 1, "policy", 0, 0.25),
    ]
    assert preferences(found).filter(pl.col("prompt_id") == "q")["p"].to_list() == [0.75, 0.25]


@pytest.mark.parametrize("table", [[[0.5, 0.9]], [[0.5], [0.1, 0.5]], None, [[0.5, 0.5], None]])
def test_a_table_that_is_not_square_is_refused(table: Any) -> None:
    kind = pl.List(pl.List(pl.Float64))
    tables = pl.DataFrame({"prompt_id": ["p"], "table": [table]}, schema={"prompt_id": pl.String, "table": kind})
    with pytest.raises(InputError, match="'p' is not square"):
        comparisons_of_tables(tables, of="score", source="policy")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (("p", "a", 0, "a", 1, 1.2), "between 0 and 1"),
        (("p", "a", 0, "a", 1, -0.1), "between 0 and 1"),
        (("p", "a", 0, "a", 1, math.nan), "between 0 and 1"),
        (("p", "a", 0, "a", 1, None), "no null"),
        (("p", None, 0, "a", 1, 0.5), "no null"),
        (("p", "a", 0, "a", None, 0.5), "no null"),
    ],
)
def test_a_comparison_that_says_nothing_is_refused(row: tuple[Any, ...], what: str) -> None:
    with pytest.raises(InputError) as caught:
        win_rates(frame([("p", "a", 0, "a", 1, 0.5), row]))
    assert what in str(caught.value)


def test_a_frame_without_the_columns_is_refused() -> None:
    table = frame([("p", "a", 0, "a", 1, 0.5)])
    with pytest.raises(InputError, match="no column 'source_b'"):
        win_rates(table.drop("source_b"))
    with pytest.raises(InputError, match="have neither"):
        win_rates(table.drop("probability"))
    with pytest.raises(InputError, match="probability and score"):
        win_rates(table.with_columns(score=0.0))


def test_certain_comparisons_have_no_mean_score() -> None:
    with pytest.raises(InputError, match="'p' is certain"):
        mean_scores(frame([("p", "a", 0, "a", 1, 1.0)]))


# ----------------------------------------------------------------------------------------------- SPPO, GPO, labels


def five_answers(scores: list[float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "prompt_id": ["p"] * len(scores),
            "source": ["policy"] * len(scores),
            "index": list(range(len(scores))),
            "response": [f"answer {index}" for index in range(len(scores))],
            "score": scores,
        },
        schema_overrides={"score": pl.Float64},
    )


TABLE = [
    [0.0, 1.0, -2.0, 0.5],
    [-1.0, 0.0, 3.0, 0.25],
    [2.0, -3.0, 0.0, 1.5],
    [-0.5, -0.25, -1.5, 0.0],
]
"""Preference scores of four answers, no transitive order among them."""


def test_sppo_of_the_paper_takes_win_rates_of_the_comparisons() -> None:
    p = [[oracle.sigmoid(cell) for cell in row] for row in TABLE]
    compared = comparisons_of_tables(pl.DataFrame({"prompt_id": ["p"], "table": [TABLE]}), of="score", source="policy")
    for self_term in (True, False):
        rule = SPPO(probabilities="pairwise", self_term=self_term)
        [pair] = rule.pair(five_answers([None] * 4), comparisons=compared).pairs.rows(named=True)
        rates = [(sum(row) - (0 if self_term else 0.5)) / (4 if self_term else 3) for row in p]
        best, worst = rates.index(max(rates)), rates.index(min(rates))
        assert (pair["index_chosen"], pair["index_rejected"]) == (best, worst)
        assert pair["chosen_probs"] == pytest.approx(p[best][worst])
        assert pair["chosen_probs_win"] == pair["score_chosen"] == pytest.approx(rates[best])
        assert pair["chosen_probs_lose"] == pair["score_rejected"] == pytest.approx(rates[worst])


def test_sppo_of_the_code_makes_probabilities_of_the_mean_scores() -> None:
    """scripts/compute_prob.py: P_ij = sigmoid(score_i - score_j), win rates over five with 0.5 for itself."""
    scores = [0.3, -1.2, 2.5, 2.4, 0.0]
    [pair] = SPPO().pair(five_answers([*scores])).pairs.rows(named=True)
    p = [[oracle.sigmoid(one - other) for other in scores] for one in scores]
    assert (pair["index_chosen"], pair["index_rejected"]) == (2, 1)
    assert pair["chosen_probs"] == pytest.approx(p[2][1])
    assert pair["chosen_probs_win"] == pytest.approx(sum(p[2]) / 5)
    assert pair["chosen_probs_lose"] == pytest.approx(sum(p[1]) / 5)
    far = SPPO().pair(five_answers([1000.0, 0.0, -1000.0, 1.0, 2.0])).pairs.row(0, named=True)
    assert (far["chosen_probs_win"], far["chosen_probs_lose"]) == (0.9, 0.1)


CYCLE = [
    [0.0, 0.2, 0.2, 0.2, -4.0],
    [-0.2, 0.0, 3.0, 3.0, -0.5],
    [-0.2, -3.0, 0.0, 0.1, 0.5],
    [-0.2, -3.0, -0.1, 0.0, 0.5],
    [4.0, 0.5, -0.5, -0.5, 0.0],
]
"""Answer 0 beats three, narrowly, and loses one clearly; answer 1 beats two clearly; answer 3 beats one only."""


@pytest.mark.parametrize(
    ("ranking", "best", "worst"), [("borda", 0, 3), ("win_rate", 1, 3), ("mean_score", 1, 0), ("bradley_terry", 1, 3)]
)
def test_a_rule_ranks_by_comparisons_whatever_the_scores(ranking: Any, best: int, worst: int) -> None:
    compared = comparisons_of_tables(pl.DataFrame({"prompt_id": ["p"], "table": [CYCLE]}), of="score", source="policy")
    rule = ByComparisons(ranking=ranking)
    scores = {
        "borda": borda_counts,
        "win_rate": win_rates,
        "mean_score": mean_scores,
        "bradley_terry": bradley_terry,
    }[ranking](compared)["score"].to_list()
    for given in ([None] * 5, [9.0, 1.0, 2.0, 3.0, 4.0]):
        [pair] = rule.pair(five_answers(given), comparisons=compared).pairs.rows(named=True)
        assert (pair["index_chosen"], pair["index_rejected"]) == (best, worst)
        assert (pair["score_chosen"], pair["score_rejected"]) == (max(scores), min(scores))
    short = ByComparisons(ranking=ranking, rejected=Selection(by=(Highest(),)))
    second = sorted(scores)[-2]
    assert short.pair(five_answers([None] * 5), comparisons=compared).pairs["score_rejected"].to_list() == [second]


@pytest.mark.parametrize("doubled", [True, False])
def test_gpo_carries_the_mean_preference_scores(doubled: bool) -> None:
    compared = comparisons_of_tables(pl.DataFrame({"prompt_id": ["p"], "table": [TABLE]}), of="score", source="policy")
    means = [sum(row) / 4 for row in TABLE]
    best, worst = means.index(max(means)), means.index(min(means))
    times = 2 if doubled else 1
    [pair] = (
        GPO(preferences="pairwise", doubled=doubled)
        .pair(five_answers([None] * 4), comparisons=compared)
        .pairs.rows(named=True)
    )
    assert (pair["index_chosen"], pair["index_rejected"]) == (best, worst)
    assert pair["chosen_probs"] == pytest.approx(times * TABLE[best][worst])
    assert pair["chosen_probs_win"] == pytest.approx(times * means[best])
    assert pair["chosen_probs_lose"] == pytest.approx(times * means[worst])
    given = GPO(doubled=doubled).pair(five_answers([*means])).pairs.row(0, named=True)
    assert given["chosen_probs_win"] == pytest.approx(pair["chosen_probs_win"])
    assert given["chosen_probs"] == pytest.approx(times * (means[best] - means[worst]))


def test_answers_that_are_not_eligible_are_left_out_of_the_comparisons() -> None:
    compared = comparisons_of_tables(pl.DataFrame({"prompt_id": ["p"], "table": [TABLE]}), of="score", source="policy")
    answers = five_answers([None] * 4).with_columns(
        response=pl.when(pl.col("index") == 2).then(pl.lit(" ")).otherwise("response")
    )
    paired = SPPO(probabilities="pairwise").pair(answers, comparisons=compared)
    kept = [[oracle.sigmoid(cell) for at, cell in enumerate(row) if at != 2] for row in TABLE]
    [pair] = paired.pairs.rows(named=True)
    assert pair["n_eligible"] == 3
    assert pair["chosen_probs_win"] == pytest.approx(max(sum(row) / 3 for at, row in enumerate(kept) if at != 2))
    assert paired.ineligible["reason"].to_list() == ["blank"]


def test_an_answer_that_was_never_compared_is_unscored() -> None:
    table = frame([("p", "policy", 0, "policy", 1, 0.7)])
    paired = SPPO(probabilities="pairwise").pair(five_answers([9.0, 8.0, 7.0]), comparisons=table)
    assert paired.ineligible.select("reason", "detail", "index").rows() == [("unscored", "not_compared", 2)]
    assert paired.pairs["score_chosen"].to_list() == [0.6]


@pytest.mark.parametrize(
    "rule",
    [
        SPPO(probabilities="pairwise"),
        GPO(preferences="pairwise"),
        ByComparisons(ranking="borda"),
        BestVsWorst(label=ComparisonLabel()),
    ],
)
def test_a_rule_that_needs_comparisons_says_so(rule: Any) -> None:
    assert rule.needs_comparisons()
    with pytest.raises(InputError, match="needs comparisons"):
        rule.pair(five_answers([1.0, 2.0]))
    assert rule.problems() == []
    with pytest.raises(InputError, match="a candidate that is not in the table"):
        rule.pair(five_answers([1.0, 2.0]), comparisons=frame([("p", "policy", 0, "teacher", 0, 0.5)]))
    twice = pl.concat([five_answers([1.0, 2.0])] * 2)
    with pytest.raises(InputError, match="two candidates are named"):
        rule.pair(twice, comparisons=frame([("p", "policy", 0, "policy", 1, 0.5)]))


def test_narrow_numbers_and_other_columns_make_no_difference() -> None:
    table = frame([("p", "policy", 0, "policy", 1, 0.7)])
    narrow = table.cast({"index_a": pl.Int8, "index_b": pl.UInt32, "probability": pl.Float32}).with_columns(judge=1)
    answers = five_answers([1.0, 2.0])
    rule = SPPO(probabilities="pairwise")
    assert rule.pair(answers, comparisons=narrow.reverse()).pairs["chosen_probs"].to_list() == pytest.approx([0.7])
    with pytest.raises(InputError, match="no column 'index_b'"):
        rule.pair(answers, comparisons=table.drop("index_b"))


def test_a_label_is_the_probability_of_the_comparison_or_null() -> None:
    rule = BestVsWorst(label=ComparisonLabel())
    compared = frame([("p", "policy", 0, "policy", 1, 0.2), ("p", "policy", 0, "policy", 2, 0.1)])
    answers = five_answers([1.0, 3.0, 2.0])
    assert rule.pair(answers, comparisons=compared).pairs["label_chosen"].to_list() == [0.8]
    assert rule.pair(answers, comparisons=compared[1:]).pairs["label_chosen"].to_list() == [None]


@pytest.mark.parametrize("self_term", [True, False])
def test_sppo_with_a_preference_model_takes_twice_the_log_odds(self_term):
    """compute_prob_from_raw.py: picks by the mean score, keeps the sigmoid of the table minus its transpose."""
    odds = [[0.0, 1.5, -0.25], [-1.5, 0.0, 2.0], [0.25, -2.0, 0.0]]
    frame = comparisons_of_tables(pl.DataFrame({"prompt_id": ["p"], "table": [odds]}), of="score", source="s")
    candidates = pl.DataFrame(
        {"prompt_id": "p", "source": "s", "index": range(3), "response": list("abc"), "score": [0.0] * 3}
    )
    rule = SPPO(probabilities="doubled", self_term=self_term)
    assert rule.needs_log_odds()
    [pair] = rule.pair(candidates, comparisons=frame).pairs.rows(named=True)
    assert (pair["index_chosen"], pair["index_rejected"]) == (0, 2)
    assert pair["score_chosen"] == pytest.approx(1.25 / 3)

    def rate(i):
        all_p = [1 / (1 + math.exp(-2 * odds[i][j])) for j in range(3) if self_term or j != i]
        return sum(all_p) / len(all_p)

    assert pair["chosen_probs"] == pytest.approx(1 / (1 + math.exp(0.5)))
    assert pair["chosen_probs_win"] == pytest.approx(rate(0))
    assert pair["chosen_probs_lose"] == pytest.approx(rate(2))
