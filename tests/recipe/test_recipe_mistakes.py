"""Every mistake in a recipe is one message: where, what was given, what is valid, what was meant."""

from __future__ import annotations

import pytest

from prefdata.errors import RecipeError
from prefdata.recipe import load_recipe

IN_JSON = {
    "unknown key": (["promts"], 1, "Recipe.promts: unknown key, value 1; valid keys: name,", "'prompts'"),
    "unknown key of a part": (["candidates", 0, "temprature"], 0.7, "Recipe.candidates.0.temprature", "'temperature'"),
    "unknown key two deep": (["candidates", 0, "generator", "modle"], "x", "candidates.0.generator.modle", "'model'"),
    "unknown key of an optional part": (["training", "leraning_rate"], 1, "training.leraning_rate", "'learning_rate'"),
    "unknown key of a profile": (["profiles", "quick", "pars"], 1, "Recipe.profiles.quick.pars", "'pairs'"),
    "unknown key in a profile's part": (["profiles", "quick", "pairs", "lenght"], 1, "quick.pairs.lenght", "'length'"),
    "unknown kind": (
        ["pairs", "kind"],
        "wpo_hybrid_v3",
        "Recipe.pairs: unknown kind 'wpo_hybrid_v3'",
        "'wpo_hybrid_v2'",
    ),
    "unknown kind in a list": (["candidates", 1, "kind"], "sample_answer", "Recipe.candidates.1", "'sample_answers'"),
    "no kind": (["prompts", "kind"], ..., "Recipe.prompts", "valid kinds: hub, file, sample"),
    "a name where a part belongs": (
        ["prompts"],
        "sample",
        "Recipe.prompts: 'sample'",
        "valid kinds: hub, file, sample",
    ),
    "value out of range": (["candidates", 0, "temperature"], 9, "temperature: 9", "less than or equal to 2"),
    "value outside a choice": (
        ["pairs", "length"],
        "chars",
        "pairs.length: 'chars'",
        "'characters', 'words' or 'bytes'",
    ),
    "wrong type": (["candidates", 0, "n"], "five", "candidates.0.n: 'five'", "valid integer"),
    "missing field": (["candidates", 0, "generator", "model"], ..., "candidates.0.generator.model", "required"),
    "missing stage": (["scores"], ..., "Recipe.scores", "required"),
    "empty list": (["candidates"], [], "Recipe.candidates: []", "at least 1 item"),
    "duplicate names": (["candidates", 1, "name"], "policy", "Recipe.candidates", "same name: policy, policy"),
    "a name with a slash": (["candidates", 1, "name"], "a/b", "candidates.1.name: 'a/b'", "pattern"),
    "NaN": (["candidates", 0, "temperature"], float("nan"), "temperature: nan", "finite"),
    "infinity": (["training", "beta"], float("inf"), "training.beta: inf", "finite"),
    "null": (["pairs"], None, "Recipe.pairs: None", "valid kinds: wpo_hybrid_v2"),
    "both kinds of share": (["dataset", "test_size"], 1.5, "dataset.test_size: 1.5", "less than 1"),
}

IN_PYTHON = {
    "unknown key": ({"promts": "1"}, "Recipe.promts", "'prompts'"),
    "unknown key of a part": ({"pairs": "WPOHybridV2(lenght='words')"}, "WPOHybridV2.lenght: unknown key", "'length'"),
    "wrong part": ({"pairs": "SamplePrompts()"}, "Recipe.pairs: unknown kind 'sample'", "wpo_hybrid_v2"),
    "a kind's name": ({"pairs": "'wpo_hybrid_v2'"}, "Recipe.pairs: 'wpo_hybrid_v2'", "valid kinds: wpo_hybrid_v2"),
    "a class": ({"pairs": "WPOHybridV2"}, "Recipe.pairs", "wpo_hybrid_v2"),
    "missing stage": ({"scores": None}, "Recipe.scores: required", "missing"),
    "missing field": ({"candidates": "(SampleAnswers(),)"}, "SampleAnswers.name: required", "missing"),
    "wrong type": ({"seed": "'one'"}, "Recipe.seed: 'one'", "valid integer"),
    "out of range": ({"limit": "0"}, "Recipe.limit: 0", "greater than or equal to 1"),
    "duplicate names": ({"candidates": "(SampleAnswers(name='a'),) * 2"}, "Recipe.candidates", "same name: a, a"),
    "NaN": ({"dataset": "TRLPairs(test_size=float('nan'))"}, "TRLPairs.test_size: nan", "finite"),
    "a set": ({"candidates": "{SampleAnswers(name='a')}"}, "Recipe", "candidates: a set has no order, write a list"),
    "a set in a part": ({"pairs": "WPOHybridV2(admit={'blank', 'cut_off'})"}, "WPOHybridV2", "a set has no order"),
    "a function": ({"description": "lambda: 'x'"}, "Recipe.description: <function", "valid string"),
    "bytes that are no text": ({"description": "bytes([255])"}, "Recipe.description", "valid"),
}


