"""`Recipe`: one field for each stage, in flow order. Load, dump, fingerprint, profiles."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from prefdata.dataset import AnyLayout, AnyMainLayout, TRLPairs
from prefdata.dataset.audit import Audit
from prefdata.errors import RecipeError, closest
from prefdata.pairing import AnyRule, PairRule
from prefdata.prompts import AnyPromptFilter, AnyPrompts
from prefdata.publish import Publish
from prefdata.sampling import AnySampler, PublishedPairs, Sampler
from prefdata.scoring import AnyScorer
from prefdata.spec import JSON, Spec
from prefdata.tables.documents import parse_json
from prefdata.training import AnyTraining

__all__ = ["Profile", "Recipe", "load_recipe", "load_rule", "shipped_recipes"]

_SECRET = re.compile("key|token|secret|password", re.IGNORECASE)
"""Names whose value, given in the wrong place, may be a secret and is not quoted."""


def _named_apart(candidates: tuple[Sampler, ...]) -> tuple[Sampler, ...]:
    names = [sampler.name for sampler in candidates]
    if len(set(names)) < len(names):
        raise ValueError(f"two candidates have the same name: {', '.join(names)}")
    return candidates


class Profile(Spec):
    """The same recipe with named parts swapped. A field that is left out keeps the recipe's part."""

    prompts: AnyPrompts | None = None
    """Instead of the recipe's prompts."""
    filters: Annotated[tuple[AnyPromptFilter, ...] | None, Field(exclude_if=lambda filters: filters is None)] = None
    """Instead of the recipe's filters."""
    candidates: Annotated[tuple[AnySampler, ...], Field(min_length=1)] | None = None
    """Instead of the recipe's candidates."""
    scores: AnyScorer | None = None
    """Instead of the recipe's scorer."""
    pairs: AnyRule | None = None
    """Instead of the recipe's pair rule."""
    backfill: PublishedPairs | None = None
    """Instead of the recipe's dataset of pairs for prompts that give none."""
    audit: Audit | None = None
    """Instead of the recipe's limits."""
    dataset: AnyMainLayout | None = None
    """Instead of the recipe's layout."""
    also: Annotated[tuple[AnyLayout, ...] | None, Field(exclude_if=lambda also: also is None)] = None
    """Instead of the recipe's further layouts."""
    publish: Publish | None = None
    """Instead of what the recipe says of the card."""
    training: AnyTraining | None = None
    """Instead of the recipe's training."""
    without: tuple[Literal["backfill", "training"], ...] = ()
    """Parts of the recipe that the profile leaves out."""

    @field_validator("candidates")
    @classmethod
    def _names_differ(cls, candidates: tuple[Sampler, ...] | None) -> tuple[Sampler, ...] | None:
        return candidates and _named_apart(candidates)


