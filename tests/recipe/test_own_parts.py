"""Parts of the user's own: subclasses and functions in a recipe, dumped, pinned, refused, built and verified."""

from __future__ import annotations

import json
import math
import pickle
import sys
from pathlib import Path

import polars as pl
import pytest

import prefdata.flow.build as flow
from prefdata.errors import InputError, RecipeError
from prefdata.pairing import BestVsWorst
from prefdata.prompts import PythonFilter, PythonPrompts, SamplePrompts
from prefdata.prompts.base import PromptFilter
from prefdata.recipe import Recipe, load_recipe
from prefdata.records import Answers, Candidate, Prompt
from prefdata.sampling import PythonSampler, SampleAnswers, SampleTask
from prefdata.scoring import BaselineScorer, PythonScorer
from prefdata.spec import Context, sha256_of_file
from prefdata.spec.code import code_allowed
from prefdata.training import DPOTraining
from prefdata.verification import verify

SCORERS = """
from prefdata.records import Score, Scored
from prefdata.scoring import Scorer


class Shortest(Scorer):
    weight: float = 1.0

    def score(self, tasks, context):
        for answers in tasks:
            scores = [
                Score(each.prompt_id, each.source, each.index, -self.weight * len(each.response))
                for each in answers.candidates
            ]
            yield Scored(answers.prompt.prompt_id, tuple(scores))
"""
RECIPE = """
from __future__ import annotations

import pyarrow as pa
from my_scorers import Shortest
from prefdata.dataset import Layout
from prefdata.pairing import BestVsWorst
from prefdata.recipe import Recipe
from prefdata.sampling import SampleAnswers, Sampler, SampleResult
from prefdata.records import Candidate
from prefdata.training import DPOTraining


def questions():
    for number in range(12):
        yield f"What is {number} plus {number}?"
    yield [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    yield 7


def keep(prompt):
    if "11" in prompt:
        raise ValueError("no elevens")
    return "a_ten" if "10" in prompt else "9" not in prompt


def echo(prompt, seed):
    return f"{prompt} {seed % 10}"


def fails(prompt):
    raise KeyError("nothing")


class Twice(Sampler):
    word: str = "again"

    @property
    def tasks_per_prompt(self):
        return 2

    def sample(self, tasks, context):
        for task in tasks:
            made = Candidate(task.prompt.prompt_id, self.name, task.index, self.word * (task.index + 1))
            yield SampleResult(task.key, (made,))


class Flat(Layout):
    def rows(self, pairs, prompts, answers=None):
        good = pa.array([True] * pairs.num_rows, pa.bool_())
        return pairs.select(["prompt_id", "score_chosen"]).append_column("good", good)


class Smoothed(DPOTraining):
    smoothing: float = 0.1

    def trl_arguments(self):
        return {**super().trl_arguments(), "label_smoothing": self.smoothing}


recipe = Recipe(
    name="mine",
    prompts=questions,
    filters=(keep,),
    candidates=(echo, fails, Twice(name="twice", word="more")),
    scores=Shortest(weight=2.0),
    pairs=BestVsWorst(),
    also=(Flat(),),
    training=Smoothed(model="m", smoothing=0.25),
)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_scorers.py").write_text(SCORERS)
    (tmp_path / "mine.py").write_text(RECIPE)
    return tmp_path


def as_json(recipe: Recipe, folder: Path) -> Path:
    path = folder / "mine.json"
    path.write_text(json.dumps(recipe.dump()))
    return path


def test_own_parts_are_built_and_every_failure_has_its_reason(folder):
    recipe = load_recipe(folder / "mine.py")
    built = flow.build(recipe, folder / "out", shard_size=4)
    drops = dict(built.drops.group_by("reason").len().rows())
    assert drops == {"a_ten": 1, "python_filter": 1, "python_error": 1, "bad_messages": 1}
    lost = built.drops.filter(pl.col("reason") == "python_error")["detail"][0]
    assert lost.startswith("ValueError: no elevens (mine.py, line ")
    stages = {stage["stage"]: stage for stage in built.ledger["stages"]}
    assert stages["candidates-fails"]["drops"] == {"python_error": 10}
    assert built.ledger["pairs"] == 10
    assert set(built.pairs["source_chosen"]) == {"twice"}
    assert pl.read_parquet(built.dataset / "own_flat" / "*.parquet")["good"].to_list() == [True] * 10


def test_the_dataset_of_own_parts_is_verified_with_code_and_names_it_without(folder):
    recipe = load_recipe(folder / "mine.py")
    built = flow.build(recipe, folder / "out")
    with code_allowed(folder):
        assert verify(built.folder).mismatches == []
    with pytest.raises(RecipeError, match=r"'mine:Flat' is Python code.*\n.*--allow-code"):
        verify(built.folder)
    plain = flow.build(recipe.replace(also=()), folder / "plain")
    assert verify(plain.folder).mismatches == []


def test_a_recipe_in_json_is_the_same_recipe_where_code_is_allowed(folder):
    recipe = load_recipe(folder / "mine.py")
    path = as_json(recipe, folder)
    with code_allowed(folder):
        again = load_recipe(path)
    assert again == recipe
    assert type(again.scores) is type(recipe.scores)
    assert again.fingerprint() == recipe.fingerprint()


def test_a_recipe_in_json_loads_without_code_and_runs_none(folder):
    recipe = load_recipe(folder / "mine.py")
    elsewhere = load_recipe(as_json(recipe, folder))
    assert elsewhere.fingerprint() == recipe.fingerprint()
    assert elsewhere.dump() == recipe.dump()
    with pytest.raises(RecipeError, match=r"is Python code, which runs only where you allow it"):
        flow.build(elsewhere, folder / "out")
    assert not (folder / "out" / "stages").exists()
    for part in (elsewhere.scores, elsewhere.filters[0], elsewhere.prompts, *elsewhere.candidates):
        (problem,) = part.problems()
        assert "Python code" in str(problem)


def test_where_code_came_to_be_allowed_after_loading_a_class_is_asked_to_be_loaded(folder):
    elsewhere = load_recipe(as_json(load_recipe(folder / "mine.py"), folder))
    with code_allowed(folder):
        assert elsewhere.filters[0].problems() == []
        (problem,) = elsewhere.scores.problems()
    assert "load the recipe with --allow-code" in str(problem)


def test_a_changed_file_gives_new_keys_to_the_stages_of_its_parts_and_to_no_other(folder):
    from prefdata.flow.lock import make_lock

    def keys() -> dict[str, str]:
        lock = make_lock(load_recipe(folder / "mine.py"), None)
        return {stage.name: stage.key for stage in lock.graph.parts}

    before = keys()
    assert keys() == before
    (folder / "my_scorers.py").write_text(SCORERS + "\n# changed\n")
    after = keys()
    assert {name for name in before if before[name] != after[name]} == {"scores", "pairs"}
    (folder / "mine.py").write_text(RECIPE + "\n# changed\n")
    assert not set(keys().values()) & set(after.values())


def test_the_lock_pins_the_files_of_layout_and_objective(folder):
    built = flow.build(load_recipe(folder / "mine.py"), folder / "out")
    lock = json.loads((built.dataset / "prefdata.lock.json").read_text())
    assert set(lock["code"]) == {"also.0", "training"}
    assert lock["parts"]["scores"]["pins"] == {"sha256": sha256_of_file(folder / "my_scorers.py")}


def test_a_module_of_one_folder_is_not_taken_for_that_of_another(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "my_scorers.py").write_text(SCORERS.replace("weight: float = 1.0", "weight: float = 5.0"))
    (other / "mine.py").write_text(RECIPE.replace("Shortest(weight=2.0)", "Shortest()"))
    load_recipe(folder / "mine.py")
    assert load_recipe(other / "mine.py").scores.weight == 5.0
    (other / "my_scorers.py").write_text(SCORERS.replace("weight: float = 1.0", "weight: float = 6.0"))
    assert load_recipe(other / "mine.py").scores.weight == 6.0
    assert not any(str(other) in place for place in sys.path)


def outer(prompt, response):
    return 1.0


class Keeper(PromptFilter):
    """A filter of the tests."""

    def filter(self, prompts, context):
        yield from prompts


def recipe_with(**parts) -> Recipe:
    given = {
        "name": "r",
        "prompts": SamplePrompts(),
        "candidates": (SampleAnswers(name="a"),),
        "scores": BaselineScorer(),
        "pairs": BestVsWorst(),
    }
    return Recipe(**{**given, **parts})


class Inner:
    def method(self, prompt, response):
        return 1.0


def refused() -> dict[str, tuple[dict, str]]:
    def nested(prompt, response):
        return 1.0

    from_main = eval("lambda p, r: 1.0", {"__name__": "__main__"})
    from_main.__module__, from_main.__qualname__ = "__main__", "score"

    class Hidden(BaselineScorer):
        pass

    return {
        "lambda": ({"scores": lambda prompt, response: 1.0}, "no name of its own"),
        "nested": ({"scores": nested}, "defined inside a function or class"),
        "method": ({"scores": Inner().method}, "defined inside a function or class"),
        "main": ({"scores": from_main}, "running script or session"),
        "built in": ({"scores": len}, "no file defines it"),
        "nested class": ({"scores": Hidden()}, "defined inside a function or class"),
        "class": ({"filters": (Keeper,)}, r"give an instance: Keeper\(...\)"),
        "wrong base": ({"scores": Keeper()}, "Keeper is not a subclass of Scorer"),
        "layout": ({"also": (outer,)}, "a layout can't be a function"),
        "main layout": ({"dataset": Keeper()}, "not a subclass of TRLPairs or SnorkelLayout"),
        "both": ({"scores": {"kind": "python", "function": outer, "path": "a:b"}}, "give one of the two"),
    }


@pytest.mark.parametrize("case", list(refused()))
def test_what_has_no_import_path_is_refused_with_one_message(case):
    parts, match = refused()[case]
    with pytest.raises(ValueError, match=match):
        recipe_with(**parts)


def test_what_is_shipped_keeps_its_messages(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**recipe_with().dump(), "scores": {"kind": "basline"}}))
    with pytest.raises(RecipeError, match=r"Recipe.scores: unknown kind 'basline'; valid kinds: .*python.*'baseline'"):
        load_recipe(path)


CONTEXT = Context(seed=0)
PROMPT = Prompt("p", ({"role": "user", "content": "Hi"},))
ANSWERS = Answers(PROMPT, tuple(Candidate("p", "s", index, text) for index, text in enumerate("abc")))


def gives(value):
    def function(*_):
        if isinstance(value, Exception):
            raise value
        return value

    return function


def with_function(part, function):
    """A function that has no import path, put where the one of the recipe is."""
    vars(part)["given_function"] = function
    return part


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "no_score", ""),
        (math.nan, "not_a_number", "float: nan"),
        (math.inf, "not_a_number", "float: inf"),
        ("1", "not_a_number", "str: '1'"),
        (1j, "not_a_number", "complex: 1j"),
        (10**400, "not_a_number", "int: 1000"),
        (RuntimeError("bad \ud800"), "python_error", "RuntimeError: bad ? (test_own_parts.py, line "),
    ],
)
def test_a_score_that_is_none_has_its_reason(value, reason, detail):
    (scored,) = with_function(PythonScorer(path="m:f"), gives(value)).score([ANSWERS], CONTEXT)
    assert [score.score for score in scored.scores] == [None] * 3
    assert {score.unscored for score in scored.scores} == {reason}
    assert scored.scores[0].detail.startswith(detail)


@pytest.mark.parametrize("value", [True, 2, 2.5])
def test_what_is_a_number_is_a_score(value):
    (scored,) = with_function(PythonScorer(path="m:f"), gives(value)).score([ANSWERS], CONTEXT)
    assert [score.score for score in scored.scores] == [float(value)] * 3


def test_a_batched_scorer_gets_the_answers_of_a_prompt_and_gives_as_many_scores():
    seen = []

    def score(prompts, responses):
        seen.append((prompts, responses, prompts[0].messages, prompts[0].prompt_id))
        return [1, None, math.nan]

    (scored,) = with_function(PythonScorer(path="m:f", batched=True), score).score([ANSWERS], CONTEXT)
    assert seen == [(["Hi"] * 3, ["a", "b", "c"], PROMPT.messages, "p")]
    assert [(each.score, each.unscored) for each in scored.scores] == [
        (1.0, None), (None, "no_score"), (None, "not_a_number")
    ]  # fmt: skip


@pytest.mark.parametrize(("value", "reason"), [([1, 2], "wrong_length"), (3, "python_error"), (None, "python_error")])
def test_a_batch_that_is_not_one_score_an_answer_has_a_reason(value, reason):
    (scored,) = with_function(PythonScorer(path="m:f", batched=True), gives(value)).score([ANSWERS], CONTEXT)
    assert {each.unscored for each in scored.scores} == {reason}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (True, None),
        (False, "python_filter"),
        ("too_rude", "too_rude"),
        ("Too rude!", "not_a_decision"),
        (None, "not_a_decision"),
        (1, "not_a_decision"),
        (OSError("x"), "python_error"),
    ],
)
def test_a_filter_keeps_or_drops_with_a_reason(value, reason):
    (record,) = with_function(PythonFilter(path="m:f"), gives(value)).filter([PROMPT], CONTEXT)
    assert record == PROMPT if reason is None else record.reason == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [("fine", None), (None, "no_answer"), (3, "not_a_text"), ("\ud800", "not_a_text"), (OSError("x"), "python_error")],
)
def test_a_sampler_answers_or_says_why_not(value, reason):
    part = with_function(PythonSampler(path="m:f", name="s"), gives(value))
    (result,) = part.sample([SampleTask(PROMPT, 0)], CONTEXT)
    if reason is None:
        assert [each.response for each in result.candidates] == ["fine"]
    else:
        assert [drop.reason for drop in result.drops] == [reason]


def test_a_sampler_that_takes_a_seed_gets_another_one_for_each_answer():
    part = with_function(PythonSampler(path="m:f", name="s", n=2), lambda prompt, seed: str(seed))
    tasks = [SampleTask(PROMPT, 0), SampleTask(PROMPT, 1)]
    first, second = ([each.candidates[0].response for each in part.sample(tasks, CONTEXT)] for _ in range(2))
    assert first == second
    assert len(set(first)) == 2


def test_a_prompt_of_several_turns_reaches_a_function_as_one_text_with_its_turns():
    seen = []
    turns = ({"role": "system", "content": "S"}, {"role": "user", "content": "U"})
    part = with_function(PythonFilter(path="m:f"), lambda prompt: seen.append((prompt, prompt.messages)) or True)
    assert list(part.filter([Prompt("q", turns)], CONTEXT)) == [Prompt("q", turns)]
    assert seen == [("system: S\n\nuser: U", turns)]


def test_a_source_that_raises_says_where_and_what_was_read():
    def prompts():
        yield "one"
        raise OSError("gone")

    part = with_function(PythonPrompts(path="m:prompts"), prompts)
    rows = part.read(CONTEXT)
    assert next(rows).messages[0]["content"] == "one"
    with pytest.raises(InputError, match=r"'m:prompts' failed after 1 prompts: OSError: gone \(test_own_parts.py"):
        next(rows)
    with pytest.raises(InputError, match="after 0 prompts: TypeError"):
        list(with_function(PythonPrompts(path="m:p"), gives(3)).read(CONTEXT))


def test_replace_validates_and_keeps_the_function():
    recipe = recipe_with(scores=outer)
    changed = recipe.replace(scores=recipe.scores.replace(batched=True))
    assert changed.scores.dump() == {"kind": "python", "path": f"{__name__}:outer", "batched": True}
    assert changed.scores.problems() == []
    assert changed != recipe
    assert recipe.replace(scores={"kind": "baseline"}).scores == BaselineScorer()
    with pytest.raises(RecipeError, match=r"Recipe has no field 'score'\n  valid: .*did you mean 'scores'"):
        recipe.replace(score=BaselineScorer())
    with pytest.raises(RecipeError, match=r"recipe 'r' with scores changed: Recipe.scores: unknown kind 'x'"):
        recipe.replace(scores={"kind": "x"})
    with pytest.raises(RecipeError, match=r"DPOTraining with beta changed: beta: -1: "):
        DPOTraining(model="m").replace(beta=-1)
    with pytest.raises(RecipeError, match=r"use .replace"):
        recipe.model_copy(update={"seed": 1})


def test_parts_of_a_recipes_folder_reach_another_process(folder, fresh, tmp_path_factory):
    recipe = load_recipe(folder / "mine.py")
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    (folder / "recipe.pickle").write_bytes(pickle.dumps(recipe))
    program = f"""
