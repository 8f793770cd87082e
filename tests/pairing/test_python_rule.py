"""A rule of the user's own code: refused unless allowed, and held to the conditions of every rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import TypeAdapter
from strategies import frame, many_prompts

from prefdata.errors import RecipeError
from prefdata.pairing import AnyRule, BestVsWorst, PythonRule
from prefdata.spec.code import code_allowed

CODE = """
import polars as pl

def best_vs_worst(eligible):
    return -pl.col("score"), pl.col("score")

def only_teachers_against_longer(eligible):
    chosen = pl.when(pl.col("source") == "teacher").then(-pl.col("score"))
    return chosen, pl.when(pl.col("length") >= pl.col("chosen_length")).then(pl.col("score"))

def every_pair(eligible):
    rows = eligible.select("row", "prompt_id")
    both = rows.join(rows, on="prompt_id", suffix="_rejected").sample(fraction=1.0, shuffle=True)
    return both.select(chosen="row", rejected="row_rejected")

def nobody(eligible):
    return eligible.head(0).select(chosen="row", rejected="row")

def across_prompts(eligible):
    return pl.DataFrame({"chosen": [0], "rejected": [eligible.height - 1]})

def beyond(eligible):
    return pl.DataFrame({"chosen": [0], "rejected": [10**9]})

def texts(eligible):
    return pl.DataFrame({"chosen": ["0"], "rejected": ["1"]})

def nan(eligible):
    return pl.lit(float("nan")), pl.col("score")

def unknown_column(eligible):
    return pl.col("reward"), pl.col("score")

def broken(eligible):
    return 1 / 0

def word(eligible):
    return "best"

constant = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    (folder / "rules_of_a_user.py").write_text(CODE)
    (folder / "breaks_when_imported.py").write_text("raise OSError('no such disk')\n")
    return folder


def rule(name: str) -> PythonRule:
    return PythonRule(path=f"rules_of_a_user:{name}")


def table(seed: str = "python") -> pl.DataFrame:
    return frame(many_prompts(seed, 500))


def test_code_is_refused_unless_it_is_allowed(folder: Path) -> None:
    for ask in (lambda: rule("best_vs_worst").pair(table()), rule("best_vs_worst").pins):
        with pytest.raises(RecipeError, match="runs only where you allow it") as caught:
            ask()
        assert "--allow-code" in str(caught.value)
    [problem] = rule("best_vs_worst").problems()
    assert "--allow-code" in str(problem)
    with code_allowed(folder):
        assert rule("best_vs_worst").problems() == []
    assert rule("best_vs_worst").problems()


def test_a_rule_is_data_that_runs_nothing_when_it_is_loaded(folder: Path) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(AnyRule)
    with code_allowed(folder):
        back = adapter.validate_json(json.dumps(PythonRule(path="breaks_when_imported:rule").dump()))
    assert back == PythonRule(path="breaks_when_imported:rule")


def test_the_code_is_pinned_by_its_bytes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rules_of_a_user.py").write_text(CODE.replace("-pl.col", "pl.col"))
    with code_allowed(folder):
        first = rule("best_vs_worst").pins()
        assert rule("best_vs_worst").pair(table()).pairs.height > 50
    with code_allowed(tmp_path):
        second = rule("best_vs_worst").pins()
        assert rule("best_vs_worst").pair(table()).pairs.is_empty()
    assert set(first) == {"sha256"}
    assert first != second


def test_two_expressions_make_a_rule(folder: Path) -> None:
    """The same picks as the named rule, told from it by nothing but the name of the key."""
    with code_allowed(folder):
        own = rule("best_vs_worst").pair(table())
    named = BestVsWorst().pair(table())
    keys = ["decided_chosen", "decided_rejected"]
    assert own.pairs.drop(keys).equals(named.pairs.drop(keys), null_equal=True)
    assert set(own.pairs["decided_chosen"]) == {"python", "order"}
    assert own.drops.equals(named.drops)
    assert own.ineligible.equals(named.ineligible, null_equal=True)
    assert own.pairs.height > 50


