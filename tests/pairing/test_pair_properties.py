"""What holds for every rule, whatever the table: order, splitting, conservation, scale and names don't matter."""

from __future__ import annotations

import io
import random
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import why_ineligible
from strategies import DEFAULTS, RULES, SCHEMA, Row, any_rule, frame, many_prompts, rows

from prefdata.errors import InputError
from prefdata.pairing import Paired, PairRule

TABLES = ("pairs", "drops", "ineligible")
few = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def file_bytes(paired: Paired) -> list[bytes]:
    """The three tables as Arrow IPC and as Parquet files.

    The IPC files have plain strings: string views would show in which order the texts lie in memory.
    """
    files = []
    for name in TABLES:
        table: pl.DataFrame = getattr(paired, name)
        ipc, parquet = io.BytesIO(), io.BytesIO()
        table.write_ipc(ipc, compat_level=pl.CompatLevel.oldest())
        table.write_parquet(parquet)
        files += [ipc.getvalue(), parquet.getvalue()]
    return files


# -------------------------------------------------------------------------------------------------- order of rows


@few
@given(rule=any_rule, table=rows(), data=st.data())
def test_the_order_of_rows_changes_no_byte(rule: PairRule, table: list[Row], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(table))
    assert file_bytes(rule.pair(frame(table))) == file_bytes(rule.pair(frame(shuffled)))


@pytest.mark.parametrize("kind", RULES)
def test_the_order_of_many_rows_and_the_chunks_they_come_in_change_no_byte(kind: str) -> None:
    table = many_prompts(kind, 300)
    rule = DEFAULTS[kind]()
    expected = file_bytes(rule.pair(frame(table)))
    assert file_bytes(rule.pair(frame(table[::-1]))) == expected
    random.Random(kind).shuffle(table)
    pieces = [frame(table[start : start + 97]) for start in range(0, len(table), 97)]
    chunked = pl.concat(pieces, rechunk=False)
    assert chunked.n_chunks() > 3
    assert file_bytes(rule.pair(chunked)) == expected


@pytest.mark.parametrize("kind", RULES)
def test_the_order_of_columns_and_columns_of_others_change_no_byte(kind: str) -> None:
    table = frame(many_prompts(kind, 50))
    rule = DEFAULTS[kind]()
    more = table.select(reversed(table.columns)).with_columns(
        seed=pl.lit(1), n_tokens=pl.lit(None, pl.Int64), row=pl.lit("x"), length=pl.lit("y"), tied=pl.lit(2)
    )
    assert file_bytes(rule.pair(more)) == file_bytes(rule.pair(table))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("model", ("m", "k")),
        ("unscored", ("missing", "unparsed")),
        pytest.param(
            "score",
            (0.0, -0.0),
        ),
    ],
)
def test_rows_that_differ_in_one_other_column_only_may_come_in_any_order(column: str, values: tuple[Any, Any]) -> None:
    score = None if column == "unscored" else 0.0
    row = {"prompt_id": "p", "source": "a", "index": 0, "response": "x", "score": score}
    other = row | {"source": "b", "response": "yy", "score": -1.0}
    table = [row | {column: values[0]}, row | {column: values[1]}, other]
    rule = DEFAULTS["wpo_hybrid_v2"]()
    assert file_bytes(rule.pair(frame(table))) == file_bytes(rule.pair(frame(table[::-1])))


# --------------------------------------------------------------------------------------------- prompts stand alone


@few
@given(rule=any_rule, table=rows(), data=st.data())
def test_two_calls_on_parts_of_the_prompts_give_what_one_call_gives(
    rule: PairRule, table: list[Row], data: st.DataObject
) -> None:
    prompts = sorted({row["prompt_id"] for row in table} | {"no answers"})
    first = set(data.draw(st.lists(st.sampled_from(prompts), unique=True)))
    parts = [
        rule.pair(frame([row for row in table if (row["prompt_id"] in first) == here]), ids)
        for here, ids in ((True, first), (False, set(prompts) - first))
    ]
    whole = rule.pair(frame(table), prompts)
    for name in TABLES:
        together = pl.concat([getattr(part, name) for part in parts]).sort("prompt_id", maintain_order=True)
        assert together.equals(getattr(whole, name), null_equal=True)
        assert together.schema == getattr(whole, name).schema


