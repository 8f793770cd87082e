"""`prefdata pair`: the order of rows changes nothing, and no table at all loses a prompt."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefdata.records import prompt_id_of

WHY = prompt_id_of([{"role": "user", "content": "Why?"}])
TALK = [
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": "So?"},
]


def answer(prompt, response, score, **more):
    return {"prompt": prompt, "response": response, "score": score, **more}


# The order of rows.


def messy(number=60):
    """Rows with ties, blanks, doubles, nulls and rows that differ in what no rule looks at."""
    dice = random.Random(5)
    rows = []
    for _ in range(number):
        row = answer(
            dice.choice(["Why?", "How?", None, "Who?", ""]),
            dice.choice(["a", "bb", "ccc", " ", None, "dd"]),
            dice.choice([1, 1, 2, "2", None, "x", [3]]),
        )
        row |= {
            "source": dice.choice(["s", "t", None]),
            "index": dice.choice([0, 1, None]),
            "model": dice.choice(["m", "n", None]),
        }
        row |= {
            "prompt_id": dice.choice([None, "p1", "p2"]) if row["prompt"] is None else None,
            "finish_reason": dice.choice(["stop", "length", None]),
        }
        rows.append(row)
    return rows


@pytest.mark.parametrize("rule", ["wpo_hybrid_v2", "ultrafeedback_binarized"])
@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_permuting_rows_changes_no_byte_of_any_file(pair, rule, name):
    rows = messy()
    if name == "t.parquet":
        rows = [{**row, "score": str(row["score"])} for row in rows]
    first = pair(rows, name=name, rule=rule).files
    assert len(first) >= 7
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        assert pair(rows, name=name, rule=rule).files == first


def test_minus_zero_is_zero(pair):
    rows = [
        answer("Why?", "good", 0.0, source="s"),
        answer("Why?", "good", -0.0, source="s"),
        answer("Why?", "bad", -1.0),
    ]
    for name in ("t.jsonl", "t.parquet"):
        assert pair(rows, name=name).files == pair([rows[1], rows[0], rows[2]], name=name).files
        assert str(pair(rows[1:], name=name).pairs[0]["score_chosen"]) == "0.0"


def test_pairing_twice_into_one_folder_replaces_it_with_the_same_bytes(prefdata, pair, tmp_path):
    paired = pair([answer("Why?", "good", 2), answer("Why?", "bad", 1)])
    before = paired.files
    path = next(paired.folder.parent.glob("table.jsonl"))
    assert prefdata("pair", path, "--rule", "wpo_hybrid_v2", "--out", paired.folder).code == 0
    assert paired.files == before
    assert sorted(child.name for child in paired.folder.parent.iterdir()) == ["out", "table.jsonl"]


# Any table at all.

TEXTS = st.one_of(st.none(), st.sampled_from(["", " ", "a", "bb", "cc", "ünï", "a\nb"]), st.text(max_size=4))
SCORES = st.one_of(
    st.none(),
    st.integers(-2, 3),
    st.floats(),
    st.booleans(),
    st.sampled_from(["1", "2.0", "x", "", [1], [1, 2], [], {"a": 1}]),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "prompt_id": st.sampled_from([None, "p", "q", "", 3]),
            "prompt": st.one_of(st.sampled_from([None, "P", "Q", "", TALK, [], 4]), st.text(max_size=3)),
            "response": TEXTS,
            "score": SCORES,
        },
        optional={"source": st.sampled_from([None, "s", "t", 1]), "index": st.sampled_from([None, 0, 1, "2"])},
    ),
    min_size=1,
    max_size=14,
)


def expected(rows):
    """The hybrid-v2 rule in plain Python over rows whose prompt is the same everywhere: chosen, rejected, or None."""
    usable = [row for row in rows if isinstance(row["response"], str) and row["response"].strip()]
    usable = [row for row in usable if isinstance(row["score"], int | float) and not isinstance(row["score"], bool)]
    order = sorted(usable, key=lambda row: (row["source"], row["index"], row["response"]))
    if not order:
        return None
    best = min(order, key=lambda row: (-row["score"], len(row["response"])))
    lower = [row for row in order if row["score"] < best["score"] and row["response"] != best["response"]]
    if not lower:
        return None
    worst = min(lower, key=lambda row: (row["score"], abs(len(row["response"]) - len(best["response"]))))
    return best["response"], worst["response"]


slow_file_system = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@slow_file_system
@given(rows=ROWS)
def test_no_table_loses_a_prompt(pair, rows):
    asked = {row["prompt_id"] for row in rows if row["prompt_id"] not in (None, "")}
    paired = pair(rows)
    told = {row["prompt_id"] for row in (*paired.pairs, *paired.drops)}
    assert {str(prompt_id) for prompt_id in asked} <= told
    assert paired.said["candidates"] == len(rows)


@slow_file_system
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "prompt": st.just("Why?"),
                "response": TEXTS,
                "score": st.one_of(st.none(), st.integers(-1, 2), st.just("x"), st.booleans()),
                "source": st.sampled_from("ab"),
                "index": st.integers(0, 2),
            }
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_rule_is_carried_out_as_plain_python_does(pair, rows):
    picked = expected(rows)
    assert pair(rows).picks == ({} if picked is None else {WHY: picked})
