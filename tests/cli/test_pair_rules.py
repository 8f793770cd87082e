"""Rules that are more than a name: with options, of several pairs a prompt, with columns of their own, of own code."""

from __future__ import annotations

import json

import polars as pl
import pytest

DNO = {"kind": "dno", "teacher": ["teacher"]}
CODE = """
import polars as pl

def longest_against_shortest(eligible):
    return -pl.col("length"), pl.col("length")
"""
RECIPE = """
from prefdata.pairing import PythonRule
from prefdata.prompts import FilePrompts
from prefdata.recipe import Recipe
from prefdata.sampling import ExistingCompletions
from prefdata.scoring import GivenScores

recipe = Recipe(
    name="own_code",
    prompts=FilePrompts(path="prompts.jsonl"),
    candidates=(ExistingCompletions(name="past", path="answers.jsonl", score_column="score"),),
    scores=GivenScores(),
    pairs=RULE,
)
"""


def answers(prompt_id, *scored):
    return [
        {"prompt_id": prompt_id, "prompt": f"{prompt_id}?", "source": source, "index": index}
        | {"response": f"answer {index} of {source}" + "!" * index, "score": score}
        for index, (source, score) in enumerate(scored)
    ]


TABLE = [
    *answers("many", ("teacher", 6), ("policy", 5), ("policy", 4), ("policy", 3)),
    *answers("few", ("policy", 4), ("policy", 3)),
    *answers("tied", ("policy", 5), ("policy", 5)),
]


