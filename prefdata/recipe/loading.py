"""Loading recipes and rules: a local `.py` file, a JSON file, or the name of a shipped recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from prefdata.dataset import AnyLayout, AnyMainLayout, Layout, PythonLayout
from prefdata.errors import RecipeError, UserError, closest
from prefdata.pairing import PairRule, PythonRule, rule_named
from prefdata.recipe.mistakes import explained
from prefdata.recipe.recipe import Profile, Recipe
from prefdata.recipe.trust import is_trusted, of_a_stranger
from prefdata.records import LengthUnit
from prefdata.spec import JSON
from prefdata.spec.code import frames_of, run_file
from prefdata.tables.documents import parse_json

__all__ = [
    "as_layouts",
    "as_recipe",
    "as_rule",
    "folder_of",
    "load_recipe",
    "load_rule",
    "read_recipe",
    "shipped_recipes",
]


def load_recipe(where: str | Path, allow: Iterable[str] = ()) -> Recipe:
    """Loads a recipe: a `.py` file that defines `recipe`, a `.json` file, or the name of a shipped recipe.

    Only a local `.py` file is executed. A JSON recipe runs no code. One that does not lie below the current folder
    counts as somebody else's: it may only do what `allow` grants.

    Args:
        where: the file or the name.
        allow: what a recipe of somebody else's may do: see `prefdata.spec.trust.GRANTS`.

    Raises:
        RecipeError: there is no such file, it doesn't hold a valid recipe, or the recipe wants what is not granted.
    """
    path = _find(str(where))
    if path.suffix == ".json":
        recipe = read_recipe(path)
        return recipe if is_trusted(path) else of_a_stranger(recipe, f"the recipe {str(path)!r}", allow)
    try:
        found = run_file(path).get("recipe")
    except ValidationError as error:
        raise RecipeError(f"{str(path)!r}: {explained(error)}") from error
    except SyntaxError as error:
        raise RecipeError(f"{error.filename or str(path)!r}, line {error.lineno}: {error.msg}") from error
    except UserError:
        raise
    except Exception as error:
        raise _failed(path, error) from error
    if not isinstance(found, Recipe):
        raise RecipeError(
            f"{str(path)!r} does not define a recipe: the name `recipe` is {type(found).__name__}",
            valid="a module-level `recipe = Recipe(...)`",
        )
    return found


def _failed(path: Path, error: Exception) -> RecipeError:
    """Makes the error of a recipe's file that raised something; it shows the user's own lines only."""
    lines = [f"    {line}" for line in frames_of(error, path.resolve().parent)]
    hint = None
    if isinstance(error, ImportError):
        hint = "a recipe imports modules of its own folder by their names (`from common import x`, without a dot)"
    problem = f"the recipe {str(path)!r} failed: {type(error).__name__}: {error}"
    return RecipeError("\n".join([problem, *lines]), hint=hint)


def read_recipe(path: Path) -> Recipe:
    """Reads a JSON recipe, to look at and not to build it: it may say anything.

    Raises:
        RecipeError: it is not JSON, or not a valid recipe.
    """
    data = _read_json(path)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{str(path)!r}: {explained(error)}") from error


def load_rule(where: str | Path) -> PairRule:
    """Loads a pair rule from a JSON file that holds what a recipe's `pairs` may be.

    Raises:
        RecipeError: there is no such file, or it doesn't hold a valid rule.
    """
    path = Path(where)
    if not path.is_file():
        raise RecipeError(f"there is no file {str(where)!r}", valid="a JSON file with a rule, as a recipe's `pairs`")
    try:
        rule = Profile.model_validate({"pairs": _read_json(path)}).pairs
    except ValidationError as error:
        raise RecipeError(f"{str(path)!r}: {explained(error)}") from error
    if rule is None:
        raise RecipeError(f"{str(path)!r} does not hold a rule", valid="a JSON object with a `kind`")
    return rule


def as_recipe(recipe: Recipe | str | Path, allow: Iterable[str] = ()) -> Recipe:
    """Gives the recipe itself, or loads it: see `load_recipe`.

    Raises:
        RecipeError: there is no such recipe, or it is not valid.
    """
    return recipe if isinstance(recipe, Recipe) else load_recipe(recipe, allow)


def as_rule(rule: PairRule | str | Path, length: LengthUnit | None = None) -> PairRule:
    """Gives the rule itself, or the one that a text names.

    Args:
        rule: a rule; the name of a published one (`wpo_hybrid_v2`); a Python function `module:function`; or a JSON file
            that holds what a recipe's `pairs` may be, as a `Path` or a text that ends in `.json`.
        length: the unit of length of a rule that is named; None is characters. Rules and files have their own.

    Raises:
        UserError: there is no such rule, it needs more than its name, or it has a unit of its own.
    """
    if isinstance(rule, str) and not rule.endswith(".json"):
        return _named_rule(rule, length or "characters")
    if length is not None:
        what = f"the file {str(rule)!r}" if not isinstance(rule, PairRule) else f"the rule {rule.dump()['kind']!r}"
        raise UserError(
            f"a length cannot be combined with {what}, which has its own", hint=f'write "length": "{length}" into it'
        )
    return rule if isinstance(rule, PairRule) else load_rule(rule)


def as_layouts(layout: Layout | str | None, also: Sequence[Layout | str], test_size: float) -> tuple[Layout, ...]:
    """Gives the main layout, with what it holds out, and the further ones; each an object or its kind.

    Raises:
        UserError: there is no such layout, two are of one kind, or `test_size` is not what a layout takes.
    """
    taken = [_layout(layout or "trl", AnyMainLayout), *(_layout(one, AnyLayout) for one in also)]
    names = [one.config_name for one in taken]
    if len(set(names)) < len(names):
        raise UserError(f"two layouts have the same kind: {', '.join(names)}", hint="name each of them once")
    try:
        size = int(test_size) if test_size >= 1 and test_size == int(test_size) else test_size
        return (taken[0].replace(test_size=size) if size else taken[0], *taken[1:])
    except UserError as error:
        raise UserError(
            f"test_size {test_size:g} is not a number of prompts or a share of them",
            valid="a whole number, or a share above 0 and below 1",
        ) from error


def _layout(given: Layout | str, layouts: Any) -> Layout:
    try:
        found: Layout = TypeAdapter(layouts).validate_python({"kind": given} if isinstance(given, str) else given)
    except ValidationError as error:
        union, *_ = get_args(layouts)
        # A Python layout needs more than its kind.
        kinds = [part.model_fields["kind"].default for part in get_args(union) if part is not PythonLayout]
        raise UserError(f"{given!r} is not a layout that fits here", valid=", ".join(kinds)) from error
    return found


def folder_of(file: object) -> Path:
    """Gives the folder in which the modules that a recipe or rule names are looked for first: that of its file."""
    named = isinstance(file, Path) or (isinstance(file, str) and file.endswith((".json", ".py")))
    return Path(str(file)).parent if named else Path()


def _named_rule(name: str, length: LengthUnit) -> PairRule:
    if ":" in name:
        try:
            return PythonRule(path=name, length=length)
        except ValidationError as error:
            raise UserError(f"{name!r} is not an import path of a rule", valid="module:function") from error
    kinds = rule_named()
    if name in ("dno", "custom", "python"):
        raise UserError(
            f"the pair rule {name!r} needs more than its name",
            hint=f'--rule-json FILE, with {{"kind": "{name}", ...}} (in Python: an object)',
        )
    if name not in kinds:
        raise UserError(f"there is no pair rule {name!r}", valid=closest(name, kinds))
    return kinds[name](length=length)


def shipped_recipes() -> dict[str, Path]:
    """Lists the recipes that come with prefdata, by name."""
    package = Path(__file__).parent.parent
    for folder in (package / "_recipes", package.parent / "recipes"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}
    return {}


def _find(where: str) -> Path:
    path = Path(where)
    if not path.exists() and where in shipped_recipes():
        return shipped_recipes()[where]
    if not path.exists():
        raise RecipeError(
            f"there is no recipe {where!r}",
            valid=f"a .py or .json file, or a shipped recipe: {closest(path.stem, shipped_recipes())}",
        )
    if path.is_dir() or path.suffix not in {".py", ".json"}:
        raise RecipeError(f"{where!r} is not a recipe file", valid="a .py file that defines `recipe`, or a .json file")
    return path


def _read_json(path: Path) -> JSON:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{str(path)!r} is not JSON: {error}") from error
