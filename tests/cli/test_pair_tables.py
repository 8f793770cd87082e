"""`prefdata pair`: every form of table, every form of score, one meaning."""

from __future__ import annotations

import decimal
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from prefdata.records import prompt_id_of

WHY, HOW, WHO = (prompt_id_of([{"role": "user", "content": text}]) for text in ("Why?", "How?", "Who?"))


def answer(prompt, response, score, **more):
    return {"prompt": prompt, "response": response, "score": score, **more}


LONG = [
    answer("Why?", "because it is so", 5.0),
    answer("Why?", "because", 5.0),
    answer("Why?", "no", 1.0),
    answer("Why?", "nobody", 1.0),
    answer("How?", "like this, ünïcode", 2.0),
    answer("How?", 'with "quotes", commas\nand lines', 3.5),
    answer("Who?", "me", 4.0),
    answer("Who?", "you", 4.0),
]
WIDE = [
    {
        "prompt": prompt,
        "all_generated_responses": [row["response"] for row in LONG if row["prompt"] == prompt],
        "all_rm_scores": [row["score"] for row in LONG if row["prompt"] == prompt],
    }
    for prompt in ("Why?", "How?", "Who?")
]
PICKS = {WHY: ("because", "nobody"), HOW: ('with "quotes", commas\nand lines', "like this, ünïcode")}


@pytest.mark.parametrize(
    "name", ["t.parquet", "t.jsonl", "t.csv", "t.jsonl.gz", "t.csv.gz", "t.jsonl.zst", "t.csv.zst"]
)
@pytest.mark.parametrize("rows", [LONG, WIDE], ids=["long", "wide"])
def test_every_form_of_table_gives_the_same_pairs(pair, name, rows):
    paired = pair(rows, name=name)
    assert paired.picks == PICKS
    assert paired.said["drops"] == {"no_contrast": 1}
    assert [row["n_candidates"] for row in paired.pairs] == [{WHY: 4, HOW: 2}[row["prompt_id"]] for row in paired.pairs]


def test_the_long_and_the_wide_form_of_the_same_data_give_the_same_rows(pair):
    numbered = [
        {**row, "index": [other["prompt"] for other in LONG[:place]].count(row["prompt"])}
        for place, row in enumerate(LONG)
    ]
    assert pair(numbered).pairs == pair(WIDE).pairs == pair(WIDE, name="t.parquet").pairs


def test_files_of_the_zstd_program_are_read(pair, tmp_path, zstd_tool):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in LONG))
    zstd_tool(path)
    assert pair(tmp_path / "t.jsonl.zst").picks == PICKS


@pytest.mark.parametrize(
    ("high", "low"),
    [(2, 1), (2.5, -1e300), ("2", "1"), (" 2e0 ", "-.5"), ([2], [1]), (["2"], [1.0]), (2, "1"), ([2.0], 1)],
)
def test_numbers_texts_and_lists_of_one_are_scores(pair, high, low):
    rows = [answer("Why?", "good", high), answer("Why?", "bad", low)]
    assert pair(rows).picks == {WHY: ("good", "bad")}


@pytest.mark.parametrize(
    "cell",
    [
        None,
        "",
        "N/A",
        "nan",
        "inf",
        "-inf",
        "five",
        "1,5",
        "0x10",
        "1_000",
        [],
        [1, 2],
        [None],
        [[1]],
        {},
        True,
        False,
        ["nan"],
    ],
    ids=repr,
)
def test_anything_else_is_unscored_and_never_reaches_the_rule(pair, cell):
    rows = [answer("Why?", "good", 2), answer("Why?", "bad", 1), answer("Why?", "unscored", cell)]
    paired = pair(rows)
    assert paired.picks == {WHY: ("good", "bad")}
    assert paired.said["ineligible"] == {"unscored": 1}
    assert [(row["reason"], row["stage"]) for row in paired.ineligible] == [("unscored", "pairs")]


