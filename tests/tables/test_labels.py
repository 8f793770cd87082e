"""Columns whose numbers stand for names, as `datasets`, pandas and Polars have them: the names are read, everywhere."""

from __future__ import annotations

import json

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import prefdata
from prefdata.prompts import FilePrompts
from prefdata.records import Prompt
from prefdata.sampling import ExistingCompletions, SampleTask
from prefdata.spec import Context
from prefdata.tables import files
from prefdata.tables.kept_table import kept_of_table
from prefdata.tables.labels import labels_of
from prefdata.tables.scored_table import ScoredTableFile
from prefdata.tables.shapes import ROLES
from prefdata.tables.whole_table import read_scored_table

datasets.disable_progress_bars()
NAMES = ("zoe", "length", "amy")
LABELS = datasets.ClassLabel(names=list(NAMES))
NUMBERS = (2, 0, 1)
TEXT = datasets.Value("string")
NUMERIC = ("score", "index", "n_tokens")
ROW = {"prompt_id": "p", "instruction": "Why?", "response": "x", "source": "s", "model": "m", "finish_reason": "stop"}
ROW |= {"system": "Be brief.", "input": "1"}
FORMS = ("parquet", "saved", "dataset", "picked", "dictionary", "categorical", "polars", "enum")


def rows_of(role):
    return [{**ROW, "response": f"answer {at}", role: number, "score": float(at)} for at, number in enumerate(NUMBERS)]


def table_of(form, rows, role, folder):
    """The table with a column of labels; its numbers are those of `NAMES`."""
    texts = [{**row, role: NAMES[row[role]]} for row in rows]
    kinds = {"score": datasets.Value("float64"), role: LABELS}
    data = datasets.Dataset.from_list(
        rows, features=datasets.Features({name: kinds.get(name, TEXT) for name in rows[0]})
    )
    frame = pd.DataFrame(texts)
    match form:
        case "parquet":
            data.to_parquet(folder / "t.parquet")
            return folder / "t.parquet"
        case "saved":
            data.save_to_disk(folder / "saved")
            return folder / "saved"
        case "dataset":
            return data.rename_column(role, "x").rename_column("x", role)
        case "picked":
            return data.select([1, 0, 2])
        case "dictionary":
            table = pa.Table.from_pylist(texts)
            return table.set_column(table.column_names.index(role), role, table[role].dictionary_encode())
        case "categorical":
            return frame.assign(**{role: frame[role].astype("category")})
        case "polars":
            return pl.DataFrame(texts).with_columns(pl.col(role).cast(pl.Categorical))
    return pl.DataFrame(texts).with_columns(pl.col(role).cast(pl.Enum(NAMES)))


def understood(table):
    """What each role says in each row, as it was understood."""
    scored = read_scored_table(table)
    prompts = {row["prompt_id"]: row["messages"] for row in scored.prompts.to_dicts()}
    for row in scored.candidates.sort("score").to_dicts():
        system, user = prompts[row["prompt_id"]]
        text, _, more = user["content"].partition("\n\n")
        yield {**row, "system": system["content"], "instruction": text, "input": more}


@pytest.mark.parametrize("role", [role for role in ROLES if role not in NUMERIC])
def test_the_names_are_read_in_every_role_that_is_a_text(tmp_path, role):
    name = "instruction" if role == "prompt" else role
    rows = [{key: cell for key, cell in row.items() if key != "prompt_id" or name == key} for row in rows_of(name)]
    if name == "prompt_id":
        rows = [{**row, "instruction": f"Why {at}?"} for at, row in enumerate(rows)]
    for form in FORMS:
        table = table_of(form, rows, name, tmp_path)
        assert [row[name] for row in understood(table)] == [NAMES[number] for number in NUMBERS], form


LISTS = {
    "lists": (datasets.List(LABELS), [2, -1]),
    "large": (datasets.LargeList(LABELS), [2, -1]),
    "fixed": (datasets.Sequence(LABELS, length=2), [2, -1]),
}


@pytest.mark.parametrize("shape", LISTS)
def test_lists_of_labels_are_lists_of_names_and_a_label_without_a_name_is_none(tmp_path, shape):
    kind, cell = LISTS[shape]
    columns = {"prompt": ["q"], "responses": [["x", "y"]], "scores": [[1.0, 2.0]], "models": [cell]}
    features = {"prompt": TEXT, "responses": datasets.List(TEXT), "scores": datasets.List(datasets.Value("float32"))}
    data = datasets.Dataset.from_dict(columns, features=datasets.Features({**features, "models": kind}))
    data.to_parquet(tmp_path / "t.parquet")
    for table in (data, tmp_path / "t.parquet"):
        assert read_scored_table(table).candidates.sort("index")["model"].to_list() == ["amy", None]


def test_labels_within_objects_are_named(tmp_path):
    answer = {"response": TEXT, "overall_score": datasets.Value("float64"), "model": LABELS, "critique": TEXT}
    answers = [{"response": "x", "overall_score": 1.0, "model": 2, "critique": "c"}, None]
    features = datasets.Features({"instruction": TEXT, "completions": [answer]})
    rows = [{"instruction": "q", "completions": answers[:1]}, {"instruction": "r", "completions": None}]
    data = datasets.Dataset.from_list(rows, features=features)
    data.to_parquet(tmp_path / "t.parquet")
    for table in (data, tmp_path / "t.parquet"):
        assert read_scored_table(table).candidates["model"].to_list() == ["amy"]


