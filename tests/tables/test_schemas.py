"""The project's Parquet files: which columns have a dictionary, and that all of them are read as they were written."""

from __future__ import annotations

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.dataset import KTO, Axolotl, FullConversation, LlamaFactory, SnorkelLayout, TRLPairs
from prefdata.tables import schemas as tables
from prefdata.tables.schemas import MESSAGES, pairs_schema, parquet_writer, read_parquet, table_of, write_parquet

IDS = [f"p{number}" for number in range(40)]
PROMPTS = pa.Table.from_pylist(
    [{"prompt_id": key, "messages": [{"role": "user", "content": f"Say {key}"}]} for key in IDS], tables.PROMPTS
)
PAIRS = pa.Table.from_pylist(
    [
        {
            **{"prompt_id": key, "pair_index": 0, "n_candidates": 2, "n_eligible": 2, "score_margin": 1.0},
            **{"response_chosen": f"good {key}", "response_rejected": f"bad {key}", "decided_chosen": "highest"},
        }
        for key in IDS
    ],
    tables.PAIRS,
)
ANSWERS = pa.Table.from_pylist(
    [
        {
            "prompt_id": key,
            "prompt": [{"role": "user", "content": key}],
            "source": source,
            "response": f"{source} {key}",
        }
        for key in IDS
        for source in ("a", "b")
    ],
    tables.ANSWERS,
)
PLAIN_IN_LAYOUTS = {
    TRLPairs(): {"prompt_id", *(f"{name}.list.element.content" for name in ("prompt", "chosen", "rejected"))},
    Axolotl(): {"prompt_id", "messages.list.element.content", "chosen.content", "rejected.content"},
    LlamaFactory(): {"prompt_id", "conversations.list.element.value", "chosen.value", "rejected.value"},
    KTO(): {"completion.list.element.content"},
    FullConversation(): {
        *("prompt_id", "prompt_text"),
        *(f"{name}.list.element.content" for name in ("chosen", "rejected")),
    },
    SnorkelLayout(): {
        *("prompt_id", "prompt", "all_generated_responses.list.element"),
        *(f"{name}.list.element.content" for name in ("chosen", "rejected")),
    },
}
PLAIN_IN_TABLES = {
    "PROMPTS": {"prompt_id", "messages.list.element.content"},
    "CANDIDATES": {"response"},
    "SPLITS": {"prompt_id"},
    "COMPARISONS": set(),
    "SCORES": set(),
    "PAIRS": {"prompt_id", "response_chosen", "response_rejected"},
    "ANSWERS": {"response"},
    "DROPS": {"prompt_id"},
    "CANDIDATE_DROPS": set(),
}


def plain(path) -> set[str]:
    """The columns of a file that no dictionary was tried for; a boolean never has one."""
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    return {
        column.path_in_schema
        for column in columns
        if "RLE_DICTIONARY" not in column.encodings and column.physical_type != "BOOLEAN"
    }


def filled(kind):
    """Some value of a type."""
    if pa.types.is_list(kind):
        return [filled(kind.value_type)]
    if pa.types.is_struct(kind):
        return {inner.name: filled(inner.type) for inner in kind}
    return "text" if kind == pa.string() else 1


@pytest.mark.parametrize("layout", PLAIN_IN_LAYOUTS, ids=lambda layout: layout.kind)
def test_texts_of_a_layout_that_hardly_repeat_have_no_dictionary_and_all_else_has_one(layout, tmp_path):
    written = layout.rows(PAIRS, PROMPTS, ANSWERS if layout.needs_answers else None)
    write_parquet(tmp_path / "t.parquet", written)
    assert plain(tmp_path / "t.parquet") == PLAIN_IN_LAYOUTS[layout]
    assert read_parquet(tmp_path / "t.parquet").equals(written)


@pytest.mark.parametrize("name", PLAIN_IN_TABLES)
def test_prompts_have_a_dictionary_where_a_table_has_several_rows_of_each(name, tmp_path):
    schema = getattr(tables, name)
    write_parquet(tmp_path / "t.parquet", pa.Table.from_pylist([filled(pa.struct(schema))] * 3, schema))
    assert plain(tmp_path / "t.parquet") == PLAIN_IN_TABLES[name]


def test_a_column_that_a_rule_adds_has_a_dictionary(tmp_path):
    schema = pairs_schema(["length_penalty"])
    write_parquet(tmp_path / "t.parquet", pa.Table.from_pylist([filled(pa.struct(schema))] * 3, schema))
    assert plain(tmp_path / "t.parquet") == PLAIN_IN_TABLES["PAIRS"]


def test_empty_texts_nulls_and_repeats_come_back_to_every_reader(tmp_path):
    path = tmp_path / "t.parquet"
    turns = [None, [], [{"role": "user", "content": None}], [{"role": "user", "content": ""}], None]
    texts = ["", None, "🙂", "🙂", "a\x00b"]
    columns = {"prompt_id": IDS[:5], "prompt": turns, "chosen": turns[::-1], "prompt_text": texts}
    schema = pa.schema(
        [("prompt_id", pa.string()), ("prompt", MESSAGES), ("chosen", MESSAGES), ("prompt_text", pa.string())]
    )
    with parquet_writer(path, schema) as writer:
        for _ in range(2):
            writer.write_table(pa.table(columns, schema=schema))
    expected = {name: values * 2 for name, values in columns.items()}
    assert read_parquet(path).to_pydict() == expected
    assert pl.read_parquet(path).to_dict(as_series=False) == expected
    assert pd.read_parquet(path, dtype_backend="pyarrow")["prompt_text"].tolist()[:1] == [""]
    assert pd.read_parquet(path)["prompt_id"].tolist() == expected["prompt_id"]


CUTS = {
    "slice": lambda frame: frame.slice(500, 3),
    "filter": lambda frame: frame.filter(pl.col("at") < 3),
    "partition": lambda frame: frame.with_columns(part=pl.col("at") < 3).partition_by("part")[0].drop("part"),
    "sorted slice": lambda frame: frame.sort("at", descending=True).slice(10, 3),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_a_table_of_a_part_of_a_frame_holds_nothing_of_the_rest(cut):
    lists = [[{"role": "user", "content": "x" * 1_000}]] * 1_000
    part = cut(pl.DataFrame({"at": range(1_000), "text": ["y" * 1_000] * 1_000, "turns": lists}))
    table = table_of(part)
    assert table.get_total_buffer_size() < 10 * 3 * 2_000
    assert table.to_pylist() == part.to_dicts()