@pytest.mark.parametrize("cell", [float("nan"), float("inf"), float("-inf"), None])
def test_nan_infinity_and_null_in_parquet_are_unscored(pair, cell):
    rows = [answer("Why?", "good", 2.0), answer("Why?", "bad", 1.0), answer("Why?", "unscored", cell)]
    assert pair(rows, name="t.parquet").picks == {WHY: ("good", "bad")}
    wide = {"prompt": "Why?", "all_generated_responses": ["good", "bad", "x"], "all_rm_scores": [2.0, 1.0, cell]}
    assert pair([wide], name="t.parquet").picks == {WHY: ("good", "bad")}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2, 1], pa.int8()),
        pa.array([2, 1], pa.uint64()),
        pa.array([2, 1], pa.float16()),
        pa.array([2, 1], pa.float32()),
        pa.array([decimal.Decimal("2.00"), decimal.Decimal("1.00")], pa.decimal128(5, 2)),
        pa.array(["2", "1"]),
        pa.array(["2", "1"]).dictionary_encode(),
        pa.array([[2.0], [1.0]]),
        pa.array([["2"], ["1"]]),
        pa.array([[2.0], [1.0]], pa.list_(pa.float32(), 1)),
        pa.array([[2.0], [1.0]], pa.large_list(pa.float64())),
    ],
    ids=lambda column: str(column.type),
)
def test_every_parquet_type_of_scores_is_read(pair, tmp_path, column):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"prompt": ["Why?"] * 2, "response": ["good", "bad"], "score": column}), path)
    assert pair(path).picks == {WHY: ("good", "bad")}


def test_booleans_in_parquet_are_no_scores(pair):
    paired = pair([answer("Why?", "good", True), answer("Why?", "bad", False)], name="t.parquet")
    assert paired.said["drops"] == {"too_few_candidates": 1}
    assert paired.said["ineligible"] == {"unscored": 2}


@pytest.mark.parametrize("size", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.string(), 2)])
def test_every_parquet_type_of_answer_lists_is_read(pair, tmp_path, size):
    path = tmp_path / "t.parquet"
    columns = {
        "prompt": ["Why?"],
        "all_generated_responses": pa.array([["bad", "good"]], size),
        "all_rm_scores": pa.array([[1, 2]], pa.list_(pa.float32(), 2)),
    }
    pq.write_table(pa.table(columns), path)
    assert pair(path).picks == {WHY: ("good", "bad")}


# Prompts.


def test_the_id_is_made_from_the_prompt(pair):
    assert set(pair(LONG).picks) == {WHY, HOW}


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", "t.csv"])
def test_prompts_may_be_null_beside_an_id(pair, name):
    rows = [{**answer(None, text, score), "prompt_id": "p1"} for text, score in (("good", 2.0), ("bad", 1.0))]
    paired = pair(rows, name=name)
    assert paired.picks == {"p1": ("good", "bad")}
    assert paired.pairs[0]["prompt"] is None


def test_the_prompt_column_may_be_absent(pair):
    rows = [{"prompt_id": 7, "response": text, "score": score} for text, score in (("good", 2), ("bad", 1))]
    assert pair(rows).picks == {"7": ("good", "bad")}


TALK = [
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": "So?"},
]


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", "t.csv"])
def test_prompts_may_be_messages(pair, name):
    paired = pair([answer(TALK, "good", 2), answer(TALK, "bad", 1)], name=name)
    assert paired.picks == {prompt_id_of(TALK): ("good", "bad")}
    assert paired.pairs[0]["prompt"] == TALK


def test_a_text_and_its_one_user_turn_are_the_same_prompt(pair):
    turn = [{"role": "user", "content": "Why?"}]
    paired = pair([answer("Why?", "good", 2), answer(turn, "bad", 1)])
    assert paired.picks == {WHY: ("good", "bad")}
    assert paired.pairs[0]["prompt"] == turn


def test_different_prompts_under_one_id_are_dropped(pair):
    rows = [
        {**answer(prompt, text, score), "prompt_id": "p"} for prompt, text, score in (("A", "good", 2), ("B", "bad", 1))
    ]
    paired = pair([*rows, *LONG])
    assert paired.said["drops"] == {"conflicting_prompts": 1, "no_contrast": 1}
    assert paired.picks == PICKS


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("  ", "blank"),
        ([], "blank"),
        ([{"role": "user"}], "bad_messages"),
        ([{"role": "assistant", "content": "x"}], "ends_in_assistant"),
        ([{"role": "user", "content": [{"type": "image"}]}], "unsupported_message"),
        (None, "missing_prompt"),
    ],
)
def test_a_prompt_that_is_none_is_dropped_with_its_reason(pair, prompt, reason):
    paired = pair([answer(prompt, "good", 2), answer(prompt, "bad", 1), *LONG])
    assert paired.said["drops"] == {"no_contrast": 1, reason: 1}
    assert paired.picks == PICKS


# Sources and indexes.


def test_the_source_falls_back_to_the_model(pair):
    rows = [answer("Why?", "good", 2, model="gpt"), answer("Why?", "bad", 1, model="llama")]
    assert [(row["source_chosen"], row["source_rejected"]) for row in pair(rows).pairs] == [("gpt", "llama")]
    named = [{**rows[0], "source": "mine"}, {**rows[1], "source": None}]
    assert [(row["source_chosen"], row["source_rejected"]) for row in pair(named).pairs] == [("mine", "llama")]
    assert [row["model_chosen"] for row in pair(named).pairs] == ["gpt"]