@pytest.mark.parametrize("kind", RULES)
def test_every_prompt_and_every_candidate_is_accounted_for_once(kind: str) -> None:
    table = many_prompts(kind, 400)
    prompts = {row["prompt_id"] for row in table} | {"no answers", "none either"}
    paired = DEFAULTS[kind]().pair(frame(table), prompts)
    assert sorted([*paired.pairs["prompt_id"].unique(), *paired.drops["prompt_id"]]) == sorted(prompts)
    numbered = paired.pairs.select(place=pl.int_range(pl.len()).over("prompt_id"), given="pair_index")
    assert (numbered["place"] == numbered["given"]).all()
    assert (paired.pairs["score_margin"] > 0).all()
    assert (paired.pairs["response_chosen"] != paired.pairs["response_rejected"]).all()

    refused = paired.ineligible.group_by("prompt_id").len()
    counted = paired.pairs.join(refused, on="prompt_id", how="left").fill_null(0)
    assert (counted["n_candidates"] == counted["n_eligible"] + counted["len"]).all()
    of_prompt: dict[str, int] = {}
    for row in table:
        of_prompt[row["prompt_id"]] = of_prompt.get(row["prompt_id"], 0) + 1
    assert dict(paired.pairs.select("prompt_id", "n_candidates").rows()).items() <= of_prompt.items()
    said = paired.drops.select(
        "prompt_id",
        eligible=pl.col("detail").str.extract(r"^(\d+) of").cast(pl.Int64),
        candidates=pl.col("detail").str.extract(r" of (\d+) candidates").cast(pl.Int64),
    ).join(refused, on="prompt_id", how="left")
    for prompt_id, eligible, candidates, n_refused in said.fill_null(0).rows():
        assert candidates == of_prompt.get(prompt_id, 0)
        assert eligible + n_refused == candidates
    assert len(paired.ineligible) > 100


@few
@given(rule=any_rule, table=rows())
def test_a_prompt_alone_gives_what_it_gives_among_others(rule: PairRule, table: list[Row]) -> None:
    whole = rule.pair(frame(table))
    for prompt_id in {row["prompt_id"] for row in table}:
        alone = rule.pair(frame([row for row in table if row["prompt_id"] == prompt_id]))
        for name in TABLES:
            there = getattr(whole, name).filter(pl.col("prompt_id") == prompt_id)
            assert getattr(alone, name).equals(there, null_equal=True)


@pytest.mark.parametrize("kind", [kind for kind in RULES if kind not in ("wpo_hybrid_v1", "ultrafeedback_binarized")])
def test_a_prompt_under_another_id_gives_the_same_picks(kind: str) -> None:
    table = many_prompts(f"twin {kind}", 300)
    twins = [row | {"prompt_id": f"twin of {row['prompt_id']}"} for row in table]
    paired = DEFAULTS[kind]().pair(frame([*twins, *table]))
    for name in TABLES:
        found: pl.DataFrame = getattr(paired, name)
        of_twin = found["prompt_id"].str.starts_with("twin of ")
        back = (
            found.filter(of_twin)
            .with_columns(pl.col("prompt_id").str.strip_prefix("twin of "))
            .sort("prompt_id", maintain_order=True)
        )
        assert back.equals(found.filter(~of_twin), null_equal=True)
        assert not back.is_empty()


@pytest.mark.parametrize("kind", RULES)
def test_answers_that_are_not_eligible_don_t_change_the_pick(kind: str) -> None:
    table = many_prompts(kind, 300)
    rule = DEFAULTS[kind]()
    with_them = rule.pair(frame(table))
    refused = set(with_them.ineligible.select("prompt_id", "source", "index").rows())
    only_eligible = [row for row in table if why_ineligible(row, ()) is None]
    assert len(only_eligible) == len(table) - len(with_them.ineligible) < len(table)
    without_them = rule.pair(frame(only_eligible), {row["prompt_id"] for row in table})
    assert refused
    assert without_them.ineligible.is_empty()
    assert without_them.pairs.drop("n_candidates").equals(with_them.pairs.drop("n_candidates"))
    assert without_them.drops.drop("detail").equals(with_them.drops.drop("detail"))


