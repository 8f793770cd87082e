"""`prefdata pair --keep`: columns of the table travel along to every table of the dataset."""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_forms import FORMS, table_of
from table_ways import small_pieces

import prefdata as package
from prefdata.dataset import KTO, Axolotl, FullConversation, LlamaFactory, SnorkelLayout, TRLPairs
from prefdata.errors import InputError
from prefdata.pairing import DNO, rule_named
from prefdata.tables.kept import RESERVED
from prefdata.tables.schemas import ANSWERS, CANDIDATE_DROPS, PROMPTS, pairs_schema
from prefdata.verification import verify


def rows_of(folder, name="data/train-00000-of-00001"):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def long(prompts=9, **more):
    """Two answers a prompt; every third prompt has equal scores, and is dropped."""
    return [
        {
            "prompt": f"Question {number}?",
            "response": f"Answer {score} to {number}.",
            "score": 1 if number % 3 == 0 else score,
            "category": f"kind {number % 2}",
            "turn": number,
            **{name: value(number) for name, value in more.items()},
        }
        for number in range(prompts)
        for score in range(2)
    ]


PART = "train-00000-of-00001"
TABLES = (f"data/{PART}", f"candidates/{PART}", f"kto/{PART}", "drops")


@pytest.mark.parametrize("order", [list, lambda rows: random.Random(5).sample(rows, len(rows))])
@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("pandas", "polars", "dataset")])
def test_kept_columns_are_in_every_table_and_verified(prefdata, tmp_path, form, order):
    table = table_of(form, order(long()), tmp_path)
    out = tmp_path / "out"
    said = prefdata(
        *("pair", table, "--rule", "best_vs_worst", "--out", out, "--keep", "category,turn"),
        *("--with-candidates", "--also", "kto", "--json"),
    )
    assert said.code == 0, said.err
    numbers = {f"Question {number}?": number for number in range(9)}
    by_id = {row["prompt_id"]: numbers[row["prompt"][0]["content"]] for row in rows_of(out, f"candidates/{PART}")}
    for name in TABLES:
        rows = rows_of(out, name)
        assert rows
        for row in rows:
            number = by_id[row["prompt_id"]]
            assert row["category"] == f"kind {number % 2}"
            # Separated values have no numbers.
            assert row["turn"] == (str(number) if form in ("csv", "tsv") else number)
    assert {"category", "turn"} <= {*pq.read_schema(out / "drops_candidates.parquet").names}
    assert json.loads((out / "recipe.json").read_text())["keep"] == ["category", "turn"]
    assert "drops: `category`, `turn`." in (out / "README.md").read_text()
    for more in ([], ["--table", table]):
        checked = prefdata("verify", out, *more)
        assert checked.code == 0, checked.out + checked.err


@pytest.mark.parametrize("form", ["pandas", "polars", "dataset"])
def test_frames_keep_columns_too(tmp_path, form):
    package.pair(table_of(form, long(), tmp_path), "best_vs_worst", tmp_path / "out", keep=["turn"])
    assert sorted(row["turn"] for row in rows_of(tmp_path / "out")) == [1, 2, 4, 5, 7, 8]


def test_lists_of_answers_and_limits_in_small_pieces(tmp_path):
    rows = [
        {"prompt": f"Q{n}?", "responses": ["good", "bad"], "scores": [n + 1, 0], "turn": n} for n in (3, 1, 2, 5, 4)
    ]
    with small_pieces(60, 90):
        package.pair(
            table_of("parquet", rows, tmp_path), "best_vs_worst", tmp_path / "out", keep=["turn"], limit=3, test_size=1
        )
    found = rows_of(tmp_path / "out") + rows_of(tmp_path / "out", "data/test-00000-of-00001")
    assert {row["prompt"][0]["content"]: row["turn"] for row in found} == {"Q3?": 3, "Q1?": 1, "Q2?": 2}


def test_what_has_no_column_of_one_type_is_text():
    from datetime import datetime
    from decimal import Decimal

    cells = {
        "nested": [{"b": 1, "a": ["x", None]}, None, {}],
        "date": [datetime(2024, 2, 3, 4), None, datetime(2025, 1, 1)],
        "decimal": [Decimal("1.50"), Decimal("2"), None],
        "mixed": [1, "one", True],
        "numbers": [1, 2.5, float("nan")],
        "large": [2**60, 0.5, None],
        "whole": [2**60, -1, None],
        "flags": [True, False, None],
    }
    from prefdata.tables.kept import Kept, KeptValues

    values = KeptValues("t", list(cells))
    for number in range(3):
        values.add(str(number), {name: column[number] for name, column in cells.items()}, number)
    kept = Kept.of(list(cells), values.values).table.drop_columns(["prompt_id"])
    assert kept.to_pydict() == {
        "nested": ['{"a":["x",null],"b":1}', None, "{}"],
        "date": ["2024-02-03T04:00:00", None, "2025-01-01T00:00:00"],
        "decimal": ["1.50", "2", None],
        "mixed": ["1", "one", "true"],
        "numbers": [1.0, 2.5, None],
        "large": [str(2**60), "0.5", None],
        "whole": [2**60, -1, None],
        "flags": [True, False, None],
    }


