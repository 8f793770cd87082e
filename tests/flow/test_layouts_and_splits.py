"""Layouts without the trace, splits that the source gives, and filters, through whole builds and their proof."""

from __future__ import annotations

import json

import polars as pl
import pytest
from replayed import PAIRS, PROMPTS, recipe, tree

from prefdata.flow.build import build
from prefdata.inspection.diff import diff
from prefdata.inspection.summary import inspect
from prefdata.prompts import FilePrompts
from prefdata.publish.manifest import write_manifest
from prefdata.records import Drop, Prompt
from prefdata.verification import verify

SNORKEL = {"kind": "snorkel", "iteration": 2, "test_size": 3}


@pytest.fixture
def splits(monkeypatch):
    """Makes the source put every third prompt into the test split, and say nothing of the fourth of each four."""
    real = FilePrompts.read

    def read(this, context):
        for record in real(this, context):
            if isinstance(record, Drop):
                yield record
                continue
            number = int(record.prompt_id[1:])
            split = None if number % 4 == 3 else "test" if number % 3 == 0 else "train"
            yield Prompt(record.prompt_id, record.messages, record.origin, split)

    monkeypatch.setattr(FilePrompts, "read", read)


def test_the_snorkel_layout_is_published_with_its_trace_beside_it_and_proved(work):
    made = build(recipe(dataset=SNORKEL), "out")
    names = sorted(path.relative_to(made.dataset).as_posix() for path in made.dataset.rglob("*iteration*"))
    assert names == [
        f"{folder}/{split}_iteration_2-00000-of-00001.parquet"
        for folder in ("data", "trace")
        for split in ("test", "train")
    ]
    columns = ["prompt_id", "prompt", "chosen", "rejected", "all_generated_responses", "all_rm_scores"]
    assert made.pairs.columns == columns
    report = verify(made.folder)
    assert not report.counts, report.mismatches
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(made.dataset))
    assert {name: part.num_rows for name, part in loaded.items()} == {"train_iteration_2": 7, "test_iteration_2": 3}
    trace = datasets.load_dataset(str(made.dataset), "trace", split="train_iteration_2")
    assert trace["prompt_id"][:] == loaded["train_iteration_2"]["prompt_id"][:]


def test_the_same_pairs_are_chosen_and_told_whatever_the_layout(work):
    trl, snorkel = build(recipe(), "trl"), build(recipe(dataset=SNORKEL), "snorkel")
    one, two = inspect(trl.folder), inspect(snorkel.folder)
    assert (one.margins, one.lengths, one.decided_chosen, one.pairs) == (
        *(two.margins, two.lengths, two.decided_chosen, two.pairs),
    )
    assert two.splits == {"test_iteration_2": 3, "train_iteration_2": 7}
    assert len(two.examples) == 3
    assert diff(snorkel.dataset, snorkel.dataset).changed == {}
    assert diff(trl.dataset, snorkel.dataset).means["score_margin"][0] == pytest.approx(
        diff(trl.dataset, snorkel.dataset).means["score_margin"][1]
    )


@pytest.mark.parametrize("folder", ["data", "trace"])
def test_a_changed_cell_of_rows_or_trace_is_found(work, folder):
    from prefdata.publish.folder import with_features
    from prefdata.tables.schemas import read_parquet, write_parquet

    dataset = build(recipe(dataset=SNORKEL), "out").dataset
    path = next(iter(sorted((dataset / folder).glob("train_*"))))
    table = read_parquet(path)
    rows = table.to_pylist()
    rows[2]["all_rm_scores" if folder == "data" else "score_margin"] = [9.0] if folder == "data" else 9.0
    write_parquet(path, with_features(type(table).from_pylist(rows, table.schema.remove_metadata())))
    write_manifest(dataset)
    # The picture of the margins is drawn from the trace.
    assert verify(dataset).counts == {"field": 1} | ({"picture": 1} if folder == "trace" else {})


