"""Frames as datasets, and datasets as frames with types that fit their columns."""

from __future__ import annotations

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from published import rows

from prefdata import audit, inspect, load, pair, replay
from prefdata.errors import InputError

PAIRS = [
    {"prompt": f"question {n}?", "chosen": "good " * (n + 1), "rejected": "bad", "n": n if n else None, "ok": n > 1}
    | {"chosen_score": float(n), "rejected_score": 1.0, "source": "a" if n % 2 else "b"}
    for n in range(6)
]
FORMS = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "lazy polars": pl.LazyFrame,
    "arrow": pa.Table.from_pylist,
    "datasets": datasets.Dataset.from_list,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset with answers, two prompts of which give no pair."""
    answers = [
        {"prompt": f"q{n}", "response": f"answer {n} {k}" + "!" * k, "score": float(n * k), "source": f"s{k}"}
        for n in range(6)
        for k in range(3)
    ]
    answers.append({"prompt": "alone", "response": "only one", "score": 1.0, "source": "s0"})
    folder = tmp_path_factory.mktemp("made") / "out"
    pair(pd.DataFrame(answers), "best_vs_worst", folder, with_candidates=True)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_verb_that_takes_a_dataset_takes_a_frame(form):
    frame = FORMS[form](PAIRS)
    assert load(frame).to("polars").pairs["chosen"].to_list() == [row["chosen"] for row in PAIRS]
    assert load(frame).path is None
    found = audit(frame)
    assert (found.pairs, found.scored, found.findings["tied_scores"]) == (6, 6, 1)
    assert inspect(frame).table == audit(frame)
    published = FORMS[form](rows(1, 50))
    assert replay(published, "best_vs_worst", quirks=True).reproduced == 50


def test_several_frames_are_splits():
    both = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(PAIRS[:4]), "test": datasets.Dataset.from_list(PAIRS[4:])}
    )
    assert {split: len(frame) for split, frame in load(both).splits.items()} == {"train": 4, "test": 2}
    assert audit(both).splits == {"train": 4, "test": 2}
    assert audit({"a": pd.DataFrame(PAIRS[:1]), "b": pd.DataFrame(PAIRS)}).findings["prompts_in_several_splits"] == 1
    published = datasets.DatasetDict(
        {name: datasets.Dataset.from_list(rows(n, 9)) for n, name in enumerate(("train", "x"))}
    )
    report = replay(published, "best_vs_worst")
    assert (report.pairs, report.split, report.other_splits) == (9, "train", ("x",))
    with pytest.raises(InputError, match="no split 'y'"):
        replay(published, "best_vs_worst", split="y")


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (pd.DataFrame(PAIRS[:0]), "has no rows"),
        ({}, "holds no table"),
        (7, "is not a table"),
        (pd.DataFrame([{"a": 1}]), "no columns of pairs"),
    ],
)
def test_what_is_no_dataset_is_one_message(where, says):
    for verb in (audit, inspect, lambda table: load(table).hardest()):
        with pytest.raises(InputError, match=says):
            verb(where)
    with pytest.raises(InputError, match="has no configuration 'x'"):
        load(pd.DataFrame(PAIRS), config="x")


def test_no_column_of_pandas_is_of_objects(made):
    data = load(made)
    for frame in (
        data.pairs,
        data.candidates,
        data.scores,
        data.drops,
        data.hardest(),
        data.dropped(),
        data.by_source(),
    ):
        assert [name for name, dtype in frame.dtypes.items() if str(dtype) == "object"] == []
    types = data.pairs.dtypes.astype(str)
    assert (types["source_chosen"], types["n_candidates"], types["split"]) == ("category", "Int64", "category")
    assert types["score_margin"] == "float64"
    assert data.pairs["prompt"][0] == [
        {"role": "user", "content": data.prompt(data.pairs["prompt_id"][0])["prompt"][0][0]["content"]}
    ]
    own = load(pd.DataFrame(PAIRS)).pairs.dtypes.astype(str)
    assert (own["n"], own["ok"], own["source"]) == ("float64", "boolean", "category")


def test_every_kind_of_frames_holds_the_same(made):
    pairs = load(made).to("polars").pairs
    assert load(made).to("arrow").pairs.to_pylist() == pairs.to_dicts()
    assert load(made).to("datasets").pairs.to_list() == pairs.to_dicts()
    assert load(made).pairs["prompt_id"].to_list() == pairs["prompt_id"].to_list()
    features = load(made).to("datasets").pairs.features
    assert features["score_chosen"] == datasets.Value("float64")
    assert features["source_chosen"] == datasets.Value("string")


class TestQuestions:
    def test_hardest(self, made):
        found = load(made).hardest(2)
        assert found["score_margin"].to_list() == [2.0, 4.0]
        assert len(load(made).hardest(100)) == 5

    def test_ties_and_length(self, made):
        data = load(made).to("polars")
        assert data.ties().height == 0
        assert data.longer_won()["length_difference"].to_list() == [2] * 5
        frame = load(pd.DataFrame(PAIRS)).to("polars")
        assert frame.ties()["prompt"].to_list() == ["question 1?"]
        assert frame.longer_won()["length_difference"].to_list() == [27, 22, 17, 12, 7, 2]

    def test_by_source(self, made):
        [row] = load(made).to("polars").by_source().to_dicts()
        assert row == {
            **{"source_chosen": "s2", "source_rejected": "s0", "pairs": 5, "share": 1.0, "chosen_longer": 1.0},
            **{"mean_score_margin": 6.0, "mean_length_difference": 2.0},
        }
        with pytest.raises(InputError, match="have no column 'source_chosen'"):
            load(pd.DataFrame(PAIRS)).by_source()

    def test_a_prompt_with_all_its_candidates(self, made):
        data = load(made).to("polars")
        whole = data.pairs["prompt_id"][0]
        found = data.prompt(whole)
        assert found.height == 3
        assert found["score"].is_sorted(descending=True)
        assert found["picked"].to_list() == ["chosen", None, "rejected"]
        assert data.prompt(whole[:12]).equals(found)
        with pytest.raises(InputError, match="has no prompt 'nowhere'"):
            data.prompt("nowhere")

    def test_dropped_prompts_have_their_texts(self, made):
        data = load(made).to("polars")
        assert dict(data.dropped().select("prompt", "reason").iter_rows()) == {
            "alone": "too_few_candidates",
            "q0": "no_contrast",
        }
        [row] = data.dropped("no_contrast").to_dicts()
        assert (row["scores"], len(row["answers"])) == ([0.0] * 3, 3)
        with pytest.raises(InputError, match="was dropped for 'no'") as caught:
            data.dropped("no")
        assert "no_contrast" in caught.value.valid

    def test_what_changed_against_another_dataset(self, made, tmp_path):
        answers = [
            {
                "prompt": f"q{n}",
                "response": f"answer {n} {k}" + "!" * k,
                "score": float(k if n != 1 else -k),
                "source": f"s{k}",
            }
            for n in range(5)
            for k in range(3)
        ]
        pair(pl.DataFrame(answers), "best_vs_worst", tmp_path / "out", with_candidates=True)
        found = load(made).to("polars").changed(tmp_path / "out")
        text = {row["chosen_before"] or row["chosen_after"]: row for row in found.to_dicts()}
        assert {name[:8]: row["change"] for name, row in text.items()} == {
            "answer 0": "gained",
            "answer 1": "both sides",
            "answer 5": "lost",
        }
        assert text["answer 0 2!!"]["reason_before"] == "no_contrast"
        assert load(made).changed(load(made)).empty

    def test_no_question_needs_what_prefdata_writes(self):
        data = load(pd.DataFrame(PAIRS))
        assert data.hardest(1)["score_margin"].to_list() == [-1.0]
        assert len(data.where("margin >= 3 and prompt contains '5'")) == 1
        for name in ("candidates", "drops", "audit", "comparisons"):
            with pytest.raises(InputError, match=f"is one table, which has pairs and no {name}"):
                getattr(data, name)
        without = pd.DataFrame(PAIRS).drop(columns=["chosen_score", "rejected_score"])
        assert load(without).longer_won()["length_difference"].max() == 27
        for question in (load(without).hardest, load(without).ties):
            with pytest.raises(InputError, match="have no scores"):
                question()
