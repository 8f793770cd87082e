"""`ExistingCompletions`: every layout, joined by prompt id."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError
from table_forms import table_of

from prefdata.errors import InputError
from prefdata.records import Candidate, Drop, Prompt, as_messages, prompt_id_of
from prefdata.sampling import AnySampler, ExistingCompletions, PublishedPairs, SampleAnswers, SampleTask
from prefdata.spec import Context
from prefdata.tables import files


def prompt(text):
    return Prompt(prompt_id_of(as_messages(text)), as_messages(text))


A, B, C = prompt("a"), prompt("b"), prompt("c")


def written(tmp_path, *rows):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def drawn(part, *prompts, counts=None):
    def counted(what, n):
        if counts is not None:
            counts[what] += n

    context = Context(seed=0, pins=part.pins(), counted=counted)
    found = list(part.sample((SampleTask(one, 0) for one in prompts), context))
    assert [one.key for one in found] == [f"{one.prompt_id}/0" for one in prompts]
    return found


def lost(found):
    return [(drop.reason, drop.source, drop.index) for drop in found.drops]


def test_one_answer_a_row_is_joined_by_prompt_whatever_the_order(tmp_path):
    path = written(
        tmp_path,
        {"prompt": "b", "response": "b0", "model": "m", "score": "4.5", "end": "max_tokens", "tokens": 7},
        {"prompt": [{"role": "user", "content": "a"}], "response": "a0", "score": [3]},
        {"prompt": "elsewhere", "response": "x", "score": 1},
        {"prompt": "a", "response": "", "model": None, "score": "N/A", "end": "stop", "tokens": 2.0},
        {"prompt": "  ", "response": "x"},
        {"prompt": "elsewhere", "response": "y", "score": True},
    )
    part = ExistingCompletions(
        name="given",
        path=path,
        model_column="model",
        score_column="score",
        finish_reason_column="end",
        n_tokens_column="tokens",
    )
    counts = Counter()
    of_a, of_b, of_c = drawn(part, A, B, C, counts=counts)
    assert of_a.candidates == (
        Candidate(A.prompt_id, "given", 0, "a0", given_score=3.0),
        Candidate(A.prompt_id, "given", 1, "", finish_reason="stop", n_tokens=2),
    )
    assert of_b.candidates == (Candidate(B.prompt_id, "given", 0, "b0", "m", "length", 7, given_score=4.5),)
    assert of_c.candidates == ()
    assert of_c.drops == (Drop(C.prompt_id, "candidates", "no_completion", "the table has no answer", "given", 0),)
    assert counts == {
        "rows_of_other_prompts": 2,
        "rows_with_unusable_prompt": 1,
        "scores_that_are_no_number": 2,
    }


def test_columns_that_no_one_named_are_not_read(tmp_path):
    path = written(tmp_path, {"prompt": "a", "response": "a0", "model": "m", "score": 3, "index": 5})
    (found,) = drawn(ExistingCompletions(name="given", path=path), A)
    assert found.candidates == (Candidate(A.prompt_id, "given", 0, "a0"),)


def test_rows_without_an_index_are_numbered_by_source_in_the_order_of_the_file(tmp_path):
    path = written(
        tmp_path,
        {"prompt": "a", "response": "0", "model": "x"},
        {"prompt": "a", "response": "0", "model": "y/z"},
        {"prompt": "a", "response": None, "model": "x"},
        {"prompt": "a", "response": "2", "model": "x"},
        {"prompt": "a", "response": "3", "model": None},
        {"prompt": "a", "response": 4, "model": "y/z"},
    )
    by_model = ExistingCompletions(name="given", path=path, model_column="model", source="model")
    (found,) = drawn(by_model, A)
    assert [(one.source, one.index, one.response) for one in found.candidates] == [
        ("x", 0, "0"),
        ("y/z", 0, "0"),
        ("x", 2, "2"),
    ]
    assert lost(found) == [
        ("missing_response", "x", 1),
        ("missing_model", "given", None),
        ("bad_response", "y/z", 1),
    ]
    (found,) = drawn(ExistingCompletions(name="given", path=path, model_column="model"), A)
    assert [(one.source, one.index) for one in found.candidates] == [
        ("given", 0),
        ("given", 1),
        ("given", 3),
        ("given", 4),
    ]


def test_a_named_index_is_kept_and_its_second_row_dropped(tmp_path):
    path = written(
        tmp_path,
        {"prompt_id": "p", "response": "five", "i": 5},
        {"prompt_id": "p", "response": "two", "i": "2"},
        {"prompt_id": "p", "response": "again", "i": 5.0},
        {"prompt_id": "p", "response": "none", "i": None},
        {"prompt_id": "p", "response": "half", "i": 1.5},
        {"prompt_id": "p", "response": "less", "i": -1},
    )
    part = ExistingCompletions(name="given", path=path, prompt_id_column="prompt_id", index_column="i")
    (found,) = drawn(part, Prompt("p", A.messages))
    assert [(one.index, one.response) for one in found.candidates] == [(5, "five"), (2, "two")]
    assert lost(found) == [
        ("duplicate_candidate", "given", 5),
        ("bad_index", "given", None),
        ("bad_index", "given", None),
        ("bad_index", "given", None),
    ]


ULTRA = {
    "prompt_column": "instruction",
    "completions_column": "completions",
    "model_column": "model",
    "score_column": "overall_score",
    "source": "model",
}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_the_nested_layout_gives_one_candidate_for_each_completion(tmp_path, ending):
    rows = [
        {
            "instruction": "a",
            "completions": [
                {"model": "m1", "response": "1", "overall_score": 7.5, "critique": "long"},
                {"model": "m2", "response": None, "overall_score": None},
            ],
        },
        {"instruction": "b", "completions": []},
        {"instruction": "c", "completions": None},
        {"instruction": "a", "completions": [{"model": "m1", "response": "later", "overall_score": 2.0}]},
    ]
    path = written(tmp_path, *rows)
    if ending == "parquet":
        path = tmp_path / "answers.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    of_a, of_b, of_c = drawn(ExistingCompletions(name="ultra", path=path, **ULTRA), A, B, C)
    assert of_a.candidates == (
        Candidate(A.prompt_id, "m1", 0, "1", "m1", given_score=7.5),
        Candidate(A.prompt_id, "m1", 1, "later", "m1", given_score=2.0),
    )
    assert lost(of_a) == [("missing_response", "m2", 0)]
    assert lost(of_b) == lost(of_c) == [("no_completion", "ultra", 0)]


def test_a_key_that_no_completion_has_is_refused_not_read_as_nothing(tmp_path):
    path = written(tmp_path, {"instruction": "a", "completions": [{"model": "m", "response": "1", "score": 2}]})
    with pytest.raises(InputError, match=r"no object in the column 'completions' has the key 'overall_score'"):
        drawn(ExistingCompletions(name="ultra", path=path, **ULTRA), A)


def test_lists_beside_each_other_are_taken_apart_and_uneven_ones_dropped(tmp_path):
    path = written(
        tmp_path,
        {"prompt": "a", "all_generated_responses": ["x", None, "z"], "all_rm_scores": [[1], 2, "3"], "model": "m"},
        {"prompt": "b", "all_generated_responses": ["x", "y"], "all_rm_scores": [1], "model": "m"},
        {"prompt": "c", "all_generated_responses": [], "all_rm_scores": [], "model": "m"},
    )
    part = ExistingCompletions(
        name="policy",
        path=path,
        response_column="all_generated_responses",
        score_column="all_rm_scores",
        model_column="model",
    )
    of_a, of_b, of_c = drawn(part, A, B, C)
    assert [(one.index, one.response, one.model, one.given_score) for one in of_a.candidates] == [
        (0, "x", "m", 1.0),
        (2, "z", "m", 3.0),
    ]
    assert lost(of_a) == [("missing_response", "policy", 1)]
    assert lost(of_b) == [("bad_completions", "policy", None)]
    assert "'all_rm_scores' has 1 values for 2 answers" in of_b.drops[0].detail
    assert lost(of_c) == [("no_completion", "policy", 0)]


LISTS = ExistingCompletions(
    name="policy", path="a.csv", response_column="texts", score_column="scores", model_column="models"
)
ROW = {"prompt": "a", "texts": ["It's x.", "y, z"], "scores": [1.0, None], "models": ["m", "n"]}
TWO = [("It's x.", 1.0, "m"), ("y, z", None, "n")]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "json", "csv", "tsv", "arrow"])
@pytest.mark.parametrize("written", [False, True])
def test_lists_are_lists_in_every_format_and_as_json_texts(tmp_path, form, written):
    row = {name: json.dumps(cell) if written and name != "prompt" else cell for name, cell in ROW.items()}
    part = LISTS.replace(path=table_of(form, [row], tmp_path))
    (of_a,) = drawn(part, A)
    assert [(one.response, one.given_score, one.model) for one in of_a.candidates] == TWO


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("column", ["texts", "scores", "models", "prompt"])
def test_lists_that_python_wrote_are_one_error(tmp_path, form, column):
    cell = [{"role": "user", "content": "a"}] if column == "prompt" else ROW[column]
    row = {name: json.dumps(value) for name, value in ROW.items()} | {"prompt": "a", column: str(cell)}
    part = LISTS.replace(path=table_of(form, [row], tmp_path))
    with pytest.raises(InputError) as caught:
        drawn(part, A)
    assert f"table.{form}, row 1: the column {column!r} holds a list as Python or NumPy writes it" in str(caught.value)


def test_without_scores_the_answers_alone_say_that_they_are_lists(tmp_path):
    path = table_of("csv", [ROW, {**ROW, "prompt": "b", "texts": None}], tmp_path)
    part = ExistingCompletions(name="policy", path=path, response_column="texts")
    assert [one.response for one in drawn(part, A)[0].candidates] == [text for text, _, _ in TWO]
    mixed = table_of("csv", [ROW, {**ROW, "prompt": "b", "texts": "[sic] a text"}], tmp_path)
    part = ExistingCompletions(name="policy", path=mixed, response_column="texts")
    assert [one.response for one in drawn(part, A)[0].candidates] == [json.dumps(ROW["texts"])]
    part = ExistingCompletions(name="policy", path=path, response_column="texts", response_format="text")
    assert [one.response for one in drawn(part, A)[0].candidates] == [json.dumps(ROW["texts"])]
    assert "response_format" not in LISTS.dump()


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_an_answer_may_be_a_list_of_messages_or_its_json_text(tmp_path, form):
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}]
    part = ExistingCompletions(name="p", path=table_of(form, [{"prompt": "a", "response": talk}], tmp_path))
    assert [one.response for one in drawn(part, A)[0].candidates] == ["x"]
    nested = [{"prompt": "a", "response": [talk, talk]}]
    part = ExistingCompletions(name="p", path=table_of(form, nested, tmp_path))
    assert [one.response for one in drawn(part, A)[0].candidates] == ["x", "x"]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv", "arrow"])
def test_ids_that_became_floats_are_joined(tmp_path, form):
    rows = [{"id": 101.0, "response": "x"}, {"id": None, "response": "y"}]
    part = ExistingCompletions(name="p", path=table_of(form, rows, tmp_path), prompt_id_column="id")
    counts = Counter()
    (found,) = drawn(part, Prompt("101", as_messages("a")), counts=counts)
    assert [one.response for one in found.candidates] == ["x"]
    assert counts == {"rows_with_unusable_prompt": 1}


def test_a_system_turn_is_a_part_of_the_prompt_that_is_joined_or_is_refused(tmp_path):
    path = written(tmp_path, {"system": "Be brief.", "prompt": "a", "response": "x"})
    messages = ({"role": "system", "content": "Be brief."}, *as_messages("a"))
    asked = Prompt(prompt_id_of(messages), messages)
    part = ExistingCompletions(name="p", path=path, system_column="system")
    assert [one.response for one in drawn(part, asked)[0].candidates] == ["x"]
    with pytest.raises(InputError, match="row 1: the column 'system' looks like a part of the prompt, and is not read"):
        drawn(ExistingCompletions(name="p", path=path), A)
    left_out = ExistingCompletions(name="p", path=path, system_column="")
    assert [one.response for one in drawn(left_out, A)[0].candidates] == ["x"]


def test_completions_that_are_no_list_of_objects_are_dropped(tmp_path):
    path = written(tmp_path, {"prompt": "a", "completions": ["text"]}, {"prompt": "b", "completions": "text"})
    part = ExistingCompletions(name="given", path=path, completions_column="completions")
    assert [lost(found) for found in drawn(part, A, B)] == [[("bad_completions", "given", None)]] * 2


def test_a_missing_column_is_refused_before_any_task(tmp_path):
    path = written(tmp_path, {"prompt": "a", "responce": "x"})
    with pytest.raises(
        InputError, match=r"has no column 'response'\n  valid: prompt, responce \(did you mean 'responce'"
    ):
        drawn(ExistingCompletions(name="given", path=path), A)


def test_the_recorded_teacher_answers_every_prompt_of_the_sample():
    rows = list(files.rows(files.bundled_sample()))
    prompts = [Prompt(prompt_id_of(row["prompt"]), as_messages(row["prompt"])) for row in rows]
    counts = Counter()
    found = drawn(SampleAnswers(name="teacher"), *reversed(prompts), counts=counts)
    answers = [one.candidates[0].response for one in reversed(found)]
    assert answers == [row["answer"] for row in rows]
    assert {one.candidates[0].source for one in found} == {"teacher"}
    assert counts == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "either `path` or `dataset`"),
        ({"path": "a.jsonl", "dataset": "a/b"}, "either `path` or `dataset`"),
        ({"path": "a.jsonl", "split": "train"}, "belong to `dataset`"),
        ({"path": "a.jsonl", "source": "model"}, "needs `model_column`"),
        ({"dataset": "no repository"}, "pattern"),
    ],
)
def test_a_contradiction_is_refused_at_once(given, said):
    with pytest.raises(ValidationError, match=said):
        ExistingCompletions(name="given", **given)


@pytest.mark.parametrize(
    "part",
    [
        ExistingCompletions(name="given", path="a.jsonl", **ULTRA),
        ExistingCompletions(name="given", dataset="a/b", split="train", revision="v1"),
        SampleAnswers(name="teacher"),
    ],
)
def test_a_table_survives_the_json_round_trip(part):
    assert TypeAdapter(AnySampler).validate_json(json.dumps(part.dump())) == part
    assert part.tasks_per_prompt == 1


def test_published_pairs_are_two_candidates_with_their_scores(tmp_path):
    rows = [
        {
            "prompt": "What is red?",
            "chosen": [{"role": "user", "content": "What is red?"}, {"role": "assistant", "content": "A colour."}],
            "rejected": "A number.",
            "score_chosen": "8.5",
            "score_rejected": None,
        }
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = Prompt(prompt_id_of(as_messages("What is red?")), as_messages("What is red?"))
    (drawn,) = PublishedPairs(name="published", path=path).sample([SampleTask(asked, 0)], Context(seed=0))
    assert [(c.source, c.index, c.response, c.given_score) for c in drawn.candidates] == [
        ("published", 0, "A colour.", 8.5),
        ("published", 1, "A number.", None),
    ]
    assert not drawn.drops