def one_message(said, *parts):
    """The command said one thing, on stderr, and nothing else."""
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("prefdata: ")
    assert "Traceback" not in said.err
    assert "pydantic" not in said.err
    for part in parts:
        assert part in said.err
    return said.err


@pytest.mark.parametrize("mistake", IN_JSON)
def test_a_mistake_in_a_json_recipe_is_one_message(prefdata, json_recipe, mistake):
    place, value, *told = IN_JSON[mistake]
    message = one_message(prefdata("check", json_recipe(place, value)), "recipe.json", *told)
    assert len(message.splitlines()) <= 3


@pytest.mark.parametrize("mistake", IN_PYTHON)
def test_a_mistake_in_a_python_recipe_is_one_message(prefdata, python_recipe, mistake):
    changed, *told = IN_PYTHON[mistake]
    one_message(prefdata("build", python_recipe(**changed)), "recipe.py", *told)


def test_several_mistakes_are_told_at_once(prefdata, python_recipe):
    message = one_message(prefdata("check", python_recipe(seed="'x'", limit="0", scores=None)))
    assert [line for line in message.splitlines() if line.startswith("- ")] == [
        "- Recipe.seed: 'x': Input should be a valid integer, unable to parse string as an integer",
        "- Recipe.limit: 0: Input should be greater than or equal to 1",
        "- Recipe.scores: required, but missing",
    ]


def test_the_unchanged_recipes_of_this_file_are_valid(python_recipe, json_recipe):
    assert load_recipe(python_recipe()).name == "tiny"
    assert load_recipe(json_recipe(["seed"], 1)).seed == 1


def test_a_secret_in_the_wrong_place_is_not_repeated(prefdata, json_recipe):
    path = json_recipe(
        ["candidates", 0, "generator"], {"kind": "chat_endpoint", "model": "m", "api_key": "sk-hushhush"}
    )
    message = one_message(prefdata("check", path), "candidates.0.generator.api_key: unknown key")
    assert "hushhush" not in message


# Files that are no recipes.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "NoneType"),
        ("recipe = 3\n", "the name `recipe` is int"),
        ("recipe = {'name': 'x'}\n", "the name `recipe` is dict"),
        ("from prefdata.recipe import Recipe as recipe\n", "the name `recipe` is"),
    ],
)
def test_a_python_file_without_a_recipe_is_one_message(prefdata, tmp_path, text, told):
    path = tmp_path / "mine.py"
    path.write_text(text)
    one_message(prefdata("check", path), "mine.py", "does not define a recipe", told, "recipe = Recipe(...)")