def test_ties_after_all_keys_fall_to_source_then_index_then_the_digest_of_the_text(pair):
    same = [answer("Why?", text, 2, source=source, index=index) for text, source, index in (
        ("abc", "b", 0), ("bcd", "a", 10), ("cde", "a", 9), ("bcd", "a", 9))]  # fmt: skip
    for _ in range(4):
        random.Random(_).shuffle(same)
        assert pair([*same, answer("Why?", "x", 1)]).picks == {
            WHY: (min("bcd", "cde", key=lambda text: xxhash.xxh3_64_intdigest(text.encode())), "x")
        }
        assert pair([*same, answer("Why?", "x", 1)]).pairs[0]["index_chosen"] == 9


@pytest.mark.parametrize("indexes", [[0, 1], ["0", "1"], [0.0, 1.0], ["0.0", "1"], [1, None], [-5, 10**15]])
def test_indexes_are_whole_numbers_however_written(pair, indexes):
    rows = [
        answer("Why?", "good", 2, index=indexes[0]),
        answer("Why?", "best", 2, index=indexes[1]),
        answer("Why?", "x", 1),
    ]
    assert pair(rows).picks == {WHY: ("good", "x")}


def test_an_answer_with_an_index_comes_before_one_that_is_named_by_its_text(pair):
    rows = [answer("Why?", "good", 2), answer("Why?", "best", 2, index=1), answer("Why?", "x", 1)]
    assert pair(rows).picks == {WHY: ("best", "x")}


@pytest.mark.parametrize("indexes", [["a", "b"], [0.5, 1], [[0], [1]], [10**30, 1], [True, False]])
@pytest.mark.parametrize("name", ["t.jsonl", "t.csv"])
def test_other_indexes_are_refused(prefdata, write_table, tmp_path, indexes, name):
    path = write_table(
        tmp_path / name, [answer("Why?", "abc"[:place], place, index=index) for place, index in enumerate(indexes, 1)]
    )
    said = prefdata("pair", path, "--rule", "wpo_hybrid_v2", "--out", tmp_path / "out")
    assert (said.code, said.out) == (2, "")
    assert "column 'index' holds something else than whole numbers" in said.err
    assert not (tmp_path / "out").exists()


# Answers.


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u00a0\u2003", "\x1c"])
def test_blank_answers_are_not_eligible(pair, blank):
    paired = pair([answer("Why?", "good", 2), answer("Why?", blank, 9), answer("Why?", "bad", 1)])
    assert paired.picks == {WHY: ("good", "bad")}
    assert paired.said["ineligible"] == {"blank": 1}


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", "t.csv"])
def test_lists_that_do_not_match_drop_their_prompt_only(pair, name):
    odd = [
        {"prompt": "A", "all_generated_responses": ["x", "y"], "all_rm_scores": [1.0]},
        {"prompt": "B", "all_generated_responses": ["x", "y"], "all_rm_scores": [1.0, 2.0, 3.0]},
        {"prompt": "C", "all_generated_responses": [], "all_rm_scores": []},
        {"prompt": "D", "all_generated_responses": ["x", "y"], "all_rm_scores": []},
        {"prompt": "E", "all_generated_responses": ["x"], "all_rm_scores": [1.0]},
    ]
    paired = pair([*odd, *WIDE], name=name)
    assert paired.said["drops"] == {"misaligned_scores": 3, "no_contrast": 1, "too_few_candidates": 2}
    assert paired.picks == PICKS


def test_null_lists_drop_their_prompt(pair):
    rows = [*WIDE, {"prompt": "A", "all_generated_responses": None, "all_rm_scores": None}]
    for name in ("t.jsonl", "t.parquet"):
        paired = pair(rows, name=name)
        assert paired.said["drops"] == {"no_contrast": 1, "too_few_candidates": 1}
        assert paired.said["ineligible"] == {}


def test_a_wide_table_with_a_score_of_its_own_is_still_wide(pair):
    assert pair([{**row, "score": 3} for row in WIDE]).picks == PICKS


def test_a_table_without_a_single_pair_is_a_dataset_of_none(pair):
    paired = pair([answer("Why?", "a", 1), answer("Why?", "b", 1)])
    assert paired.pairs == []
    assert paired.said["drops"] == {"no_contrast": 1}


def test_an_answer_is_measured_in_the_unit_that_is_asked_for(pair):
    rows = [answer("Why?", "ää ä", 2), answer("Why?", "abcdef", 2), answer("Why?", "x", 1)]
    found = {unit: pair(rows, "--length", unit).pairs[0] for unit in ("characters", "words", "bytes")}
    assert {unit: row["length_chosen"] for unit, row in found.items()} == {"characters": 4, "words": 1, "bytes": 6}
    assert found["words"]["chosen"][0]["content"] == "abcdef"
    assert pair(rows).pairs[0] == found["characters"]


