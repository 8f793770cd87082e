"""Nothing came out: exit 1, with the commonest reasons, and a folder that still loads."""

from __future__ import annotations

import json

import pytest
from datasets import load_dataset

from prefdata.inspection.load import load


def rows(*scores, texts=None):
    return [
        {"prompt": "Why?", "response": text, "score": score}
        for text, score in zip(texts or [f"answer {number}" for number in range(len(scores))], scores, strict=True)
    ]


def loads(folder):
    """`datasets` holds no split of no rows in memory, whoever wrote it; as a stream it reads one."""
    assert load(folder).pairs.shape[0] == 0
    stream = load_dataset(str(folder), split="train", streaming=True)
    assert list(stream) == []
    assert "prompt" in stream.features


CASES = [
    (rows("7/10", "8/10"), ["too_few_candidates", "2 answers: unscored", "not_a_number", "'7/10' in row 1", "2 of 2"]),
    (rows(3, 3.0), ["1 prompt: no_contrast", "all scores 3.0"]),
    (rows(2, 1, texts=["Same answer.", "Same answer.\n"]), ["identical_texts"]),
    (rows(1), ["too_few_candidates", "1 of 1 candidates eligible"]),
    ([row | {"finish_reason": "odd"} for row in rows(1, 2)], ["2 answers: unknown_finish_reason", "(odd)"]),
]


@pytest.mark.parametrize(("table", "words"), CASES)
@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_pair_without_a_pair_says_why_and_leaves_a_folder_that_loads(
    prefdata, write_table, tmp_path, table, words, name
):
    path, out = write_table(tmp_path / name, table), tmp_path / "out"
    said = prefdata("pair", path, "--rule", "best_vs_worst", "--out", out)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("prefdata: no pair came out of 1 prompt")
    for word in words:
        assert word in said.err
    loads(out)
    said = prefdata("pair", path, "--rule", "best_vs_worst", "--out", out, "--json")
    assert (said.code, json.loads(said.out)["pairs"]) == (1, 0)
    pushed = prefdata("push", out, "owner/name")
    assert pushed.code == 2
    assert "not published: the dataset" in pushed.err
    assert "has no pair" in pushed.err


def test_build_without_a_pair_says_why(prefdata, write_table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "t.jsonl", rows("7/10", "8/10"))
    recipe = {
        "name": "none",
        "prompts": {"kind": "file", "path": "t.jsonl"},
        "candidates": [{"kind": "existing", "name": "old", "path": "t.jsonl", "score_column": "score"}],
        "scores": {"kind": "given"},
        "pairs": {"kind": "best_vs_worst"},
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe), "utf-8")
    said = prefdata("build", "recipe.json", "--out", "out")
    assert (said.code, said.out) == (1, "")
    for word in ("no pair came out of 2 prompts", "too_few_candidates", "'7/10' in row 1 is not a number: 2 of 2"):
        assert word in said.err
    loads(tmp_path / "out" / "dataset")


def test_lists_that_csv_holds_as_texts_are_numbers(prefdata, write_table, tmp_path):
    def said(*scores):
        rows = [
            {"prompt": f"Why {number}?", "responses": '["one", "two"]', "scores": cell}
            for number, cell in enumerate(scores)
        ]
        path = write_table(tmp_path / "t.csv", rows)
        return prefdata("pair", path, "--rule", "best_vs_worst", "--out", tmp_path / "out").err

    assert "no pair came out" in said("[1, 1]", "[null, 2]")
    assert "is not a number" not in said("[1, 1]", "[null, 2]")
    assert "'7/10' in row 2 is not a number: 1 of 4" in said("[1, 1]", '[1, "7/10"]')


def test_texts_that_differ_in_white_space_only_are_one_text_for_every_rule(prefdata, write_table, tmp_path):
    table = rows(2, 1, texts=["Same answer.", "Same  answer.\n"])
    path, out = write_table(tmp_path / "t.jsonl", table), tmp_path / "out"
    for rule in ("best_vs_worst", "wpo_hybrid_v2", "ultrafeedback_binarized", "snorkel_pairrm", "top_k_vs_bottom_k"):
        assert prefdata("pair", path, "--rule", rule, "--out", out).code == 1
        file = tmp_path / "rule.json"
        file.write_text(json.dumps({"kind": rule, "identical": "exact"}), "utf-8")
        assert prefdata("pair", path, "--rule-json", file, "--out", out, "--json").code == 0
        assert json.loads((out / "audit.json").read_text())["measures"]["white_space_only"] == 1.0
