"""The numbers of an audit against plain Python, written from `docs/audit.md`."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import polars as pl
import pytest

from prefdata.dataset.measures import Auditor

SIDES = ("chosen", "rejected")


def mean_ranks(values):
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def spearman(xs, ys):
    """None where one of the two does not vary."""
    a, b = mean_ranks(xs), mean_ranks(ys)
    mean = (len(xs) + 1) / 2
    cov = sum((p - mean) * (q - mean) for p, q in zip(a, b, strict=True))
    var_a, var_b = sum((p - mean) ** 2 for p in a), sum((q - mean) ** 2 for q in b)
    return cov / (var_a * var_b) ** 0.5 if var_a and var_b else None


def mean(values):
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else None


def oracle(rows, pairs):
    answers = [row for row in rows if row["score"] is not None and row["response"] is not None]
    by_prompt, by_source = defaultdict(list), defaultdict(list)
    for row in answers:
        by_prompt[row["prompt_id"]].append(row)
        by_source[row["prompt_id"], row["source"]].append(row)

    def correlation(groups, value):
        kept = [[(r["score"], value(r)) for r in group if value(r) is not None] for group in groups.values()]
        return mean([spearman(*zip(*group, strict=True)) for group in kept if group])

    contests = [[row["score"] for row in group] for group in by_prompt.values() if len(group) > 1]
    drawn = Counter(row["source"] or "?" for row in answers)
    side = {name: Counter(pair[f"source_{name}"] or "?" for pair in pairs) for name in SIDES}

    def bias(name):
        if not pairs or not answers:
            return None
        everybody = {*drawn, *side["chosen"], *side["rejected"]}
        return max(abs(side[name][source] / len(pairs) - drawn[source] / len(answers)) for source in everybody)

    return {
        "chosen_longer": mean([pair["length_chosen"] > pair["length_rejected"] for pair in pairs]),
        "length_difference": mean([pair["length_chosen"] - pair["length_rejected"] for pair in pairs]),
        "score_length_correlation": correlation(by_prompt, lambda row: len(row["response"])),
        "score_index_correlation": correlation(by_source, lambda row: row["index"]),
        "score_place_correlation": correlation(by_prompt, lambda row: row.get("place")),
        "source_bias_chosen": bias("chosen"),
        "source_bias_rejected": bias("rejected"),
        "tied_chosen": mean([pair["n_tied_chosen"] > 1 for pair in pairs]),
        "tied_rejected": mean([pair["n_tied_rejected"] > 1 for pair in pairs]),
        "tied_top": mean([scores.count(max(scores)) > 1 for scores in contests]),
        "tied_bottom": mean([scores.count(min(scores)) > 1 for scores in contests]),
        "all_tied": mean([len(set(scores)) == 1 for scores in contests]),
        "repeated_texts": 1 - len({(row["prompt_id"], row["response"]) for row in answers}) / len(answers),
        "unscored": mean([row["score"] is None for row in rows]),
    }


def messy(seed, prompts=30):
    """Rows with ties, repeats, missing scores and texts, prompts of one answer; and pairs of no rule in particular."""
    draw = random.Random(seed)
    rows, pairs = [], []
    for number in range(prompts):
        for source in draw.sample(["a", "b", "é", None], draw.randint(1, 3)):
            rows += [
                {
                    "prompt_id": f"p{number}",
                    "source": source,
                    "index": index if draw.random() < 0.9 else None,
                    "score": draw.choice([None, -1.5, 0.0, 1.0, 2.0, 7.25]),
                    "response": draw.choice([None, "", "ä" * 3, "same", "x" * draw.randint(1, 9), "日本語 " * 2]),
                    "place": draw.choice([None, *range(6)]),
                }
                for index in range(draw.randint(0, 4))
            ]
        if draw.random() < 0.7:
            pairs.append(
                {
                    f"{what}_{side}": value
                    for side in SIDES
                    for what, value in {
                        "source": draw.choice(["a", "b", None]),
                        "length": draw.randint(0, 9),
                        "n_tied": draw.randint(1, 3),
                    }.items()
                }
            )
    return rows, pairs


CANDIDATES = {
    "prompt_id": pl.String,
    "source": pl.String,
    "index": pl.Int64,
    "score": pl.Float64,
    "response": pl.String,
    "place": pl.Int64,
}
PAIRS = {
    f"{what}_{side}": kind
    for side in SIDES
    for what, kind in {"source": pl.String, "length": pl.Int64, "n_tied": pl.Int64}.items()
}


def audited(*parts):
    auditor = Auditor()
    for rows, pairs in parts:
        auditor.add(pl.DataFrame(rows, CANDIDATES), pl.DataFrame(pairs, PAIRS))
    return auditor.result()


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value, abs=6e-5)), name


@pytest.mark.parametrize("seed", range(25))
def test_the_measures_are_those_of_plain_python(seed):
    rows, pairs = messy(seed)
    same(audited((rows, pairs))["measures"], oracle(rows, pairs))


@pytest.mark.parametrize("seed", range(10))
def test_neither_order_nor_cuts_change_a_digit(seed):
    rows, pairs = messy(seed)
    whole = audited((rows, pairs))
    draw = random.Random(seed)
    shuffled = draw.sample(rows, len(rows))
    assert audited((shuffled, draw.sample(pairs, len(pairs)))) == whole
    parts = [([row for row in shuffled if int(row["prompt_id"][1:]) % 3 == part], []) for part in range(3)]
    assert audited(*parts, ([], pairs[:5]), ([], pairs[5:])) == whole


def test_what_a_streaming_caller_knows_is_enough():
    rows, pairs = messy(3)
    seen, narrow = set(), []
    for row in rows:
        text, usable = row["response"], row["score"] is not None and row["response"] is not None
        repeats = usable and (row["prompt_id"], text) in seen
        if usable:
            seen.add((row["prompt_id"], text))
        narrow.append({**row, "length": None if text is None else len(text), "repeats": repeats})
    auditor = Auditor()
    frame = pl.DataFrame(narrow, {**CANDIDATES, "length": pl.Int64, "repeats": pl.Boolean}).drop("response")
    auditor.add(frame, pl.DataFrame(pairs, PAIRS))
    assert auditor.result() == audited((rows, pairs))


def test_known_correlations():
    def rows(scores, texts):
        return [
            {"prompt_id": "p", "source": "s", "index": i, "score": s, "response": "x" * n, "place": None}
            for i, (s, n) in enumerate(zip(scores, texts, strict=True))
        ]

    measures = audited((rows([1, 2, 3], [5, 9, 11]), []))["measures"]
    assert measures["score_length_correlation"] == 1.0
    assert measures["score_index_correlation"] == 1.0
    assert measures["score_place_correlation"] is None
    # Scores 1, 2, 3, 4 against lengths 2, 1, 4, 3: squared rank differences 1 + 1 + 1 + 1, so 1 - 6·4 / (4·15).
    assert audited((rows([1, 2, 3, 4], [2, 1, 4, 3]), []))["measures"]["score_length_correlation"] == 0.6
    assert audited((rows([3, 2, 1], [5, 9, 11]), []))["measures"]["score_length_correlation"] == -1.0
    for flat in (([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [1, 1, 1]), ([1], [1])):
        assert audited((rows(*flat), []))["measures"]["score_length_correlation"] is None


def test_sources_are_shares_of_answers_and_of_both_sides():
    rows = [
        {"prompt_id": f"p{n}", "source": source, "index": 0, "score": 1.0, "response": source, "place": None}
        for n in range(2)
        for source in ("teacher", "a", "b", "c")
    ]
    pair = {"length_chosen": 1, "length_rejected": 1, "n_tied_chosen": 1, "n_tied_rejected": 1}
    pairs = [{**pair, "source_chosen": "teacher", "source_rejected": side} for side in ("a", "b")]
    result = audited((rows, pairs))
    assert result["sources"] == {
        "teacher": {"candidates": 0.25, "chosen": 1.0, "rejected": 0.0},
        "a": {"candidates": 0.25, "chosen": 0.0, "rejected": 0.5},
        "b": {"candidates": 0.25, "chosen": 0.0, "rejected": 0.5},
        "c": {"candidates": 0.25, "chosen": 0.0, "rejected": 0.0},
    }
    assert (result["measures"]["source_bias_chosen"], result["measures"]["source_bias_rejected"]) == (0.75, 0.25)


def test_nothing_has_no_numbers():
    result = audited(([], []))
    assert set(result["measures"].values()) == {None}
    assert set(result["counts"].values()) == {0}


def test_one_prompt_of_many_answers_does_not_overflow():
    rows = [
        {"prompt_id": "p", "source": "s", "index": i, "score": float(i), "response": "x", "place": 50_000 - i}
        for i in range(50_000)
    ]
    measures = audited((rows, []))["measures"]
    assert (measures["score_index_correlation"], measures["score_place_correlation"]) == (1.0, -1.0)
    assert measures["repeated_texts"] == 1.0  # 0.99998 to four digits


class Totalled(Counter):
    """Counts how often its total is computed, which takes as long as it has names."""

    asked = 0

    def total(self):
        Totalled.asked += 1
        return super().total()


@pytest.mark.parametrize("sources", [3, 300])
def test_the_work_of_an_audit_does_not_grow_with_the_square_of_its_sources(sources):
    auditor = Auditor()
    auditor._sources = {
        side: Totalled({f"source {n}": n + 1 for n in range(sources)}) for side in ("candidates", "chosen", "rejected")
    }
    Totalled.asked = 0
    result = auditor.result()
    assert len(result["sources"]) == sources
    assert Totalled.asked <= 10
