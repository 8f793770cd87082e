"""Cells of several types in one column: each is read by what it holds, whatever stands beside it, in every format."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_forms import table_of

from prefdata.errors import InputError
from prefdata.flow.from_table import pair
from prefdata.tables import scored_table
from prefdata.tables.whole_table import read_scored_table

NAN = float("nan")
FORMS = ("jsonl", "csv", "parquet", "arrow", "pandas", "polars")
SCORES = {
    "whole": (1, 1.0, None),
    "fraction": (2.5, 2.5, None),
    "text": ("3", 3.0, None),
    "long": (10**23, 1e23, None),
    "list": ([4], 4.0, None),
    "negative": (-(10**400), None, "not_a_number"),
    "word": ("N/A", None, "not_a_number"),
    "truth": (True, None, "not_a_number"),
    "object": ({"a": 1}, None, "not_a_number"),
    "nan": (NAN, None, "nan"),
    "infinite": (float("inf"), None, "not_finite"),
    "null": (None, None, "missing"),
}
"""How it is called → the cell, its score, and why it has none."""
NAMES = {
    "whole": (1, "1"),
    "float": (2.0, "2"),
    "fraction": (2.5, "2.5"),
    "text": ("x", "x"),
    "truth": (True, "true"),
    "long": (10**23, str(10**23)),
    "object": ({"b": 1, "a": NAN}, '{"a":null,"b":1}'),
    "nan": (NAN, None),
    "null": (None, None),
}
"""How it is called → the cell, and the name that it is."""


def candidates(table, *names):
    rows = read_scored_table(table).candidates.select([*dict.fromkeys(("prompt_id", "response", *names))])
    return rows.sort(pl.all()).rows()


def small_batches(monkeypatch, rows):
    monkeypatch.setattr(scored_table, "_BATCH_BYTES", 1 if rows == 1 else 4 << 20)


def in_shape(shape, cells, prompt):
    """A row with an answer for each cell, whose column or key is called `score` or `model`; lists as JSON texts."""
    answers = [{"response": f"a{at}", "score": 0, "model": "m", "index": at, **cell} for at, cell in enumerate(cells)]
    if shape == "objects":
        return {"prompt": prompt, "completions": json.dumps(answers)}
    lists = {f"{name}s": json.dumps([each[name] for each in answers]) for name in ("response", "score", "model")}
    return {"prompt": prompt, **lists}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["objects", "lists"])
@pytest.mark.parametrize("in_a_batch", [1, 1000])
@pytest.mark.parametrize("backwards", [False, True])
def test_scores_of_several_types_are_read_one_by_one(tmp_path, monkeypatch, form, shape, in_a_batch, backwards):
    small_batches(monkeypatch, in_a_batch)
    kinds = [["whole", "whole"], *([kind, "whole"] for kind in SCORES), [*SCORES], ["fraction", "null"]]
    rows = [in_shape(shape, [{"score": SCORES[kind][0]} for kind in each], f"q{n}") for n, each in enumerate(kinds)]
    scored = read_scored_table(table_of(form, rows[::-1] if backwards else rows, tmp_path))
    found = scored.candidates.sort("prompt_id", "index").select("prompt_id", "score", "unscored")
    prompts = {row["messages"][0]["content"]: row["prompt_id"] for row in scored.prompts.to_dicts()}
    for n, each in enumerate(kinds):
        mine = found.filter(pl.col("prompt_id") == prompts[f"q{n}"]).drop("prompt_id").rows()
        assert mine == [SCORES[kind][1:] for kind in each]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["objects", "lists"])
@pytest.mark.parametrize("in_a_batch", [1, 1000])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_name_is_spelt_as_an_id_whatever_stands_beside_it(tmp_path, monkeypatch, form, shape, in_a_batch, backwards):
    small_batches(monkeypatch, in_a_batch)
    kinds = [["whole", "whole"], *([kind, "whole"] for kind in NAMES), ["float", "null"], [*NAMES]]
    rows = [in_shape(shape, [{"model": NAMES[kind][0]} for kind in each], f"q{n}") for n, each in enumerate(kinds)]
    found = read_scored_table(table_of(form, rows[::-1] if backwards else rows, tmp_path)).candidates
    expected = [(f"a{at}", NAMES[kind][1]) for each in kinds for at, kind in enumerate(each)]
    assert found.select("response", "model").sort(pl.all()).rows() == sorted(
        expected, key=lambda row: (row[0], row[1] is not None, row[1])
    )
    assert found["source"].to_list() == found["model"].to_list()


@pytest.mark.parametrize("in_a_batch", [1, 1000])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("role", ["source", "model", "index", "finish_reason", "n_tokens"])
def test_a_text_and_the_text_of_a_list_may_stand_in_one_column(tmp_path, monkeypatch, in_a_batch, backwards, role):
    small_batches(monkeypatch, in_a_batch)
    said = {"source": ("s", '["s","t"]'), "index": (None, "[3,4]"), "n_tokens": ("5", "[5,6]")}
    one, several = said.get(role, ("m", '["m","n"]'))
    rows = [{"prompt": f"q{n}", "responses": ["a", "b"], "scores": [1.0, 2.0], role: one} for n in range(3)]
    rows += [{**rows[0], "prompt": "z", role: several}, {**rows[0], "prompt": "y", "scores": None}]
    rows = rows[::-1] if backwards else rows
    expected = candidates(table_of("jsonl", rows, tmp_path), role, "score")
    assert len(expected) == 8
    for form in ("parquet", "arrow"):
        assert candidates(table_of(form, rows, tmp_path), role, "score") == expected


@pytest.mark.parametrize("form", FORMS)
def test_one_index_beside_several_answers_names_none_of_them(tmp_path, form):
    for answers in (["a", "b"], '["a", "b"]'):
        rows = [{"prompt": f"q{n}", "responses": answers, "scores": json.dumps([1, 2]), "index": n} for n in range(2)]
        found = candidates(table_of(form, rows, tmp_path), "index")
        assert sorted(row[1:] for row in found) == [("a", 0), ("a", 0), ("b", 1), ("b", 1)]


def test_many_batches_of_several_types_make_pairs(tmp_path):
    text = "x" * 2000
    for name, answers in {
        "lists": lambda n: {"responses": [f"{text}{n}", f"{text}b"], "scores": [1, 2] if n < 4500 else [1, "N/A"]},
        "objects": lambda n: {
            "completions": [
                {"response": f"{text}{n}", "score": 1 if n < 2500 else "N/A"},
                {"response": "b", "score": 2},
            ]
        },
    }.items():
        rows = [{"prompt": f"q{n}", **{key: json.dumps(cell) for key, cell in answers(n).items()}} for n in range(5000)]
        ledger = pair(table_of("parquet", rows, tmp_path), "best_vs_worst", tmp_path / name)
        assert (ledger["prompts"], ledger["candidates"]) == (5000, 10_000)
        assert ledger["pairs"] == (4500 if name == "lists" else 2500)


@pytest.mark.parametrize("form", FORMS)
def test_a_prompt_of_several_columns_stands_beside_lists_of_answers(tmp_path, form):
    rows = [in_shape("lists", [{"score": score} for score in (1, "N/A")], f"q{n}") | {"system": "s"} for n in range(2)]
    plain = {"prompt": "z", "system": "s", "response": ["a", "b"], "score": [1.0, 2.0]}
    for each, n_scored in ((rows, 1), ([plain, plain], 2)):
        scored = read_scored_table(table_of(form, each, tmp_path))
        assert scored.rows == 4
        assert [turns[0]["role"] for turns in scored.prompts["messages"].to_list()] == [
            "system"
        ] * scored.prompts.height
        assert scored.candidates["score"].count() == 2 * n_scored


# NaN, which pandas writes for a cell without a value.

CELLS = {
    "prompt_id": ["x", "x", "y", "y"],
    "prompt": ["q", "q", "z", "z"],
    "response": ["r0", "r1", "r2", "r3"],
    "system": ["s", "s", "t", "t"],
    "source": ["x", "y", "x", "y"],
    "model": ["x", "y", "x", "y"],
    "index": [0, 1, 2, 3],
    "finish_reason": ["stop", "stop", "length", "stop"],
    "n_tokens": [5, 6, 7, 8],
}


def everything(table):
    scored = read_scored_table(table)
    return [each.sort(pl.all()).rows() for each in (scored.candidates, scored.prompts, scored.drops)] + [scored.rows]


@pytest.mark.parametrize("role", CELLS)
@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_nan_is_null_in_every_column(tmp_path, role, at, form):
    have = {name: CELLS[name] for name in {"prompt": 0, "response": 0, role: 0}}
    rows = [{**{name: cells[n] for name, cells in have.items()}, "score": float(n)} for n in range(4)]
    rows[at][role] = None
    expected = everything(table_of(form, rows, tmp_path))
    rows[at][role] = NAN
    assert everything(table_of(form, rows, tmp_path)) == expected


@pytest.mark.parametrize("role", ["response", "source", "model", "index", "finish_reason", "n_tokens"])
@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "pandas", "polars"])
def test_nan_is_null_within_lists_and_objects(tmp_path, role, at, form):
    answers = [{"response": f"r{n}", "score": float(n), role: CELLS[role][n]} for n in range(4)]
    results = []
    for cell in (None, NAN):
        answers[at][role] = cell
        rows = [
            {"prompt": "q", "completions": json.dumps(answers)},
            {"prompt": "z", "completions": json.dumps([{**each, role: cell} for each in answers])},
        ]
        found = everything(table_of(form, rows, tmp_path))
        lists = {f"{name}s": json.dumps([each[name] for each in answers]) for name in ("response", "score")}
        more = {} if role == "response" else {role: json.dumps([each[role] for each in answers])}
        found += everything(table_of(form, [{"prompt": "q", **lists, **more}], tmp_path))
        results.append(found)
    assert results[0] == results[1]
    assert len(results[0][0]) == 8


@pytest.mark.parametrize("role", ["prompt_id", "source", "model", "index", "finish_reason", "n_tokens"])
def test_nan_is_null_in_columns_of_numbers(tmp_path, role):
    rows = [{"prompt": "q", "response": f"r{n}", "score": float(n), role: float(n)} for n in range(4)]
    rows[1][role] = None
    expected = everything(table_of("parquet", rows, tmp_path))
    rows[1][role] = NAN
    assert everything(table_of("parquet", rows, tmp_path)) == expected
    assert everything(table_of("polars", rows, tmp_path)) == expected


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_nan_in_a_message_of_the_prompt_is_null(tmp_path, form):
    turns = [{"role": "user", "content": "q", "weight": NAN}]
    for more in ({}, {"system": "s"}):
        rows = [{"prompt": json.dumps(turns), "response": f"r{n}", "score": float(n), **more} for n in range(2)]
        scored = read_scored_table(table_of(form, rows, tmp_path))
        assert scored.prompts["messages"].list.last().to_list() == [{"role": "user", "content": "q"}]


# Shards whose columns differ in type.

DAY = datetime.datetime(2024, 1, 1)
TYPES = {
    "decimal": ([Decimal(1), Decimal("2.5")], pa.decimal128(10, 1)),
    "timestamp": ([DAY, DAY.replace(microsecond=7)], pa.timestamp("us")),
    "milliseconds": ([DAY, DAY], pa.timestamp("ms")),
    "nanoseconds": ([1, 1_000_000_000], pa.timestamp("ns")),
    "zone": ([DAY, DAY], pa.timestamp("us", "UTC")),
    "date": ([DAY.date(), DAY.date()], pa.date32()),
    "time": ([datetime.time(1), datetime.time(2)], pa.time64("us")),
    "duration": ([datetime.timedelta(1), datetime.timedelta(2)], pa.duration("us")),
    "bytes": ([b"ab", b"cd"], pa.binary()),
    "truth": ([True, False], pa.bool_()),
    "float": ([1.0, 2.5], pa.float64()),
    "object": ([{"a": 1}, {"a": 2}], pa.struct([("a", pa.int64())])),
    "whole": ([1, 2], pa.int64()),
    "text": (["1", "x"], pa.string()),
}


def shard(path, column, values, kind, first):
    texts = [f"r{first + n}" for n in range(2)]
    own = {"prompt": ["q"] * 2 if column != "prompt_id" else [None] * 2, "response": texts, "score": [1.0, 2.0]}
    own["prompt"] = pa.array(own["prompt"], pa.string())
    pq.write_table(pa.table({**own, column: pa.array(values, kind)}), path)


@pytest.mark.parametrize("column", ["prompt_id", "source", "model"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("other", ["whole", "text"])
def test_shards_of_different_types_are_read_as_each_of_them_alone(tmp_path, column, kind, other):
    (tmp_path / "both").mkdir()
    (tmp_path / "turned").mkdir()
    for at, name in enumerate((kind, other)):
        for file in (f"{at}.parquet", f"both/part-{at}.parquet", f"turned/part-{1 - at}.parquet"):
            shard(tmp_path / file, column, *TYPES[name], 10 * at)
    alone = sorted(row for at in range(2) for row in candidates(tmp_path / f"{at}.parquet", column, "score"))
    assert len(alone) == 4
    assert candidates(tmp_path / "both", column, "score") == alone
    assert candidates(tmp_path / "turned", column, "score") == alone


@pytest.mark.parametrize("column", ["index", "n_tokens", "finish_reason"])
@pytest.mark.parametrize("kind", TYPES)
def test_a_column_of_any_type_is_read_or_is_one_error(tmp_path, column, kind):
    shard(tmp_path / "t.parquet", column, *TYPES[kind], 0)
    try:
        found = candidates(tmp_path / "t.parquet", column)
    except InputError as error:
        assert f"column {column!r} holds" in str(error)
    else:
        assert len(found) == 2


# Empty lists of messages.


def says(text):
    return [{"role": "assistant", "content": text}]


TALK = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
EMPTY_FORMS = ("parquet", "arrow", "polars", "jsonl", "json", "csv", "pandas")


def with_types(form, rows, column, folder):
    """A file of Arrow's formats knows the type of an empty list."""
    if form != "parquet":
        return table_of(form, rows, folder)
    table = pa.Table.from_pylist(rows)
    at = table.schema.get_field_index(column)
    path = folder / "typed.parquet"
    pq.write_table(table.set_column(at, column, pa.array([row[column] for row in rows], TALK)), path)
    return path