def test_a_syntax_error_is_one_message_with_its_line(prefdata, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import os\n\nrecipe = Recipe(\n")
    one_message(prefdata("check", path), "mine.py", "line 3", "'(' was never closed")


def test_an_exception_of_the_users_own_code_shows_the_users_own_lines_only(prefdata, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from beside import size\n\n\nrecipe = size()\n")
    (tmp_path / "beside.py").write_text("import json\n\n\ndef size():\n    return json.loads('x')\n")
    said = one_message(prefdata("check", path), "JSONDecodeError", str(path)).splitlines()
    files = [line for line in said if line.lstrip().startswith("File ")]
    assert [line.strip() for line in files] == [
        f'File "{path}", line 4, in <module>',
        f'File "{tmp_path / "beside.py"}", line 5, in size',
    ]
    path.write_text("import nowhere_to_be_found\n")
    one_message(prefdata("check", path), "No module named 'nowhere_to_be_found'", "line 1", "its own folder")


def test_a_recipe_imports_its_neighbours_and_not_those_of_another_recipe(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "parts" / "deep").mkdir(parents=True)
        (tmp_path / name / "parts" / "__init__.py").touch()
        (tmp_path / name / "parts" / "deep" / "names.py").write_text(f"NAME = {name!r}\n")
        (tmp_path / name / "beside.py").write_text("from parts.deep.names import NAME\n")
        (tmp_path / name / "recipe.py").write_text(
            "from beside import NAME\nfrom prefdata.recipe import Recipe, load_recipe\n"
            "base = load_recipe('ultrafeedback_binarized')\nrecipe = base.replace(name=NAME)\n"
        )
    for name in ("one", "two", "one"):
        assert load_recipe(tmp_path / name / "recipe.py").name == name
    (tmp_path / "one" / "parts" / "deep" / "names.py").write_text("NAME = 'changed'\n")
    assert load_recipe(tmp_path / "one" / "recipe.py").name == "changed"


def test_an_unknown_recipe_is_refused_with_the_shipped_names(prefdata):
    one_message(prefdata("check", "wpo_hybrid_2"), "'wpo_hybrid_2'", "did you mean 'wpo_hybrid_v2'?")
    one_message(prefdata("build", "nowhere/recipe.py"), "'nowhere/recipe.py'", "wpo_hybrid_v2")


@pytest.mark.parametrize("name", ["folder.py", "recipe.yaml", "recipe", "recipe.toml"])
def test_what_is_no_recipe_file_is_refused(prefdata, tmp_path, name):
    path = tmp_path / name
    if name == "folder.py":
        path.mkdir()
    else:
        path.write_text("name: x\n")
    one_message(prefdata("check", path), name, "not a recipe file", ".json")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Expecting value"),
        ("{", "line 1"),
        ("[]", "Recipe: []"),
        ("3", "Recipe: 3"),
        ('{"name": "a", "name": "b"}', "'name' occurs twice"),
        ("[" * 100_000, "recursion"),
        ('{"name": "\\ud800"}', "Recipe"),
    ],
)
def test_a_json_file_that_is_no_recipe_is_one_message(prefdata, tmp_path, text, told):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    one_message(prefdata("check", path), "recipe.json", told)


def test_a_json_file_that_is_no_text_is_one_message(prefdata, tmp_path):
    path = tmp_path / "recipe.json"
    path.write_bytes(b"\xff\xfe{")
    one_message(prefdata("check", path), "recipe.json", "not JSON")


def test_a_json_recipe_runs_no_code(tmp_path):
    """What would run if the file were executed, imported or evaluated, stays text."""
    mark = tmp_path / "ran"
    path = tmp_path / "recipe.json"
    evil = f"__import__('os').mkdir({str(mark)!r})"
    path.write_text(f'{{"name": "x", "prompts": {{"kind": "sample", "module": "{evil}"}}, "py/object": "{evil}"}}')
    with pytest.raises(RecipeError):
        load_recipe(path)
    assert not mark.exists()
    path.with_suffix(".py").write_text(f"import os; os.mkdir({str(mark)!r})")
    with pytest.raises(RecipeError):
        load_recipe(path)
    assert not mark.exists()
    with pytest.raises(RecipeError):
        load_recipe(path.with_suffix(".py"))
    assert mark.exists(), "the same text as a Python recipe does run, so the test can tell"


def test_a_recipe_is_found_by_file_before_it_is_found_by_name(tmp_path, monkeypatch, python_recipe):
    monkeypatch.chdir(tmp_path)
    python_recipe().rename(tmp_path / "wpo_hybrid_v2.py")
    assert load_recipe("wpo_hybrid_v2.py").name == "tiny"
    assert load_recipe("wpo_hybrid_v2").name == "wpo_hybrid_v2"


def test_a_profile_of_the_command_line_must_exist(prefdata, python_recipe):
    path = python_recipe(profiles="{'quick': Profile()}")
    one_message(prefdata("check", path, "--profile", "quik"), "no profile 'quik'", "did you mean 'quick'?")
