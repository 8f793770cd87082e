"""`prefdata pair`: what a drop says is so, and names what is wrong; in every form and order of the table."""

from __future__ import annotations

import csv
import random
import re

import pytest

from prefdata.records import prompt_id_of

FORMS = ["t.jsonl", "t.parquet", "t.csv"]
GOOD = {"prompt": "good", "responses": ["a", "bc"], "scores": [1.0, 2.0], "models": ["m", "n"]}


def id_of(prompt):
    return prompt_id_of([{"role": "user", "content": prompt}])


def lost(paired, reason):
    return {row["prompt_id"]: row["detail"] for row in paired.drops if row["reason"] == reason}


# Lists beside the answers.


LENGTHS = [
    {"scores": 1},
    {"scores": 3},
    {"scores": 0},
    {"models": 1},
    {"models": 3},
    {"scores": 1, "models": 1},
    {"scores": 3, "models": 1},
    {"tokens": 1},
    {"scores": 3, "models": 4, "tokens": 1},
]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("answers", [2, 6])
def test_a_drop_names_the_lists_that_differ_and_their_lengths(pair, name, lengths, answers):
    full = {"scores": 1.5, "models": "m", "tokens": 7}
    lengths = {column: length if length < 3 else answers + length for column, length in lengths.items()}
    row = {"prompt": "odd", "responses": [f"answer {at}" for at in range(answers)]}
    row |= {column: [value] * lengths.get(column, answers) for column, value in full.items()}
    columns = "response=responses,score=scores,model=models,n_tokens=tokens"
    paired = pair([row, {**GOOD, "tokens": [1, 2]}], "--columns", columns, name=name)
    said = lost(paired, "misaligned_scores")
    assert list(said) == [id_of("odd")]
    found = re.findall(r"'(\w+)' has (\d+) values for (\d+) answers", said[id_of("odd")])
    assert found == [(column, str(lengths[column]), str(answers)) for column in full if column in lengths]
    # All that the row holds is counted.
    assert paired.said["candidates"] == answers + 2
    assert paired.said["ineligible"] == {"of_dropped_prompts": answers}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_of_several_odd_rows_of_a_prompt_the_words_do_not_depend_on_their_order(pair, name, seed):
    rows = [
        {**GOOD, "prompt": "odd", "scores": [1.0]},
        {**GOOD, "prompt": "odd", "models": ["m", "n", "o"]},
        {**GOOD, "prompt": "odd"},
        GOOD,
        {**GOOD, "prompt": "also good"},
    ]
    random.Random(seed).shuffle(rows)
    paired = pair(rows, "--columns", "response=responses,score=scores,model=models", name=name)
    assert lost(paired, "misaligned_scores") == {id_of("odd"): "'models' has 3 values for 2 answers"}
    assert (paired.said["candidates"], paired.said["pairs"]) == (10, 2)


# Ids that say nothing.


def rows_with_ids(blank):
    rows = [
        {"prompt_id": blank, "prompt": prompt, "response": f"{prompt} {score}", "score": score}
        for prompt in ("one", "two", "three")
        for score in (1.0, 2.0)
    ]
    named = [{**row, "prompt_id": "mine", "prompt": "four"} for row in rows[:2]]
    return [*rows, *named]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("blank", ["", " ", "\t \u2003"])
@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("options", [(), ("--with-candidates",)])
def test_each_prompt_with_an_empty_id_is_a_drop_of_its_own(pair, tmp_path, name, blank, seed, options):
    rows = rows_with_ids(blank)
    if seed is not None:
        random.Random(seed).shuffle(rows)
    if name == "t.csv":
        # An empty field is an empty text where it is quoted.
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
        rows = path
    paired = pair(rows, *options, name=name)
    expected = {id_of(prompt): "2 rows have an empty prompt_id" for prompt in ("one", "two", "three")}
    assert lost(paired, "empty_id") == expected
    assert paired.picks == {"mine": ("one 2.0", "one 1.0")}
    assert (paired.said["prompts"], paired.said["candidates"], paired.said["drops"]) == (4, 8, {"empty_id": 3})


@pytest.mark.parametrize("name", FORMS)
def test_only_rows_with_neither_id_nor_prompt_are_said_to_have_neither(pair, name):
    nothing = [{"prompt_id": " ", "prompt": None, "response": text, "score": len(text)} for text in ("a", "bc")]
    paired = pair([*rows_with_ids(" "), *nothing], name=name)
    assert lost(paired, "missing_prompt") == {"": "2 rows have neither prompt_id nor prompt"}
    assert len(lost(paired, "empty_id")) == 3


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("turn", [False, True])
def test_an_empty_id_beside_a_missing_one_drops_the_prompt_that_both_have(pair, name, turn):
    rows = rows_with_ids(" ")
    rows[0]["prompt_id"] = None
    paired = pair(rows[::-1] if turn else rows, name=name)
    assert lost(paired, "empty_id")[id_of("one")] == "1 rows have an empty prompt_id"
    assert paired.said["prompts"] == 4


def test_a_dataset_with_such_drops_verifies(prefdata, write_table, tmp_path):
    rows = [*rows_with_ids(""), {**rows_with_ids("")[0], "prompt": " "}]
    table = write_table(tmp_path / "t.jsonl", rows)
    odd = write_table(tmp_path / "odd.jsonl", [{**GOOD, "scores": [1.0]}, {**GOOD, "prompt": "also good"}])
    for path in (table, odd):
        said = prefdata("pair", path, "--rule", "best_vs_worst", "--out", tmp_path / path.stem)
        assert said.code == 0, said.err
        verified = prefdata("verify", tmp_path / path.stem, "--table", path)
        assert verified.code == 0, verified.out + verified.err