@pytest.mark.parametrize("form", EMPTY_FORMS)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2)])
@pytest.mark.parametrize("column", ["completion", "response", "messages"])
def test_an_empty_list_of_messages_is_an_answer_that_is_missing(tmp_path, form, order, column):
    asked = [{"role": "user", "content": "q"}] if column == "messages" else []
    answers = [[], [*asked, *says("A")], [*asked, *says("BB")], None]
    own = {"prompt_id": "p"} if column == "messages" else {"prompt": "q"}
    rows = [{**own, column: answers[at], "score": float(at)} for at in order]
    table = with_types(form, rows, column, tmp_path)
    scored = read_scored_table(table)
    assert (scored.rows, scored.drops.height, scored.prompts.height) == (4, 0, 1)
    found = scored.candidates.select("response", "score").sort("score").rows()
    assert found == [(None, 0.0), ("A", 1.0), ("BB", 2.0), (None, 3.0)]
    ledger = pair(table, "best_vs_worst", tmp_path / "out")
    assert (ledger["pairs"], ledger["candidates"], ledger["ineligible"]["missing_response"]) == (1, 4, 2)


@pytest.mark.parametrize("form", EMPTY_FORMS)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_conversation_of_no_turns_has_no_prompt(tmp_path, form, backwards):
    talks = [[], [{"role": "user", "content": "q"}, *says("A")], [{"role": "user", "content": "q"}, *says("BB")], None]
    rows = [{"messages": talk, "score": float(at)} for at, talk in enumerate(talks)]
    scored = read_scored_table(with_types(form, rows[::-1] if backwards else rows, "messages", tmp_path))
    assert (scored.rows, scored.candidates["response"].sort().to_list()) == (4, ["A", "BB"])
    assert scored.drops.select("reason", "detail").rows() == [
        ("missing_prompt", "2 rows have neither prompt_id nor prompt")
    ]


