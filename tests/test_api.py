"""`prefdata`: the verbs of the command line as functions, with the options of their commands."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path

import click
import pytest

import prefdata
from prefdata.cli.main import _COMMANDS
from prefdata.errors import UserError
from prefdata.pairing import BestVsWorst, WPOHybridV2

ONLY_OF_THE_COMMAND = {"json", "json-lines", "dry-run", "help"}
"""Options that are about printing, or another function (`--dry-run` is `check`)."""
OTHER_NAMES = {
    "from": "origin",
    "no-reuse": "reuse",
    "rule-json": "rule",
    "answer-tokens": "answer_tokens",
    "set": "settings",
    "address": "engine",
    "actors": "engine",
}
ELSEWHERE = {
    *(("what-if", "rule-json"), ("train", "plan"), ("run", "plan")),
    *(("inspect", name) for name in ("html", "html-pairs", "compare", "sort", "prompt-id")),
}
"""`rules` takes files too; pairs of a condition, and of a prompt, are those of `prefdata.load`; pages are
`prefdata.write_page`; plans are `prefdata.flow.train.plan_training` and `prefdata.flow.run_plan.plan_run`."""


def test_every_command_is_a_function_and_dir_lists_it():
    for name in _COMMANDS:
        function = getattr(prefdata, name.replace("-", "_"))
        assert inspect.isfunction(function), name
        assert name.replace("-", "_") in dir(prefdata)
    assert set(prefdata.__all__) <= set(dir(prefdata))


@pytest.mark.parametrize("name", list(_COMMANDS))
def test_a_function_has_the_options_of_its_command(name):
    function = getattr(prefdata, name.replace("-", "_"))
    taken = set(inspect.signature(function).parameters)
    command: click.Command = importlib.import_module(f"prefdata.cli.{name.replace('-', '_')}").command
    for option in command.params:
        if isinstance(option, click.Option):
            flag = option.opts[0].removeprefix("--")
            if flag not in ONLY_OF_THE_COMMAND and (name, flag) not in ELSEWHERE:
                assert OTHER_NAMES.get(flag, flag.replace("-", "_")) in taken, f"{name} {flag}"


def test_no_submodule_hides_a_function_of_its_name():
    for name in prefdata.__all__:
        assert not (Path(prefdata.__file__).parent / f"{name}.py").exists()
        assert not (Path(prefdata.__file__).parent / name).exists()
    for module in ("inspection.diff", "inspection.replay", "inspection.load", "flow.build", "verification"):
        importlib.import_module(f"prefdata.{module}")
    assert all(callable(getattr(prefdata, name)) for name in prefdata.__all__)


@pytest.fixture
def table(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"prompt": f"q{n}", "response": "x" * (1 + (n * 7 + score) % 5), "score": score}
        for n in range(6)
        for score in range(3)
    ]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("rule.json").write_text(json.dumps({"kind": "best_vs_worst"}))
    return "t.jsonl"


def test_a_rule_is_an_object_a_name_or_a_file(table):
    ledgers = [
        prefdata.pair(table, rule, f"out{n}")
        for n, rule in enumerate((BestVsWorst(), "best_vs_worst", "rule.json", Path("rule.json")))
    ]
    assert ledgers[0]["pairs"] == 6
    assert all(ledger == ledgers[0] for ledger in ledgers)
    assert prefdata.diff("out0", Path("out1")).equal
    assert prefdata.verify("out2", table=table).holds
    assert prefdata.inspect("out3", pairs=1).pairs == 6
    named, objects = prefdata.what_if(table, "best_vs_worst, wpo_hybrid_v2"), prefdata.what_if(
        table, [Path("rule.json"), WPOHybridV2()]
    )  # fmt: skip
    assert named == objects
    with pytest.raises(
        UserError, match=r"there is no pair rule 'best_vs_wort'\n  valid: .*did you mean 'best_vs_worst'"
    ):
        prefdata.pair(table, "best_vs_wort", "out")
    with pytest.raises(UserError, match=r"a length cannot be combined with the file 'rule.json'"):
        prefdata.replay(table, "rule.json", length="words")


RECIPE = """
from prefdata import Recipe
from prefdata.pairing import BestVsWorst
from prefdata.prompts import SamplePrompts
from prefdata.sampling import SampleAnswers
from prefdata.scoring import PythonScorer


def score(prompt, response):
    return len(response)


recipe = Recipe(
    name="named",
    prompts=SamplePrompts(scored=True),
    candidates=(SampleAnswers(name="a", scored=True),),
    scores=score,
    pairs=BestVsWorst(),
)
"""


def test_a_recipe_is_an_object_a_file_or_a_name_of_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("named.py").write_text(RECIPE)
    recipe = prefdata.load_recipe("named.py")
    built = prefdata.build("named.py", limit=4)
    assert built.folder == Path("builds/named")
    assert built.ledger["pairs"] == 4
    assert [stage.state for stage in prefdata.check(recipe, limit=4).stages] == ["done"] * 4
    Path("named.json").write_text(json.dumps(recipe.dump()))
    with pytest.raises(UserError, match="the scorer 'named:score' is Python code"):
        prefdata.build("named.json", "json", limit=4)
    again = prefdata.build("named.json", "json", limit=4, allow_code=True)
    assert prefdata.diff(built, again).equal
    assert prefdata.check("ultrafeedback_binarized", profile="cpu").prompts == 20
    with pytest.raises(UserError, match="give one recipe"):
        prefdata.build()
    with pytest.raises(UserError, match="doesn't say where to publish"):
        prefdata.build(recipe, push=True)


def test_a_dataset_folder_is_built_again_with_its_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("named.py").write_text(RECIPE.replace("scores=score", 'scores={"kind": "baseline"}'))
    built = prefdata.build("named.py", "one", limit=4)
    again = prefdata.build(origin=built.folder, out="two")
    assert prefdata.diff("one", "two").equal
    assert again.ledger == built.ledger
