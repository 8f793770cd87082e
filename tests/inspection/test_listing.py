"""`prefdata inspect --where --sort --prompt-id`: the pairs that were asked for, in their order, or one message."""

from __future__ import annotations

import json
import shlex

import pytest


@pytest.fixture
def made(prefdata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers = [
        {"prompt": f"question {n}?", "response": f"answer {k}" + "!" * (k * n), "score": n * k, "source": f"s{k}"}
        for n in range(6)
        for k in range(3)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    said = prefdata("pair", "t.jsonl", "--rule", "best_vs_worst", "--out", "out", "--with-candidates")
    assert said.code == 0, said.err
    return tmp_path


def listed(prefdata, *options):
    said = prefdata("inspect", "out", "--json", *options)
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_pairs_are_kept_sorted_and_counted(prefdata, made):
    found = listed(prefdata, "--where", "margin < 7 and length_difference >= 4", "--sort", "-length_difference")
    assert (found["pairs"], found["matching"]) == (5, 2)
    assert [row["length_difference"] for row in found["rows"]] == [6, 4]
    assert [row["prompt"] for row in found["rows"]] == ["question 3?", "question 2?"]
    first = listed(prefdata, "--sort", "margin", "--pairs", "1")
    assert [row["score_margin"] for row in first["rows"]] == [2]
    assert len(listed(prefdata, "--where", "prompt contains '4?'")["rows"]) == 1


def test_the_page_says_what_was_asked_and_what_is_left_out(prefdata, made):
    said = prefdata("inspect", "out", "--where", "margin > 2", "--sort", "margin", "--pairs", "2")
    assert said.out.startswith("4 of 5 pairs where margin > 2, sorted by margin\n")
    assert "margin 4, length difference 4" in said.out
    assert "  chosen   [4, length 12, s2] answer 2!!!!\n" in said.out
    assert "\n2 more pairs\n" in said.out
    last = said.out.splitlines()[-1]
    assert last == "Next:    prefdata inspect out --where 'margin > 2' --sort margin --pairs 4"
    more = prefdata(*shlex.split(last.partition("prefdata ")[2])).out
    assert more.count("\npair ") == 4
    assert "Next:    prefdata inspect out --prompt-id " in more


def test_the_next_command_is_of_the_same_configuration_and_of_pairs_only(prefdata, made):
    rows = [{"prompt": f"p{n}", "chosen": "c" * n, "rejected": "r"} for n in range(1, 5)]
    labelled = [{"prompt": row["prompt"], "completion": row["chosen"], "label": True} for row in rows]
    (made / "set").mkdir()
    for name, table in (("a", rows), ("b", rows), ("c", labelled)):
        (made / "set" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    configs = ", ".join(f"{{config_name: {name}, data_files: {name}.jsonl}}" for name in "abc")
    (made / "set" / "README.md").write_text(f"---\nconfigs: [{configs}]\n---\n")
    said = prefdata("inspect", "set", "--config", "a")
    for options in ("--sort length_difference", "--sort length_difference --pairs 4"):
        last = said.out.splitlines()[-1]
        assert last == f"Next:    prefdata inspect set --config a {options}"
        said = prefdata(
            *shlex.split(last.partition("prefdata ")[2]), *(["--pairs", "1"] if "--pairs" not in last else [])
        )
        assert said.code == 0, said.err
    assert "Next:" not in prefdata("inspect", "set", "--config", "c").out


def test_a_prompt_is_shown_with_all_its_answers(prefdata, made):
    whole = listed(prefdata, "--sort", "margin")["rows"][0]["prompt_id"]
    found = listed(prefdata, "--prompt-id", whole[:10])
    assert (found["prompt_id"], found["matching"], len(found["candidates"])) == (whole, 1, 3)
    assert [answer["picked"] for answer in found["candidates"]] == ["chosen", None, "rejected"]
    text = prefdata("inspect", "out", "--prompt-id", whole[:10]).out
    assert "\nall answers, the highest score first\n  chosen: [2, s2 " in text


def test_a_prompt_without_a_pair_says_why(prefdata, made):
    import polars as pl

    [dropped] = pl.read_parquet("out/drops.parquet")["prompt_id"].to_list()
    found = listed(prefdata, "--prompt-id", dropped)
    assert (found["matching"], found["rows"], len(found["candidates"])) == (0, [], 3)
    assert found["dropped"]["reason"] == "no_contrast"
    assert "dropped        no_contrast (" in prefdata("inspect", "out", "--prompt-id", dropped).out


def test_any_file_of_pairs_can_be_searched(prefdata, made):
    rows = [{"prompt": f"p{n}", "chosen": "c" * n, "rejected": "r"} for n in range(1, 5)]
    (made / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = prefdata("inspect", "pairs.jsonl", "--sort", "-length_difference", "--pairs", "1")
    assert said.code == 0, said.err
    assert "margin -, length difference 3" in said.out
    assert prefdata("inspect", "pairs.jsonl", "--prompt-id", "x").code == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--where", "lenght_difference < 1"), "did you mean 'length_difference'?"),
        (("--where", "margin <"), "ends too early"),
        (("--sort", "nothing"), "there is no column 'nothing'"),
        (("--sort", "chosen"), "holds lists or objects"),
        (("--prompt-id", "nowhere"), "has no prompt 'nowhere'"),
        (("--prompt-id", ""), "has no prompt ''"),
    ],
)
def test_a_mistake_is_one_message(prefdata, made, options, says):
    said = prefdata("inspect", "out", *options)
    assert (said.code, said.out) == (2, "")
    assert says in said.err
    assert len(said.err.splitlines()) <= 4