def test_answers_that_were_cut_off_are_not_eligible(pair):
    rows = [
        answer("Why?", text, score, finish_reason=how)
        for text, score, how in (("cut", 9, "length"), ("good", 2, "stop"), ("bad", 1, None))
    ]
    paired = pair(rows)
    assert paired.picks == {WHY: ("good", "bad")}
    assert paired.said["ineligible"] == {"cut_off": 1}


CUT_OFF = ["length", "max_tokens", "MAX_TOKENS", "LENGTH", "max_output_tokens", "model_length"]
TEXTS = ("Whole and good.", "Whole and bad.", "Best, but cut")


@pytest.mark.parametrize(
    ("name", "wide", "words"),
    [
        ("t.csv", False, [*CUT_OFF, '{"type": "length"}']),
        ("t.parquet", False, CUT_OFF),
        ("t.parquet", True, CUT_OFF),
        ("t.jsonl", False, [*CUT_OFF, {"type": "length", "length": 64}]),
        ("t.jsonl", True, [*CUT_OFF, {"type": "length", "length": 64}]),
    ],
)
def test_every_word_for_an_answer_that_was_cut_off_is_read_in_every_form(pair, name, wide, words):
    rows = []
    for number, word in enumerate(words):
        prompt, scores, ends = f"Question {number}?", [2, 1, 3], ["stop", "end_turn", word]
        if wide:
            lists = {"all_generated_responses": [*TEXTS], "all_rm_scores": scores, "finish_reason": ends}
            rows.append({"prompt": prompt, **lists})
        else:
            answers = zip(TEXTS, scores, ends, strict=True)
            rows += [answer(prompt, text, score, finish_reason=end) for text, score, end in answers]
    paired = pair(rows, name=name)
    assert set(paired.picks.values()) == {TEXTS[:2]}
    assert len(paired.pairs) == len(words)
    assert paired.said["ineligible"] == {"cut_off": len(words)}


def test_a_parquet_column_of_objects_that_say_why_an_answer_ended(pair):
    ends = [{"type": "stop", "matched": 2}, {"type": "stop", "matched": None}, {"type": "length", "matched": None}]
    rows = [answer("Why?", f"answer {score}", score, finish_reason=end) for score, end in enumerate(ends)]
    paired = pair(rows, name="t.parquet")
    assert paired.picks == {WHY: ("answer 1", "answer 0")}
    assert paired.said["ineligible"] == {"cut_off": 1}


# Columns of other names.


def test_columns_of_other_names_are_mapped(pair):
    renamed = [
        {"q": row["prompt"], "text": row["response"], "reward": row["score"], "who": "m", "n": 0} for row in LONG
    ]
    options = "prompt=q,response=text,score=reward,source=who,index=n"
    for name in ("t.jsonl", "t.parquet", "t.csv"):
        paired = pair(renamed, "--columns", options, name=name)
        assert paired.picks == PICKS
        assert {row["source_chosen"] for row in paired.pairs} == {"m"}
    wide = [
        {"q": row["prompt"], "texts": row["all_generated_responses"], "rewards": row["all_rm_scores"]} for row in WIDE
    ]
    for name in ("t.jsonl", "t.parquet", "t.csv"):
        assert pair(wide, "--columns", "prompt=q, response=texts, score=rewards", name=name).picks == PICKS


def test_a_mapped_column_comes_before_one_with_the_roles_name(pair):
    rows = [{**row, "other": -row["score"]} for row in LONG]
    assert pair(rows, "--columns", "score=other").picks[HOW] == PICKS[HOW][::-1]


def test_other_columns_do_not_matter(pair):
    names = [
        "row",
        "misaligned",
        "response_is_row",
        "unscored",
        "made_id",
        "place",
        "length",
        "chosen_score",
        "reason",
        "messages",
    ]
    noisy = [{**row, **dict.fromkeys(names, "noise")} for row in LONG]
    for name in ("t.jsonl", "t.parquet"):
        assert pair(noisy, name=name).pairs == pair(LONG, name=name).pairs


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_a_prompt_may_hold_any_character(pair, name):
    for prompt in ("\0", "\0[", "a\u2028b", "[", '[{"role": 1}]', "𝕏"):
        paired = pair([answer(prompt, "good", 2), answer(prompt, "bad", 1)], name=name)
        assert paired.pairs[0]["prompt"] == [{"role": "user", "content": prompt}]