@pytest.mark.parametrize("form", EMPTY_FORMS)
@pytest.mark.parametrize("empty", [0, 1, 2])
def test_an_empty_list_among_the_answers_of_a_row_is_missing_too(tmp_path, form, empty):
    answers = [says("A"), says("BB"), says("CCC")]
    answers[empty] = []
    scored = read_scored_table(table_of(form, [{"prompt": "q", "responses": answers, "scores": [0, 1, 2]}], tmp_path))
    texts = ["A", "BB", "CCC"]
    texts[empty] = None
    assert scored.candidates.sort("index").select("response", "score").rows() == list(
        zip(texts, (0, 1, 2), strict=True)
    )


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("backwards", [False, True])
def test_an_empty_list_of_answers_is_no_answer(tmp_path, form, backwards):
    rows = [
        {"prompt": "q", "responses": [], "scores": []},
        {"prompt": "q", "responses": ["a", "b"], "scores": [1.0, 2.0]},
    ]
    scored = read_scored_table(table_of(form, rows[::-1] if backwards else rows, tmp_path))
    assert (scored.rows, scored.drops.height) == (2, 0)


@pytest.mark.parametrize("form", sorted({*FORMS} - {"csv", "tsv"}))
@pytest.mark.parametrize("role", ["prompt_id", "source", "model"])
def test_a_list_is_no_name(tmp_path, form, role):
    rows = [{"prompt": "q", "response": text, "score": 1.0, role: ["a", "b"]} for text in ("x", "y")]
    with pytest.raises(InputError, match=f"column '{role}' holds something else than texts"):
        read_scored_table(table_of(form, rows, tmp_path))