def test_shards_with_labels_and_shards_with_names_are_one_table(tmp_path):
    for at, form in enumerate(("parquet", "dictionary")):
        (tmp_path / form).mkdir()
        table = table_of(form, rows_of("source"), "source", tmp_path / form)
        table = table if form == "dictionary" else pq.read_table(table)
        pq.write_table(table, tmp_path / f"part-{at}.parquet")
    file = ScoredTableFile(tmp_path / "part-*.parquet")
    assert sorted(read_scored_table(file.table).candidates["source"]) == sorted(2 * NAMES)


def test_recipes_and_kept_columns_read_names(tmp_path):
    rows = [{**row, "topic": at} for at, row in zip(NUMBERS, rows_of("source"), strict=True)]
    path = table_of("parquet", [{**row, "source": "s"} for row in rows], "topic", tmp_path)
    prompts = FilePrompts(path=path, prompt_column="topic", system_column="", keep=("topic",))
    read = list(prompts.read(Context(seed=0)))
    assert [record.messages[0]["content"] for record in read] == [NAMES[number] for number in NUMBERS]
    assert [record.kept for record in read] == [{"topic": NAMES[number]} for number in NUMBERS]
    sampler = ExistingCompletions(
        name="own", path=path, prompt_id_column="prompt_id", model_column="topic", source="model"
    )
    task = SampleTask(Prompt("p", ({"role": "user", "content": "Why?"},), "o"), 0)
    (result,) = sampler.sample([task], Context(seed=0))
    assert sorted(each.model for each in result.candidates) == sorted(NAMES)
    rows = [{**row, "prompt_id": NAMES[row["topic"]]} for row in rows]
    kept = kept_of_table(ScoredTableFile(table_of("saved", rows, "topic", tmp_path)), ["topic"])
    assert kept.table.to_pylist() == [{"prompt_id": name, "topic": name} for name in sorted(NAMES)]


@pytest.mark.parametrize("names", [["False", "True"], ["undesirable", "desirable"], ["bad", "good"], ["0", "1"]])
def test_labels_of_single_answers_and_frames_are_read_by_their_names(tmp_path, names):
    rows = [{"prompt": "q", "completion": f"x{at}", "label": at} for at in (0, 1, 1)]
    features = datasets.Features({"prompt": TEXT, "completion": TEXT, "label": datasets.ClassLabel(names=names)})
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "t.parquet")
    first = prefdata.audit(tmp_path / "t.parquet").first
    assert [row["chosen"] for row in first] == [None, "x1", "x1"]
    assert prefdata.load(tmp_path / "t.parquet").pairs["label"].to_list() == [names[0], names[1], names[1]]


def test_numbers_that_are_the_names_of_scores_are_the_scores(tmp_path):
    features = datasets.Features({"prompt": TEXT, "response": TEXT, "score": datasets.ClassLabel(names=["5", "1"])})
    rows = [{"prompt": "q", "response": "good", "score": 0}, {"prompt": "q", "response": "bad", "score": 1}]
    data = datasets.Dataset.from_list(rows, features=features)
    assert read_scored_table(data).candidates.sort("score")["response"].to_list() == ["bad", "good"]


@pytest.mark.parametrize(
    "metadata",
    [
        *(b"", b"[]", b"not JSON", b'{"info": 1}', b'{"info": {"features": []}}', b"[" * 100_000, b"\xff"),
        b'{"info": {"features": {"source": {"names": [1], "_type": "ClassLabel"}}}}',
        b'{"info": {"features": {"source": {"num_classes": 3, "_type": "ClassLabel"}}}}',
        b'{"info": {"features": {"source": [], "x": {"_type": 3}, "y": {"_type": "List"}}}}',
    ],
)
def test_what_is_written_otherwise_has_no_labels(metadata):
    schema = pa.schema([("source", pa.int64())], metadata={b"huggingface": metadata})
    assert labels_of(schema) == {}
    assert list(files.rows(schema.empty_table().from_pylist([{"source": 1}], schema=schema))) == [{"source": 1}]


def test_lists_of_objects_that_are_stored_as_an_object_of_lists(tmp_path):
    feature = {"feature": {"model": {"names": list(NAMES), "_type": "ClassLabel"}}, "_type": "Sequence"}
    schema = pa.schema([("a", pa.struct([("model", pa.list_(pa.int64()))]))])
    schema = schema.with_metadata({b"huggingface": json.dumps({"info": {"features": {"a": feature}}}).encode()})
    table = files.open_table(pa.Table.from_pylist([{"a": {"model": [0, 2]}}], schema=schema))
    assert list(table.rows()) == [{"a": {"model": ["zoe", "amy"]}}]
    assert next(table.batches(["a"], 9)).to_pylist() == [{"a": {"model": ["zoe", "amy"]}}]