def test_a_trace_that_is_missing_is_found(work):
    dataset = build(recipe(dataset=SNORKEL), "out").dataset
    for path in (dataset / "trace").iterdir():
        path.unlink()
    (dataset / "trace").rmdir()
    assert "file" in verify(dataset).counts


@pytest.mark.parametrize("layout", [{"kind": "trl", "test_size": 1}, {**SNORKEL, "test_size": 0}])
def test_a_split_that_the_source_gives_is_kept_and_only_the_others_are_drawn(work, splits, layout):
    made = build(recipe(dataset=layout), "out")
    given = dict(pl.read_parquet(made.dataset / "splits.parquet").iter_rows())
    assert given == {
        f"p{number:02d}": "test" if number % 3 == 0 else "train" for number in range(PROMPTS) if number % 4 != 3
    }
    found = {
        prompt_id: path.name.partition("-")[0].partition("_")[0]
        for path in (made.dataset / "data").iterdir()
        for prompt_id in pl.read_parquet(path)["prompt_id"]
    }
    assert len(found) == PAIRS
    assert {key: split for key, split in found.items() if key in given} == {
        key: split for key, split in given.items() if key in found
    }
    drawn = [key for key, split in found.items() if split == "test" and key not in given]
    assert len(drawn) <= layout["test_size"]
    assert not verify(made.dataset).counts
    path = made.dataset / "splits.parquet"
    from prefdata.publish.folder import with_features
    from prefdata.tables.schemas import SPLITS, read_parquet, write_parquet

    rows = read_parquet(path).to_pylist()
    rows[0]["split"] = "train"
    write_parquet(path, with_features(type(read_parquet(path)).from_pylist(rows, SPLITS)))
    write_manifest(made.dataset)
    assert set(verify(made.dataset).counts) == {"split"}


def test_filters_drop_with_a_reason_before_the_limit_and_every_row_is_accounted_for(work):
    limits = {"kind": "length", "at_least": 12}
    made = build(recipe(filters=[limits], limit=2), "out")
    ledger = made.ledger
    assert ledger["stages"][0] == {
        **{"stage": "prompts", "in": 14, "out": 2},
        "drops": {"blank": 1, "duplicate": 1, "too_short": 10},
    }
    assert not verify(made.dataset).counts
    lock = json.loads((made.dataset / "prefdata.lock.json").read_text())
    assert "filters-0" in lock["parts"]
    again = build(recipe(filters=[{**limits, "at_least": 11}], limit=2), "out")
    assert again.ledger["stages"][0]["out"] == 2
    assert tree(again.dataset) != {}


@pytest.mark.parametrize(("main", "other"), [({"kind": "trl", "test_size": 3}, "snorkel"), (SNORKEL, "trl")])
def test_further_layouts_hold_the_same_pairs_in_the_same_splits_and_are_proved(work, main, other):
    made = build(recipe(dataset=main, also=[{"kind": other}]), "out")
    report = verify(made.dataset)
    assert report.holds, report.mismatches
    datasets = pytest.importorskip("datasets")
    one, two = datasets.load_dataset(str(made.dataset)), datasets.load_dataset(str(made.dataset), other)
    assert [part["prompt_id"][:] for part in one.values()] == [part["prompt_id"][:] for part in two.values()]
    from prefdata.publish.folder import with_features
    from prefdata.tables.schemas import read_parquet, write_parquet

    path = next(iter(sorted((made.dataset / other).glob("train*"))))
    table = read_parquet(path)
    rows = table.to_pylist()
    rows[0]["rejected"] = rows[0]["chosen"]
    write_parquet(path, with_features(type(table).from_pylist(rows, table.schema.remove_metadata())))
    write_manifest(made.dataset)
    assert verify(made.dataset).counts == {"field": 1}
    path.unlink()
    assert "pair" in verify(made.dataset).counts


def test_two_layouts_of_one_kind_and_a_second_test_size_are_refused(work):
    with pytest.raises(ValueError, match="same kind"):
        recipe(also=[{"kind": "trl"}])
    with pytest.raises(ValueError, match="`test_size` belongs to `dataset`"):
        recipe(also=[{**SNORKEL, "test_size": 2}])