@pytest.mark.parametrize("cells", [(1, True), (True, 1), (1, 1.0), (0.0, -0.0)])
def test_equal_values_of_other_types_are_two_values(tmp_path, cells):
    rows = long()
    rows[0]["turn"], rows[1]["turn"] = cells
    with pytest.raises(InputError, match="in another row of the same prompt"):
        package.pair(table_of("jsonl", rows, tmp_path), "best_vs_worst", tmp_path / "out", keep=["turn"])


def test_columns_are_found_whatever_the_order_of_rows_and_prompts():
    from prefdata.tables.kept import Kept

    kept = Kept.of(["turn"], {str(number): {"turn": number} for number in (5, 1, 12, 3, 40, 2)})
    for ids in ([], ["3", "12", "3"], ["7"], ["40", "5", "1", "0", "2"], ["99", "12"]):
        found = kept.add(pa.table({"prompt_id": pa.array(ids, pa.string())}))["turn"].to_pylist()
        assert found == [int(each) if each in ("1", "2", "3", "5", "12", "40") else None for each in ids]


def test_a_row_without_a_value_says_nothing(tmp_path):
    rows = long()
    rows[2]["category"] = None
    rows[5]["category"] = None
    package.pair(table_of("jsonl", rows, tmp_path), "best_vs_worst", tmp_path / "out", keep=["category"])
    assert {row["category"] for row in rows_of(tmp_path / "out")} == {"kind 0", "kind 1"}


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        ("nothing", "has no column 'nothing'"),
        ("turn,turn", "'turn' is to be kept twice"),
        ("score", "'score' can't be kept"),
        ("prompt_id", "'prompt_id' can't be kept"),
        (
            "note",
            "'note' can't be kept: it has 'note 1' here, and 'note 0' in another row of the same prompt",
        ),
    ],
)
def test_what_cant_be_kept_is_one_message(prefdata, tmp_path, keep, says):
    rows = [{**row, "note": f"note {at % 2}"} for at, row in enumerate(long())]
    table = table_of("jsonl", rows, tmp_path)
    said = prefdata("pair", table, "--rule", "best_vs_worst", "--out", tmp_path / "out", "--keep", keep)
    assert said.code == 2
    assert says in said.err
    assert not (tmp_path / "out").exists()


def test_bytes_cant_be_kept(tmp_path):
    table = pa.table({"prompt": ["a?", "a?"], "response": ["x", "y"], "score": [1, 2], "raw": [b"1", b"1"]})
    with pytest.raises(InputError, match="holds bytes"):
        package.pair(table, "best_vs_worst", tmp_path / "out", keep=["raw"])


def test_a_changed_value_is_found(prefdata, tmp_path):
    out = tmp_path / "out"
    package.pair(table_of("jsonl", long(), tmp_path), "best_vs_worst", out, keep=["turn"], with_candidates=True)
    path = out / "data" / "train-00000-of-00001.parquet"
    rows = pq.read_table(path)
    numbers = rows["turn"].to_pylist()
    at = rows.column_names.index("turn")
    pq.write_table(rows.set_column(at, rows.schema.field("turn"), pa.array([99, *numbers[1:]])), path)
    checked = prefdata("verify", out, "--json")
    assert checked.code == 1
    fields = {each.get("field") for each in json.loads(checked.out)["mismatches"]}
    assert "turn" in fields


@pytest.mark.parametrize("column", ["prompt_id", "turn", "reason"])
@pytest.mark.parametrize("name", ["drops", "drops_candidates"])
def test_a_column_that_is_not_there_is_a_difference(tmp_path, name, column):
    out = tmp_path / "out"
    package.pair(table_of("jsonl", long(), tmp_path), "best_vs_worst", out, keep=["turn"], with_candidates=True)
    path = out / f"{name}.parquet"
    rows = pq.read_table(path)
    if not rows.num_rows:
        nothing = [pa.array(["x" if pa.types.is_string(kind) else 1], kind) for kind in rows.schema.types]
        rows = pa.table(nothing, rows.schema)
    pq.write_table(rows.drop_columns([column]), path)
    assert ("schema", f"{name}.parquet") in {(found.what, found.where) for found in verify(out).mismatches}


@pytest.mark.parametrize(
    "names", [["prompt_id"], ["turn", "turn"], ["score_margin"], ["reason"], [""], ["nothing"], []]
)
def test_a_recipe_that_keeps_what_it_can_not_is_a_difference(tmp_path, names):
    out = tmp_path / "out"
    package.pair(table_of("jsonl", long(), tmp_path), "best_vs_worst", out, keep=["turn"], with_candidates=True)
    recipe = json.loads((out / "recipe.json").read_text())
    (out / "recipe.json").write_text(json.dumps({**recipe, "keep": names}))
    assert not verify(out).holds


def test_no_table_of_a_dataset_has_a_name_that_can_be_kept():
    """A kept column may not stand for one of a layout, of a rule or of the answers."""
    extra = {name for rule in rule_named().values() for name in rule().extra_columns()}
    pairs = pairs_schema(sorted(extra | {*DNO(teacher=()).extra_columns()})).empty_table()
    prompts, answers = PROMPTS.empty_table(), ANSWERS.empty_table()
    names = {*ANSWERS.names, *CANDIDATE_DROPS.names, *pairs.column_names}
    for kind in (TRLPairs, SnorkelLayout, KTO, FullConversation, LlamaFactory, Axolotl):
        names |= {*kind().rows(pairs, prompts, answers).column_names}
    assert names - RESERVED == set()