def test_the_tables_have_the_same_columns_and_types_with_and_without_rows() -> None:
    empty = pl.DataFrame(schema=SCHEMA)
    for kind in RULES:
        make = DEFAULTS[kind]
        nothing = make().pair(empty)
        something = make().pair(frame(many_prompts(kind, 100)))
        bare = make().pair(frame(many_prompts(kind, 100), without=("model", "finish_reason", "unscored")))
        for name in TABLES:
            assert getattr(nothing, name).is_empty()
            assert not getattr(something, name).is_empty()
            schema = getattr(nothing, name).schema
            assert schema == getattr(something, name).schema == getattr(bare, name).schema


def test_narrow_integer_scores_and_indexes_give_the_same_pairs() -> None:
    rule = DEFAULTS["wpo_hybrid_v1"]()
    table = frame(many_prompts("narrow", 200)).with_columns(pl.col("score").floor())
    narrow = table.with_columns(pl.col("score").cast(pl.Int8))
    assert file_bytes(rule.pair(narrow)) == file_bytes(rule.pair(table))


# ------------------------------------------------------------------------------------------------- scale and names


@pytest.mark.parametrize(
    "kind", ["wpo_hybrid_v2", "best_vs_worst", "snorkel_pairrm", "ultrafeedback_binarized", "top_k_vs_bottom_k", "gpo"]
)
@pytest.mark.parametrize(("scale", "shift"), [(2.0**20, 0), (2.0**-30, 3), (1.0, -100), (0.25, 7.5)])
def test_scaled_and_shifted_scores_give_the_same_picks(kind: str, scale: float, shift: float) -> None:
    rule = DEFAULTS[kind]()
    table = frame(many_prompts(f"{kind} {scale}", 500))
    moved = table.with_columns(score=(pl.col("score") + shift) * scale)
    score_columns = ["score_chosen", "score_rejected", "score_margin"]
    score_columns += rule.extra_columns()
    before, after = rule.pair(table), rule.pair(moved)
    assert before.pairs.drop(score_columns).equals(after.pairs.drop(score_columns))
    assert (before.pairs["score_margin"] * scale).equals(after.pairs["score_margin"])
    # The details hold scores.
    assert before.drops.drop("detail").equals(after.drops.drop("detail"))
    assert before.pairs.height > 50


@pytest.mark.parametrize("kind", RULES)
def test_sources_renamed_in_the_same_order_give_the_same_picks(kind: str) -> None:
    rule = DEFAULTS[kind]()
    table = many_prompts(kind, 300)
    old = sorted({row["source"] for row in table} - {None})
    new = {source: f"{place:03d}" for place, source in enumerate(old)} | {None: None}
    before = rule.pair(frame(table))
    renamed_rule = rule
    if kind == "dno":
        renamed_rule = type(rule).model_validate(rule.dump() | {"teacher": [new["teacher"]]})
    after = renamed_rule.pair(frame([row | {"source": new[row["source"]]} for row in table]))
    back = {name: source for source, name in new.items()}
    for name, columns in (("pairs", ("source_chosen", "source_rejected")), ("ineligible", ("source",))):
        renamed = getattr(after, name).with_columns(
            pl.Series(column, [back[value] for value in getattr(after, name)[column]], pl.String) for column in columns
        )
        assert renamed.equals(getattr(before, name), null_equal=True)
    assert after.drops.equals(before.drops)