def test_null_admits_nobody_and_the_second_expression_sees_the_chosen_answer(folder: Path) -> None:
    with code_allowed(folder):
        paired = rule("only_teachers_against_longer").pair(table())
    assert set(paired.pairs["source_chosen"]) == {"teacher"}
    assert (paired.pairs["length_rejected"] >= paired.pairs["length_chosen"]).all()
    assert {"no_chosen", "no_rejected"} <= set(paired.drops["reason"])


def test_rows_that_break_the_conditions_are_left_out(folder: Path) -> None:
    """A function that pairs everything with everything gives exactly the pairs that the conditions allow."""
    candidates = table()
    with code_allowed(folder):
        paired = rule("every_pair").pair(candidates)
    assert (paired.pairs["score_margin"] > 0).all()
    assert (paired.pairs["response_chosen"] != paired.pairs["response_rejected"]).all()
    eligible = candidates.join(
        paired.ineligible.select("prompt_id", "source", "index"),
        on=["prompt_id", "source", "index"],
        how="anti",
        nulls_equal=True,
    )
    assert eligible.height > 100
    whole = BestVsWorst().pair(candidates)
    assert set(paired.pairs["prompt_id"]) >= set(whole.pairs["prompt_id"])
    assert paired.pairs.height > whole.pairs.height
    dropped = dict(paired.drops.select("prompt_id", "reason").rows())
    assert set(dropped) | set(paired.pairs["prompt_id"]) == set(candidates["prompt_id"])
    assert set(dropped.values()) == {"too_few_candidates", "no_contrast", "identical_texts"}
    places = paired.pairs.group_by("prompt_id", maintain_order=True).agg("pair_index")["pair_index"]
    assert all(place == list(range(len(place))) for place in places.to_list())


def test_the_order_in_which_a_function_names_rows_changes_nothing(folder: Path) -> None:
    with code_allowed(folder):
        runs = [rule("every_pair").pair(table().sample(fraction=1.0, shuffle=True, seed=seed)) for seed in (1, 2)]
    assert runs[0].pairs.equals(runs[1].pairs, null_equal=True)


def test_a_function_that_names_nobody_drops_every_prompt(folder: Path) -> None:
    with code_allowed(folder):
        paired = rule("nobody").pair(table())
    assert paired.pairs.is_empty()
    assert set(paired.drops["reason"]) == {"too_few_candidates", "no_contrast", "no_chosen"}
    assert paired.drops.height == table()["prompt_id"].n_unique()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("rules_of_a_user:across_prompts", "paired row 0 with row"),
        ("rules_of_a_user:beyond", "paired row 0 with row 1000000000"),
        ("rules_of_a_user:texts", "returned a frame with"),
        ("rules_of_a_user:nan", "gave NaN as a key"),
        ("rules_of_a_user:unknown_column", "reward"),
        ("rules_of_a_user:broken", "ZeroDivisionError: division by zero"),
        ("rules_of_a_user:word", "returned str"),
        ("rules_of_a_user:constant", "has no function 'constant'"),
        ("rules_of_a_user:missing", "has no function 'missing'"),
        ("there_is_no_such_module:rule", "there is no module 'there_is_no_such_module'"),
        ("breaks_when_imported:rule", "OSError: no such disk"),
    ],
)
def test_what_a_function_does_wrong_is_said_in_one_message(folder: Path, path: str, problem: str) -> None:
    with code_allowed(folder), pytest.raises(RecipeError) as caught:
        PythonRule(path=path).pair(table())
    assert problem in caught.value.problem
    assert path in caught.value.problem


def test_a_broken_function_is_told_with_its_line(folder: Path) -> None:
    line = CODE.splitlines().index("    return 1 / 0") + 1
    with code_allowed(folder), pytest.raises(RecipeError, match=rf"rules_of_a_user\.py, line {line}\)"):
        rule("broken").pair(table())