class Recipe(Spec):
    """How one preference dataset is made, and what is trained on it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=96)]
    """Names the dataset; letters, digits, dots, dashes and underscores."""
    description: str = ""
    """What the dataset is, for its card."""
    seed: int = 0
    """Every random choice of the build derives from it."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """At most this many different prompts, the first ones of their source. `--limit N` sets it."""
    prompts: AnyPrompts
    """Where the prompts come from."""
    filters: Annotated[tuple[AnyPromptFilter, ...], Field(exclude_if=lambda filters: not filters)] = ()
    """What a prompt must pass, one filter after the other; each drops with a reason. `limit` counts what has passed."""
    candidates: Annotated[tuple[AnySampler, ...], Field(min_length=1)]
    """Who answers; the names differ."""
    scores: AnyScorer
    """Who scores."""
    pairs: AnyRule
    """Which answer is chosen and which rejected."""
    backfill: PublishedPairs | None = None
    """Prompts that the rule gives no pair take the one that this dataset has for them, marked by its name as source."""
    audit: Audit = Audit()
    """Which biases of the dataset warn, or stop the build."""
    dataset: AnyMainLayout = TRLPairs()
    """Columns and splits of what is published."""
    also: Annotated[tuple[AnyLayout, ...], Field(exclude_if=lambda also: not also)] = ()
    """Further layouts of the same pairs, each a configuration named by its kind; the splits are those of `dataset`."""
    publish: Publish = Publish()
    """What the card says beyond what the build knows."""
    training: AnyTraining | None = None
    """Hyper-parameters of the training that the dataset is made for."""
    profiles: Mapping[str, Profile] = Field(default_factory=dict)
    """Named variants, `--profile NAME`."""

    @field_validator("candidates")
    @classmethod
    def _names_differ(cls, candidates: tuple[Sampler, ...]) -> tuple[Sampler, ...]:
        return _named_apart(candidates)

    @field_validator("backfill")
    @classmethod
    def _backfill_is_named_apart(cls, backfill: PublishedPairs | None, info: ValidationInfo) -> PublishedPairs | None:
        if backfill is not None:
            _named_apart((*info.data.get("candidates", ()), backfill))
        return backfill

    @field_validator("also")
    @classmethod
    def _layouts_are_apart(cls, also: tuple[AnyLayout, ...], info: ValidationInfo) -> tuple[AnyLayout, ...]:
        main = info.data.get("dataset")
        kinds = [layout.kind for layout in (*also, *([main] if main else []))]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"two layouts have the same kind: {', '.join(kinds)}")
        if any(layout.test_size for layout in also):
            raise ValueError("`test_size` belongs to `dataset`: what is held out is the same in every layout")
        return also

    @model_validator(mode="after")
    def _rule_and_scorer_fit(self) -> Self:
        if self.pairs.needs_comparisons() and not self.scores.compares:
            raise ValueError(
                f"the pair rule {self.pairs.dump()['kind']!r}, as set, needs comparisons, and the scorer "
                f"{self.scores.dump()['kind']!r} makes none: take a pairwise scorer, or the rule's option that works "
                "on scores"
            )
        if self.pairs.needs_log_odds() and self.scores.compares != "log_odds":
            raise ValueError(
                f"the pair rule {self.pairs.dump()['kind']!r}, as set, needs log-odds, and the scorer "
                f"{self.scores.dump()['kind']!r} gives probabilities, which may be 0 or 1: take a ranker, or a judge "
                "with `expected`"
            )
        return self

    @property
    def samplers(self) -> tuple[Sampler, ...]:
        """The candidates' samplers, then the backfill."""
        return self.candidates if self.backfill is None else (*self.candidates, self.backfill)

    def with_profile(self, name: str | None) -> Recipe:
        """The recipe with a profile's parts in place of its own; `full` and None are the recipe as it stands.

        Raises:
            RecipeError: the recipe has no such profile.
        """
        if name is None or name == "full":
            return self._with({"profiles": {}})
        if name not in self.profiles:
            raise RecipeError(
                f"recipe {self.name!r} has no profile {name!r}", valid=closest(name, ["full", *self.profiles])
            )
        swapped = {
            field: value for field in Profile.model_fields if (value := getattr(self.profiles[name], field)) is not None
        }
        swapped |= dict.fromkeys(swapped.pop("without"))
        return self._with({**swapped, "name": f"{self.name}-{name}", "profiles": {}})

    def with_limit(self, limit: int | None) -> Recipe:
        """The recipe with another `limit`; None leaves it."""
        return self if limit is None else self._with({"limit": limit})

    def _with(self, changed: Mapping[str, object]) -> Recipe:
        kept: dict[str, Any] = {field: getattr(self, field) for field in Recipe.model_fields}
        try:
            return Recipe(**{**kept, **changed})
        except ValidationError as error:
            raise RecipeError(f"recipe {self.name!r} with {', '.join(changed)} changed: {_explained(error)}") from error


def load_recipe(where: str | Path) -> Recipe:
    """Loads a recipe: a `.py` file that defines `recipe`, a `.json` file, or the name of a shipped recipe.

    Only a local `.py` file is executed. A JSON recipe runs no code.

    Raises:
        RecipeError: there is no such file, or it doesn't hold a valid recipe.
    """
    path = _find(str(where))
    if path.suffix == ".json":
        return _from_json(path)
    try:
        found = runpy.run_path(str(path), run_name="__prefdata_recipe__").get("recipe")
    except ValidationError as error:
        raise RecipeError(f"{str(path)!r}: {_explained(error)}") from error
    except SyntaxError as error:
        raise RecipeError(f"{error.filename or str(path)!r}, line {error.lineno}: {error.msg}") from error
    if not isinstance(found, Recipe):
        raise RecipeError(
            f"{str(path)!r} defines no recipe: the name `recipe` is {type(found).__name__}",
            valid="a module-level `recipe = Recipe(...)`",
        )
    return found


