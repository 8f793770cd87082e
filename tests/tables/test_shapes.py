"""Every shape in every format: the same prompts, answers, scores and models, and what was recognised is said."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_forms import FORMS, table_of

from prefdata.errors import InputError
from prefdata.tables.prompt_columns import SYSTEM_NAMES
from prefdata.tables.scored_table import ScoredTableFile
from prefdata.tables.whole_table import read_scored_table

WHY, HOW = "Why?", "How?"
ANSWERS = {WHY: (("It's so.", 2.0, "m"), ('So, "so".', 1.0, "n")), HOW: (("[like this]", 4.5, "m"), ("No.", 3.0, "n"))}


def user(text):
    return [{"role": "user", "content": text}]


def says(text):
    return {"role": "assistant", "content": text}


def each(make):
    return [make(prompt, *map(list, zip(*answers, strict=True))) for prompt, answers in ANSWERS.items()]


def long(make):
    return [make(prompt, *answer) for prompt, answers in ANSWERS.items() for answer in answers]


SHAPES = {
    "long": long(lambda p, r, s, m: {"prompt": p, "response": r, "score": s, "model": m}),
    "long_reward": long(lambda p, r, s, m: {"question": p, "completion": r, "reward": s, "model": m}),
    "wide": each(lambda p, r, s, m: {"prompt": p, "all_generated_responses": r, "all_rm_scores": s, "model": m}),
    "distilabel": each(lambda p, r, s, m: {"instruction": p, "generations": r, "ratings": s, "generation_models": m}),
    "lists": each(lambda p, r, s, m: {"query": p, "responses": r, "scores": s, "models": m}),
    "ultrafeedback": each(
        lambda p, r, s, m: {
            "source": "evol_instruct",
            "instruction": p,
            "models": m,
            "completions": [
                {"response": text, "overall_score": score, "model": model, "critique": "c"}
                for text, score, model in zip(r, s, m, strict=True)
            ],
        }
    ),
    "messages_long": long(lambda p, r, s, m: {"prompt": user(p), "completion": [says(r)], "score": s, "model": m}),
    "messages_wide": each(
        lambda p, r, s, m: {
            "prompt": user(p),
            "all_generated_responses": [[*user(p), says(text)] for text in r],
            "all_rm_scores": s,
            "model": m,
        }
    ),
    "sharegpt": long(
        lambda p, r, s, m: {
            "conversations": [{"from": "human", "value": p}, {"from": "gpt", "value": r}],
            "score": s,
            "model": m,
        }
    ),
    "talks": long(lambda p, r, s, m: {"messages": [*user(p), says(r)], "score": s, "model": m}),
}


def understood(scored):
    prompts = {row["prompt_id"]: row["messages"] for row in scored.prompts.to_dicts()}
    rows = [
        (json.dumps(prompts[row["prompt_id"]]), row["response"], row["score"], row["model"])
        for row in scored.candidates.to_dicts()
    ]
    return sorted(rows)


EXPECTED = sorted((json.dumps(user(p)), *answer) for p, answers in ANSWERS.items() for answer in answers)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read_alike_in_every_format_and_said(tmp_path, shape, form):
    table = table_of(form, SHAPES[shape], tmp_path)
    scored = read_scored_table(table)
    assert understood(scored) == EXPECTED
    assert scored.drops.height == 0
    reading = ScoredTableFile(table).reading
    assert (reading.said is None) == (shape == "long")
    assert understood(read_scored_table(table, reading.columns)) == EXPECTED, "the recipe of a dataset reads it alike"


@pytest.mark.parametrize("form", FORMS)
def test_keys_within_objects_are_named_by_paths(tmp_path, form):
    table = table_of(form, SHAPES["ultrafeedback"], tmp_path)
    columns = {
        "prompt": "instruction",
        "response": "completions.response",
        "score": "completions.overall_score",
        "source": "completions.model",
    }
    scored = read_scored_table(table, columns)
    assert sorted(scored.candidates["source"]) == ["m", "m", "n", "n"]
    assert [(row["response"], row["score"]) for row in scored.candidates.sort("score").to_dicts()] == [
        (text, score) for score, text in sorted((row[1], row[0]) for rows in ANSWERS.values() for row in rows)
    ]
    with pytest.raises(InputError, match="no object in the column 'completions' has the key 'scor'"):
        read_scored_table(table, {**columns, "score": "completions.scor"})


# Lists that Python and NumPy wrote, as `frame.to_csv` does.

TALK = [{"role": "user", "content": "Why?"}]
PLAIN = {"prompt": "Why?", "all_generated_responses": ["a", "b"], "all_rm_scores": [1.0, 2.0]}
WRITTEN = {
    "all_generated_responses": ("['a', 'b']", "[\"It's\", 'b']", "['a' 'b']"),
    "all_rm_scores": ("[1. 2.]", "[1.0, nan, None]", "[np.float64(1.0), np.float64(2.0)]"),
    "model": ("['m', 'n']", "['m' 'n']"),
    "source": ("['m', 'n']",),
    "index": ("[0 1]",),
    "finish_reason": ("['stop', 'length']",),
    "prompt": (
        "[{'role': 'user', 'content': 'Why?'}]",
        "[{'content': 'Why?', 'role': 'user'}]",
        "array([{'role': 'user', 'content': 'Why?'}], dtype=object)",
        "[{'from': 'human', 'value': 'Why?'}\n {'from': 'gpt', 'value': 'x'}]",
    ),
}
CASES = [(role, text) for role, texts in WRITTEN.items() for text in texts]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("column", "text"), CASES)
def test_a_list_that_is_not_written_as_json_is_one_error_in_every_role(tmp_path, form, column, text):
    rows = [{**PLAIN, "model": None, "source": None, "index": None, "finish_reason": None, column: text}] * 2
    if column == "all_generated_responses":
        rows = [{**row, "all_rm_scores": "[1.0, 2.0]"} for row in rows]
    with pytest.raises(InputError) as caught:
        read_scored_table(table_of(form, rows, tmp_path))
    message = str(caught.value)
    assert f"row 1: the column {column!r} holds a list as Python or NumPy writes it, not as JSON: " in message
    assert "to_parquet" in message


@pytest.mark.parametrize("form", FORMS)
def test_json_texts_are_the_lists_that_they_are_in_every_role(tmp_path, form):
    row = {
        "prompt": TALK,
        "all_generated_responses": ["a", "b"],
        "all_rm_scores": [1.0, None],
        "model": ["m", None],
        "source": ["s", "t"],
        "index": [3, 4],
        "finish_reason": ["stop", "length"],
    }
    rows = [{name: json.dumps(cell) for name, cell in row.items()}] * 2
    answers = read_scored_table(table_of(form, rows[:1], tmp_path)).candidates.sort("index").to_dicts()
    assert [(each["response"], each["score"], each["model"], each["source"]) for each in answers] == [
        ("a", 1.0, "m", "s"),
        ("b", None, None, "t"),
    ]
    assert [(each["index"], each["finish_reason"]) for each in answers] == [(3, "stop"), (4, "length")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["[1, 2, 3]", '["a", "b"]', "['a', 'b']", "[]", "[x for x in y]"])
def test_a_text_in_brackets_beside_one_score_is_an_answer(tmp_path, form, text):
    rows = [{"prompt": "Why?", "response": text, "score": float(score)} for score in (1, 2)]
    scored = read_scored_table(table_of(form, rows, tmp_path))
    assert scored.candidates["response"].to_list() == [text, text]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("role", ["model", "source", "index", "finish_reason"])
def test_lists_beside_the_answers_have_their_length_or_drop_the_prompt(tmp_path, form, role):
    rows = [{**PLAIN, role: [0] if role == "index" else ["m"]}]
    scored = read_scored_table(table_of(form, rows, tmp_path))
    assert scored.drops["reason"].to_list() == ["misaligned_scores"]


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_may_be_the_json_text_of_its_messages(tmp_path, form):
    rows = [{"prompt": "Why?", "response": json.dumps([says("So.")]), "score": 1.0}]
    assert read_scored_table(table_of(form, rows, tmp_path)).candidates["response"].to_list() == ["So."]
    rows = [{"prompt": "Why?", "response": str([says("So.")]), "score": 1.0}]
    with pytest.raises(InputError, match="holds a list as Python or NumPy writes it"):
        read_scored_table(table_of(form, rows, tmp_path))


# Prompts.


@pytest.mark.parametrize("form", FORMS)
def test_a_system_turn_stands_in_front_and_an_input_follows_the_instruction(tmp_path, form):
    rows = [
        {"system": "Be brief.", "instruction": "Add.", "input": "1, 2", "response": "3", "score": 1.0},
        {"system": None, "instruction": "Add.", "input": "", "response": "What?", "score": 2.0},
        {"system": " ", "instruction": "Add.", "input": None, "response": "What?", "score": 2.0},
    ]
    file = ScoredTableFile(table_of(form, rows, tmp_path))
    talks = read_scored_table(file.table).prompts["messages"].to_list()
    assert sorted(talks, key=len) == [
        user("Add."),
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Add.\n\n1, 2"}],
    ]
    assert "input follows instruction after a blank line; system is the system turn" in file.reading.said
    left_out = read_scored_table(file.table, {"system": "-", "input": "-"})
    assert left_out.prompts["messages"].to_list() == [user("Add.")]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_a_system_turn_joins_a_conversation_once(tmp_path, form):
    talk = [{"role": "system", "content": "Be brief."}, *user("Why?")]
    rows = [{"system": "Be brief.", "prompt": prompt, "response": "x", "score": 1.0} for prompt in (talk, user("Why?"))]
    scored = read_scored_table(table_of(form, rows, tmp_path))
    assert scored.prompts["messages"].to_list() == [talk]
    rows = [{"system": "Be long.", "prompt": talk, "response": "x", "score": 1.0}]
    with pytest.raises(InputError, match="row 1: the columns 'system' and 'prompt' have different system turns"):
        read_scored_table(table_of(form, rows, tmp_path))


@pytest.mark.parametrize("name", ["instruction", "question", "query", "problem", "input"])
@pytest.mark.parametrize("with_id", [False, True])
def test_a_prompt_under_another_name_is_read_and_said(tmp_path, name, with_id):
    rows = [{name: "Why?", "response": "x", "score": 1.0, **({"prompt_id": "p"} if with_id else {})}]
    file = ScoredTableFile(table_of("jsonl", rows, tmp_path))
    assert file.named["prompt"] == name
    assert f"prompt={name}" in file.reading.said
    assert read_scored_table(file.table).prompts["messages"].to_list() == [user("Why?")]


@pytest.mark.parametrize(
    "more", [{"question": "a", "query": "b"}, {"messages": [*user("a"), says("b")]}, {"conversations": []}]
)
def test_what_may_be_the_prompt_is_never_left_out_in_silence(tmp_path, more):
    rows = [{"prompt_id": "p", "response": "x", "score": 1.0, **more}]
    table = table_of("jsonl", rows, tmp_path)
    with pytest.raises(InputError, match="may be the prompt"):
        read_scored_table(table)
    assert read_scored_table(table, {"prompt": "-"}).prompts["messages"].to_list() == [None]


def test_what_looks_like_a_prompt_and_is_not_read_is_said(tmp_path):
    rows = [{"prompt": "Why?", "messages": user("Why?"), "input": "x", "response": "x", "score": 1.0}]
    assert ScoredTableFile(table_of("jsonl", rows, tmp_path)).reading.said.endswith("not read: input, messages")


def test_several_scores_are_a_choice(tmp_path):
    table = table_of("jsonl", [{"prompt": "Why?", "response": "x", "reward": 1.0, "rating": 2.0}], tmp_path)
    with pytest.raises(InputError, match="several columns may be the score"):
        read_scored_table(table)
    assert read_scored_table(table, {"score": "rating"}).candidates["score"].to_list() == [2.0]


# Ids.

FLOATS = [
    {"prompt_id": number, "prompt": text, "response": answer, "score": score}
    for number, text, answer, score in ((101.0, "A", "a", 1.0), (101, "A", "b", 2.0), (102, "B", "c", 1.0))
]


@pytest.mark.parametrize("form", FORMS)
def test_ids_that_became_floats_are_the_ids_that_they_were(tmp_path, form):
    scored = read_scored_table(table_of(form, FLOATS, tmp_path))
    assert scored.prompts["prompt_id"].to_list() == ["101", "102"]


def test_texts_that_are_no_whole_numbers_stay_as_they_are(tmp_path):
    rows = [{**FLOATS[0], "prompt_id": text} for text in ("1.0", "1.5", "2.0")]
    ids = read_scored_table(table_of("csv", rows, tmp_path)).prompts["prompt_id"].to_list()
    assert ids == ["1.0", "1.5", "2.0"]


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_float_that_may_be_several_ids_is_refused(tmp_path, form):
    with pytest.raises(InputError, match=r"column 'prompt_id': .*lost digits"):
        read_scored_table(table_of(form, [{**FLOATS[0], "prompt_id": 2.0**60}], tmp_path))


# Types of Arrow.

TYPES = {
    "response": [
        *(pa.list_view(pa.string()), pa.large_list_view(pa.string()), pa.list_(pa.string_view())),
        pa.list_(pa.dictionary(pa.int32(), pa.string())),
    ],
    "score": [pa.list_view(pa.float64()), pa.list_(pa.decimal256(50, 2)), pa.list_(pa.float16())],
}


@pytest.mark.parametrize(("role", "kind"), [(role, kind) for role, kinds in TYPES.items() for kind in kinds], ids=str)
def test_columns_of_exotic_types_are_read(tmp_path, role, kind):
    columns = {"prompt": ["Q0", "Q1"], "response": [["a", "b"], ["c", "d"]], "score": [[1.0, 2.0], [1.0, 2.0]]}
    arrays = {name: pa.array(cells) for name, cells in columns.items()}
    try:
        arrays[role] = pa.array(columns[role], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        arrays[role] = arrays[role].cast(kind)
    table = pa.table(arrays)
    path = tmp_path / "t.parquet"
    pq.write_table(table, path)
    for each_table in (path, table, table.slice(1).to_batches()[0]):
        scores = read_scored_table(each_table, {"response": "response"}).candidates["score"].to_list()
        assert scores == [1.0, 2.0] * (len(scores) // 2)
    for kind in ("run_end", "view"):
        text = pa.array(["Q0", "Q1"])
        arrays["prompt"] = pa.compute.run_end_encode(text) if kind == "run_end" else text.cast(pa.string_view())
        assert read_scored_table(pa.table(arrays)).prompts.height == 2


PAIR = [{"prompt": WHY, "response": "good", "score": 2.0}, {"prompt": WHY, "response": "bad", "score": 1.0}]


@pytest.mark.parametrize("name", ["stop_reason", "stop_reasons", "finish_reasons", "done_reason", "finishReason"])
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "pandas"])
def test_finish_reasons_under_their_other_names_are_read(tmp_path, name, form):
    rows = [{**row, name: word} for row, word in zip(PAIR, ("max_tokens", "end_turn"), strict=True)]
    scored = read_scored_table(table_of(form, rows, tmp_path))
    assert {row["response"]: row["finish_reason"] for row in scored.candidates.to_dicts()} == {
        "good": "max_tokens",
        "bad": "end_turn",
    }


@pytest.mark.parametrize("name", SYSTEM_NAMES)
def test_two_system_turns_are_two_prompts_whatever_their_column_is_called(tmp_path, name):
    rows = [{**row, name: f"You are {number}."} for number, row in enumerate(PAIR)]
    file = ScoredTableFile(table_of("jsonl", rows, tmp_path))
    assert f"{name} is the system turn" in str(file.reading.said)
    assert read_scored_table(file.table).prompts.height == 2


@pytest.mark.parametrize("more", [{}, {"system": "You are."}, {"task_description": WHY}])
def test_a_table_of_ids_without_a_prompt_says_so(tmp_path, more):
    rows = [{"prompt_id": "p", "response": "good", "score": 2.0, **more}]
    said = str(ScoredTableFile(table_of("jsonl", rows, tmp_path)).reading.said)
    assert "no column of the prompt" in said
    assert ("not read: system" in said) == ("system" in more)


def test_two_columns_of_one_name_in_a_frame_are_one_message():
    import pandas as pd

    frame = pd.concat([pd.DataFrame(PAIR), pd.DataFrame({"score": [1, 2]})], axis=1)
    with pytest.raises(InputError, match="can't be read"):
        ScoredTableFile(frame)


@pytest.mark.parametrize("form", FORMS)
def test_tokens_of_each_answer_are_read_beside_it(tmp_path, form):
    rows = [
        {"prompt": WHY, "responses": ["good", "bad"], "scores": [2.0, 1.0], "n_tokens": [7, 3]},
        {"prompt": HOW, "responses": ["good", "bad"], "scores": [2.0, 1.0], "n_tokens": [7]},
    ]
    scored = read_scored_table(table_of(form, rows, tmp_path))
    assert {row["response"]: row["n_tokens"] for row in scored.candidates.to_dicts()} == {"good": 7, "bad": 3}
    assert scored.drops["reason"].to_list() == ["misaligned_scores"]


def test_what_is_not_a_count_of_tokens_is_none(tmp_path):
    cells = [3, "4", 5.0, 2.5, -1, None, "many"]
    rows = [{"prompt": WHY, "response": f"{n}", "score": n, "n_tokens": cell} for n, cell in enumerate(cells)]
    found = read_scored_table(table_of("jsonl", rows, tmp_path)).candidates.sort("score")["n_tokens"]
    assert found.to_list() == [3, 4, 5, None, None, None, None]


def test_only_the_keys_that_are_read_are_decoded(tmp_path):
    answers = [{"response": text, "overall_score": score, "model": "m", "critique": "x" * 9} for text, score in _TWO]
    path = tmp_path / "t.parquet"
    rows = [{"instruction": WHY, "completions": answers}, {"instruction": HOW, "completions": None}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    file = ScoredTableFile(path)
    batch = next(file.table.batches(["completions"], 10))
    assert {field.name for field in batch.column("completions").type.value_type} == {
        "response",
        "overall_score",
        "model",
    }
    assert read_scored_table(path).candidates["response"].to_list() == [text for text, _ in _TWO]


_TWO = [("good", 2.0), ("bad", 1.0)]