import pickle
recipe = pickle.load(open({str(folder / "recipe.pickle")!r}, "rb"))
assert recipe.scores.weight == 2.0
assert recipe.filters[0].function()("a short one")
assert [part.problems() for part in (recipe.prompts, *recipe.candidates, recipe.scores)] == [[], [], [], [], []]
print(recipe.fingerprint())
"""
    said = fresh(code=program, cwd=tmp_path_factory.mktemp("elsewhere"))
    assert said.out.strip() == recipe.fingerprint(), said.err


def test_a_shipped_part_with_an_own_member_pickles_with_its_recipe():
    recipe = recipe_with(filters=(Keeper(),))
    assert pickle.loads(pickle.dumps(recipe)) == recipe


STOPPING = """
from pathlib import Path


def score(prompt, response):
    with open(Path(__file__).parent / "calls.txt", "a") as file:
        file.write(prompt.prompt_id + "\\n")
    calls = (Path(__file__).parent / "calls.txt").read_text().split()
    if (Path(__file__).parent / "stop").exists() and len(calls) == 30:
        raise KeyboardInterrupt
    return len(response)
"""


def test_a_build_that_was_stopped_within_a_function_resumes_to_the_same_bytes(folder):
    (folder / "stopping.py").write_text(STOPPING)
    (folder / "own.py").write_text(
        "from stopping import score\n"
        "from prefdata.pairing import BestVsWorst\n"
        "from prefdata.prompts import SamplePrompts\n"
        "from prefdata.recipe import Recipe\n"
        "from prefdata.sampling import SampleAnswers\n"
        "recipe = Recipe(name='own', prompts=SamplePrompts(scored=True), scores=score, pairs=BestVsWorst(),\n"
        "    candidates=(SampleAnswers(name='a', scored=True),))\n"
    )
    recipe = load_recipe(folder / "own.py")
    (folder / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        flow.build(recipe, folder / "stopped", shard_size=4)
    (folder / "stop").unlink()
    resumed = flow.build(recipe, folder / "stopped", shard_size=4)
    asked = len((folder / "calls.txt").read_text().split())
    # 20 prompts with 4 answers each; only the prompt under way is asked again.
    assert 80 <= asked <= 84
    whole = flow.build(recipe, folder / "whole", shard_size=4)
    files = sorted(path.relative_to(whole.dataset) for path in whole.dataset.rglob("*.parquet"))
    assert files
    assert [(resumed.dataset / file).read_bytes() for file in files] == [
        (whole.dataset / file).read_bytes() for file in files
    ]