def load_rule(where: str | Path) -> PairRule:
    """A pair rule from a JSON file that holds what a recipe's `pairs` may be.

    Raises:
        RecipeError: there is no such file, or it doesn't hold a valid rule.
    """
    path = Path(where)
    if not path.is_file():
        raise RecipeError(f"there is no file {str(where)!r}", valid="a JSON file with a rule, as a recipe's `pairs`")
    try:
        rule = Profile.model_validate({"pairs": _read_json(path)}).pairs
    except ValidationError as error:
        raise RecipeError(f"{str(path)!r}: {_explained(error)}") from error
    if rule is None:
        raise RecipeError(f"{str(path)!r} holds no rule", valid="a JSON object with a `kind`")
    return rule


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with prefdata, by name."""
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


def _from_json(path: Path) -> Recipe:
    data = _read_json(path)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{str(path)!r}: {_explained(error)}") from error


def _read_json(path: Path) -> JSON:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{str(path)!r} is not JSON: {error}") from error


def _explained(error: ValidationError) -> str:
    """Every problem on its own line: where, what was given, why it is refused, what is valid."""
    problems = error.errors(include_url=False)
    # Pydantic calls a list too short when its items are refused, which they are already.
    real = [problem for problem in problems if problem["type"] != "too_short" or not problem["input"]] or problems
    lines = [_problem(error.title, problem) for problem in real]
    return lines[0] if len(lines) == 1 else "\n".join(["", *(f"- {line}" for line in lines)])


def _problem(title: str, problem: Mapping[str, Any]) -> str:
    specs, trail = _place(title, problem["loc"])
    where = ".".join([title, *trail])
    given = repr(problem["input"])
    given = given if len(given) <= 80 else f"{given[:77]}..."
    kinds = [kind for spec in specs if isinstance(kind := _kind_of(spec), str)]
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        if isinstance(problem["input"], str) and _SECRET.search(trail[-1]):
            given = "(not shown)"
        names = [name for spec in specs for name in spec.model_fields]
        return f"{where}: unknown key, value {given}" + (f"; valid keys: {closest(trail[-1], names)}" if names else "")
    if kind == "missing":
        return f"{where}: required, but missing"
    if kind == "union_tag_invalid":
        return f"{where}: unknown kind {context['tag']!r}; valid kinds: {closest(str(context['tag']), kinds)}"
    if kind == "union_tag_not_found":
        return f"{where}: {given} has no 'kind'; valid kinds: {', '.join(kinds)}"
    if kind in ("model_attributes_type", "model_type") and kinds:
        return f"{where}: {given} is no object with a 'kind'; valid kinds: {', '.join(kinds)}"
    return f"{where}: {given}: {problem['msg'].removeprefix('Value error, ')}"


def _place(title: str, loc: tuple[str | int, ...]) -> tuple[list[type[Spec]], list[str]]:
    """The Spec classes that may stand where a pydantic location ends, and the location in words of the recipe.

    Pydantic's locations also name the members of unions (`hub`, `constrained-int`), which no recipe does.
    """
    specs = [found for found in _subclasses(Spec) if found.__name__ == title][:1]
    trail: list[str] = []
    key_comes = False
    for step in loc:
        fields = specs[0].model_fields if len(specs) == 1 else {}
        chosen = [spec for spec in specs if _kind_of(spec) == step]
        if isinstance(step, int) or key_comes:
            trail.append(str(step))
            key_comes = False
        elif len(specs) > 1 and chosen:
            specs = chosen
        elif step in fields:
            trail.append(step)
            annotation = fields[step].annotation
            specs, key_comes = _specs_in(annotation), get_origin(annotation) is Mapping
        elif specs:
            trail.append(step)
    return specs, trail or [str(step) for step in loc]


def _specs_in(annotation: object) -> list[type[Spec]]:
    """The Spec classes that a field's annotation names, at any depth of unions, tuples and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    return [spec for inner in get_args(annotation) for spec in _specs_in(inner)]


def _kind_of(spec: type[Spec]) -> object:
    field = spec.model_fields.get("kind")
    return field.default if field is not None else None


def _subclasses(root: type[Spec]) -> Iterator[type[Spec]]:
    for spec in root.__subclasses__():
        yield spec
        yield from _subclasses(spec)
