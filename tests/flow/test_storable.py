"""What no table can hold is never journalled, and a journal that holds it is no obstacle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from replayed import recipe, tree

from benchmarks.damage import build_until
from prefdata.errors import InputError
from prefdata.flow.build import build
from prefdata.flow.journal import Journal
from prefdata.flow.results import check_storable
from prefdata.sampling.existing import ExistingCompletions

WRONG = {
    "n_tokens": [2**63, -(2**63) - 1, 10**5000, 1.5, "3", True],
    "seed": [2**63],
    "index": [2**64],
    "given_score": [float("inf"), float("nan"), "5", 10**400],
    "response": ["half \ud800 of a pair", 3, b"bytes"],
    "model": [["a"]],
}


@pytest.mark.parametrize(
    ("column", "value"),
    [(c, v) for c in WRONG for v in WRONG[c]],
    ids=lambda x: repr(x)[:20] if not isinstance(x, int) else x.bit_length(),
)
def test_an_answer_that_no_table_holds_is_one_message_and_nothing_of_it_is_kept(work, monkeypatch, column, value):
    real = ExistingCompletions.sample

    def wrong(self, tasks, context):
        for result in real(self, tasks, context):
            if result.key == "p04/0":
                result = replace(result, candidates=(replace(result.candidates[0], **{column: value}),))
            yield result

    with monkeypatch.context() as patched:
        patched.setattr(ExistingCompletions, "sample", wrong)
        with pytest.raises(InputError, match=rf"the answer to 'p04/0' can't be kept: {column} is ") as caught:
            build(recipe(), "out", shard_size=5)
        assert len(str(caught.value)) < 400
    whole = build(recipe(), "whole", shard_size=5)
    assert tree(build(recipe(), "out", shard_size=5).folder) == tree(whole.folder)


def test_a_number_that_fits_is_none_of_it():
    check_storable({"candidates": [{"n_tokens": 2**63 - 1, "seed": -(2**63), "given_score": 3, "response": "🦊"}]})
    check_storable({"scored": [{"scores": [{"score": 0.5, "unscored": None}], "comparisons": []}]})
    with pytest.raises(ValueError, match="score is inf"):
        check_storable({"scored": [{"scores": [{"score": float("inf")}], "comparisons": []}]})


def test_a_journal_of_an_earlier_version_that_holds_such_a_number_costs_that_answer_only(work, capsys):
    build_until(recipe().dump(), Path("out"), "candidates-replayed", 8)
    (path,) = Path("out").glob("stages/candidates-*/journal-00001.jsonl")
    records = list(Journal(path).read())
    path.unlink()
    journal = Journal(path)
    for record in records:
        if record["key"] == "p06/0":
            record["candidates"][0]["n_tokens"] = 10**30
        journal.append(record)
    journal.append({"key": "p06/0"})
    journal.append(["not a record"])
    journal.close()
    assert json.loads(path.read_bytes().splitlines()[-1].partition(b" ")[2]) == ["not a record"]
    whole = build(recipe(), "whole", shard_size=5)
    capsys.readouterr()
    assert tree(build(recipe(), "out", shard_size=5).folder) == tree(whole.folder)
    assert (
        "journal-00001.jsonl: 3 damaged lines are passed over; what they held is asked again" in capsys.readouterr().err
    )