def test_sources_renamed_in_another_order_change_ties_only() -> None:
    rule = DEFAULTS["best_vs_worst"]()
    table = [row for row in many_prompts("mirror", 400) if row["source"] is not None]
    mirrored = {source: f"{999 - place}" for place, source in enumerate(sorted({row["source"] for row in table}))}
    before = rule.pair(frame(table)).pairs
    after = rule.pair(frame([row | {"source": mirrored[row["source"]]} for row in table])).pairs
    both = before.join(after, on="prompt_id", suffix="_after")
    moved = both.filter(pl.col("response_chosen") != pl.col("response_chosen_after"))
    assert 0 < moved.height < both.height
    assert (both["score_chosen"] == both["score_chosen_after"]).all()
    # Another chosen text admits other rejected ones, so a tie may also decide whether there is a pair.
    on_one_side = [before.join(after, on="prompt_id", how="anti"), after.join(before, on="prompt_id", how="anti")]
    for changed in (moved, *on_one_side):
        assert (changed["decided_chosen"] == "order").all()


# ----------------------------------------------------------------------------------------- NaN, infinity and null


@pytest.mark.parametrize(("bad", "role"), [(float("nan"), "chosen"), (None, "rejected")])
def test_a_plain_polars_rule_would_pick_the_answer_without_a_number(bad: float | None, role: str) -> None:
    table = pl.DataFrame({"name": ["bad", "low", "high"], "score": [bad, 1.0, 2.0]})
    [plain] = (
        table.sort("score")
        .select(
            chosen=pl.col("name").last(),
            rejected=pl.col("name").first(),
            margin=pl.col("score").max() - pl.col("score").min(),
        )
        .rows(named=True)
    )
    assert plain[role] == "bad"
    assert plain["margin"] == 1.0


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", RULES)
def test_a_score_that_is_no_finite_number_is_refused(kind: str, score: float) -> None:
    table = frame(many_prompts("finite", 20)).with_columns(
        score=pl.when(pl.int_range(pl.len()) == 7).then(score).otherwise("score")
    )
    with pytest.raises(InputError) as caught:
        DEFAULTS[kind]().pair(table)
    assert repr(table["prompt_id"][7]) in caught.value.problem
    assert caught.value.valid
    assert caught.value.hint


def test_a_score_that_is_no_finite_number_is_refused_on_an_ineligible_answer_too() -> None:
    row = {"prompt_id": "p", "source": "a", "index": 0, "response": None, "score": float("nan")}
    with pytest.raises(InputError):
        DEFAULTS["best_vs_worst"]().pair(frame([row]))


def test_a_candidate_without_a_prompt_id_is_refused() -> None:
    row = {"prompt_id": None, "source": "a", "index": 0, "response": "x", "score": 1.0}
    with pytest.raises(InputError):
        DEFAULTS["best_vs_worst"]().pair(frame([row]))


@pytest.mark.parametrize("kind", RULES)
def test_null_scores_are_never_picked(kind: str) -> None:
    table = [
        {"prompt_id": "p", "source": "a", "index": index, "response": text, "score": score}
        for index, (text, score) in enumerate((("none", None), ("low, but long enough", 1.0), ("high", 6.0)))
    ]
    paired = DEFAULTS[kind]().pair(frame(table))
    [pair] = paired.pairs.rows(named=True)
    assert {pair["response_chosen"], pair["response_rejected"]} <= {"low, but long enough", "high"}
    assert paired.ineligible["reason"].to_list() == ["unscored"]


def test_candidates_of_prompts_that_were_not_asked_for_are_refused() -> None:
    rows = [{"prompt_id": name, "source": "a", "index": 0, "response": "x", "score": 1.0} for name in ("p", "q")]
    with pytest.raises(InputError, match="'p'"):
        DEFAULTS["best_vs_worst"]().pair(frame(rows), ["q"])


@pytest.mark.parametrize("column", ["prompt_id", "source", "index", "response", "score"])
def test_a_missing_column_is_named(column: str) -> None:
    row = {"prompt_id": "p", "source": "a", "index": 0, "response": "x", "score": 1.0}
    with pytest.raises(InputError, match=f"no column '{column}'"):
        DEFAULTS["best_vs_worst"]().pair(frame([row]).drop(column))


def test_scores_that_are_texts_are_refused() -> None:
    row = {"prompt_id": "p", "source": "a", "index": 0, "response": "x", "score": 1.0}
    with pytest.raises(InputError, match="'score' is of type String"):
        DEFAULTS["best_vs_worst"]().pair(frame([row]).with_columns(score=pl.lit("1")))