@pytest.fixture
def ran(prefdata, write_table, tmp_path, monkeypatch):
    """Runs `prefdata pair` on the table, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.jsonl", TABLE)

    def run(*options):
        said = prefdata("pair", "table.jsonl", "--out", "out", "--json", *options)
        return said, (json.loads(said.out) if said.code in (0, 1) else None)

    return run


def pairs(folder):
    return pl.read_parquet(folder / "out/data/*.parquet")


def test_a_rule_of_several_pairs_counts_prompts_and_pairs_apart(ran, prefdata, tmp_path):
    (tmp_path / "dno.json").write_text(json.dumps(DNO))
    said, ledger = ran("--rule-json", "dno.json")
    assert said.err == ""
    # The teacher's 6 beats 4 and 3 by two, the policy's 5 beats 4 and 3 by one.
    assert (ledger["prompts"], ledger["paired_prompts"], ledger["pairs"]) == (3, 1, 4)
    assert ledger["drops"] == {"no_chosen": 1, "no_contrast": 1}
    assert ledger["stages"][-1] == {"stage": "pairs", "in": 3, "out": 1, "drops": ledger["drops"]}
    found = pairs(tmp_path)
    assert found["pair_index"].to_list() == [0, 1, 2, 3]
    assert found.select("score_chosen", "score_rejected").rows() == [(6, 3), (6, 4), (5, 3), (5, 4)]
    page = prefdata("inspect", "out").out
    assert "prompts        3 = 1 with a pair + 2 dropped" in page
    assert "pairs          4" in page


def test_columns_of_a_rule_follow_the_trace(ran, tmp_path):
    assert ran("--rule", "sppo")[0].code == 0
    found = pairs(tmp_path)
    assert found.columns[-3:] == ["chosen_probs", "chosen_probs_win", "chosen_probs_lose"]
    assert found.filter(pl.col("prompt_id") == "few")["chosen_probs"].to_list() == pytest.approx([0.7310585786])


def test_a_soft_label_is_one_more_column(ran, tmp_path):
    label = {"kind": "margin", "temperature": 0.5}
    (tmp_path / "rule.json").write_text(json.dumps({"kind": "best_vs_worst", "label": label}))
    assert ran("--rule-json", "rule.json")[0].code == 0
    found = pairs(tmp_path)
    assert found.columns[-1] == "label_chosen"
    assert found.filter(pl.col("prompt_id") == "few")["label_chosen"].to_list() == pytest.approx([0.880797078])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give one pair rule"),
        (("--rule", "sppo", "--rule-json", "dno.json"), "give one pair rule"),
        (("--rule-json", "dno.json", "--length", "words"), "cannot be combined with --rule-json"),
        (("--rule-json", "nowhere.json"), "no file 'nowhere.json'"),
        (("--rule", "dno"), "needs more than its name"),
        (("--rule", "custom"), "needs more than its name"),
        (("--rule", "own rules:best"), "not an import path"),
        (("--rule", "nowhere:best", "--allow-code"), "no module 'nowhere'"),
        (("--rule-json", "pairwise.json"), "needs comparisons"),
        (("--rule-json", "wrong.json"), "valid keys"),
    ],
)
def test_what_is_wrong_with_a_rule_is_one_message(ran, tmp_path, options, words):
    (tmp_path / "dno.json").write_text(json.dumps(DNO))
    (tmp_path / "pairwise.json").write_text(json.dumps({"kind": "sppo", "probabilities": "pairwise"}))
    (tmp_path / "wrong.json").write_text(json.dumps(DNO | {"treshold": 4}))
    said, _ = ran(*options)
    assert (said.code, said.out) == (2, "")
    assert words in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "out").exists()


def test_own_code_runs_only_where_it_is_allowed(ran, tmp_path):
    (tmp_path / "own_rules.py").write_text(CODE)
    said, _ = ran("--rule", "own_rules:longest_against_shortest")
    assert said.code == 2
    assert "--allow-code" in said.err
    assert not (tmp_path / "out").exists()
    said, ledger = ran("--rule", "own_rules:longest_against_shortest", "--allow-code")
    assert said.code == 1
    # The longest answers have the lowest scores, so nothing is lower than they are.
    assert (ledger["paired_prompts"], ledger["drops"]) == (0, {"no_contrast": 3})
    lock = json.loads((tmp_path / "out/prefdata.lock.json").read_text())
    assert len(lock["rule_pins"]["sha256"]) == 64


def test_a_recipe_with_own_code_is_built_only_where_it_is_allowed(prefdata, write_table, tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/own_rules.py").write_text(CODE.replace("-pl", "pl").replace(", pl", ", -pl"))
    recipe = tmp_path / "recipes/own_code.py"
    recipe.write_text(RECIPE.replace("RULE", 'PythonRule(path="own_rules:longest_against_shortest")'))
    write_table(tmp_path / "prompts.jsonl", [{"prompt": f"{name}?"} for name in ("many", "few", "tied")])
    write_table(
        tmp_path / "answers.jsonl", [{name: row[name] for name in ("prompt", "response", "score")} for row in TABLE]
    )
    monkeypatch.chdir(tmp_path)
    for command in ("build", "check"):
        said = prefdata(command, recipe)
        assert said.code == 2
        assert "--allow-code" in said.err
    assert prefdata("check", recipe, "--allow-code").code == 0
    said = prefdata("build", recipe, "--allow-code", "--json")
    ledger = json.loads(said.out)
    assert (ledger["prompts"], ledger["paired_prompts"], ledger["drops"]) == (3, 2, {"no_contrast": 1})
    # Other code is another rule, so the pairs are computed again.
    (tmp_path / "recipes/own_rules.py").write_text(CODE)
    said = prefdata("build", recipe, "--allow-code", "--json")
    assert json.loads(said.out)["paired_prompts"] == 0


def test_a_recipe_with_several_pairs_a_prompt_balances(prefdata, write_table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rule = "TopKVsBottomK(k=2, label=MarginLabel())"
    text = RECIPE.replace("RULE", rule).replace("import PythonRule", "import MarginLabel, TopKVsBottomK")
    (tmp_path / "several.py").write_text(text)
    write_table(tmp_path / "prompts.jsonl", [{"prompt": f"{name}?"} for name in ("many", "few", "tied")])
    write_table(
        tmp_path / "answers.jsonl", [{name: row[name] for name in ("prompt", "response", "score")} for row in TABLE]
    )
    said = prefdata("build", "several.py", "--json")
    ledger = json.loads(said.out)
    assert (ledger["prompts"], ledger["paired_prompts"], ledger["pairs"]) == (3, 2, 5)
    found = pl.read_parquet(f"{ledger['dataset']}/data/*.parquet")
    assert found.height == 5
    assert found.columns[-1] == "label_chosen"
    assert not found.select("prompt_id", "pair_index").is_duplicated().any()
    assert "5" in prefdata("inspect", ledger["dataset"]).out


def test_code_is_refused_before_the_table_is_read(prefdata, tmp_path):
    said = prefdata("pair", tmp_path / "absent.parquet", "--rule", "rules:pick", "--out", tmp_path / "out")
    assert said.code == 2
    assert "--allow-code" in said.err
    assert "absent.parquet" not in said.err
