"""`read_origin`: reads the recipe of a dataset, and the lock that pins what the recipe leaves open."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from prefdata.dataset import AnyLayout, AnyMainLayout, Layout
from prefdata.errors import RecipeError
from prefdata.flow.graph import FORMAT
from prefdata.flow.lock import locked_parts
from prefdata.flow.versions import packages
from prefdata.pairing import AnyRule, PairRule
from prefdata.recipe import Recipe, read_recipe
from prefdata.scoring import BaselineScorer
from prefdata.spec import JSON, Context
from prefdata.tables.kept import kept_problem
from prefdata.verification._derive import Rules
from prefdata.verification._folder import read_document
from prefdata.verification.report import Report

_RECIPE, _LOCK = "recipe.json", "prefdata.lock.json"
_PAIR_KEYS = {"table", "columns", "pairs"}
_PAIR_OPTIONS = {"config", "split", "names", "limit", "dataset", "also", "keep"}


@dataclass(frozen=True)
class Origin:
    """The origin of a dataset by the folder's documents."""

    rules: Rules
    recipe: Recipe | None
    """The recipe of a build; None for a dataset of `prefdata pair`."""
    lock: JSON
    columns: dict[str, str] = field(default_factory=dict)
    """Role → name of the table's column, for a dataset of `prefdata pair`."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    """Fingerprints of recipe and stages that the card must have."""
    limit: int | None = None
    """Prompts of the table that count, for a dataset of `prefdata pair`; None for all."""
    named: bool = False
    """Whether answers without source and index have names (`prefdata.tables.scored_table.with_names`)."""
    keep: tuple[str, ...] = ()
    """Columns of the input that travel along."""
    config: str | None = None
    """The configuration that `prefdata pair` was given."""
    split: str | None = None
    """The split that `prefdata pair` was given."""


def read_origin(files: dict[str, Path], report: Report) -> Origin | None:
    """Reads recipe and lock, and checks one against the other; None where the recipe is not valid.

    Raises:
        RecipeError: the rule is Python code that is not allowed here, or that does not exist.
    """
    data, lock = read_document(files, _RECIPE, report), read_document(files, _LOCK, report)
    if not isinstance(data, dict) or not isinstance(lock, dict):
        for name, value in ((_RECIPE, data), (_LOCK, lock)):
            if name in files and not isinstance(value, dict):
                report.add("document", name, expected="a JSON object", found=value)
        if not isinstance(data, dict):
            return None
        lock = {}
    with report.checking("recipe, lock and their fingerprints"):
        return (
            _of_pair(data, lock, report)
            if set(data) - _PAIR_OPTIONS == _PAIR_KEYS
            else _of_build(files[_RECIPE], lock, report)
        )


def _of_build(path: Path, lock: JSON, report: Report) -> Origin | None:
    try:
        recipe = read_recipe(path)
    except (RecipeError, RecursionError) as error:
        report.add("recipe", _RECIPE, expected="a recipe", found=str(error))
        return None
    published = lock.get("parts")
    pins = {name: part.get("pins", {}) for name, part in _objects(published).items() if isinstance(part, dict)}
    parts = locked_parts(recipe, pins)
    expected = {"format": FORMAT, "recipe": recipe.fingerprint(), "seed": recipe.seed}
    report.compare("lock", _LOCK, expected, {name: value for name, value in lock.items() if name in expected})
    own = {
        name: {key: value for key, value in part.items() if key != "packages"} if isinstance(part, dict) else part
        for name, part in _objects(published).items()
    }
    report.compare("lock", _LOCK, parts, own, path="parts")
    _check_code(recipe.pairs, pins.get("pairs"), report)
    rules = Rules(
        rule=recipe.pairs,
        layout=recipe.dataset,
        also=recipe.also,
        backfill=None if recipe.backfill is None else recipe.backfill.name,
        unique_names=True,
        hashed_ids=getattr(recipe.prompts, "prompt_id_column", None) is None,
        scorer=recipe.scores,
        context=Context(seed=recipe.seed, pins=_objects(pins.get("scores"))),
        recompute_scores=not isinstance(recipe.scores, BaselineScorer) or _is_this_version(published, report),
    )
    keys = {name: str(part["key"]) for name, part in parts.items()}
    fingerprints = {"recipe": recipe.fingerprint(), **keys}
    return Origin(rules, recipe, lock, fingerprints=fingerprints, keep=tuple(recipe.kept_columns()))


def _of_pair(data: JSON, lock: JSON, report: Report) -> Origin | None:
    try:
        rule: PairRule = TypeAdapter(AnyRule).validate_python(data["pairs"])
        columns = TypeAdapter(dict[str, str]).validate_python(data["columns"], strict=True)
        layout: Layout = TypeAdapter(AnyMainLayout).validate_python(data.get("dataset", {"kind": "trl"}))
        also = TypeAdapter(tuple[AnyLayout, ...]).validate_python(tuple(data.get("also", ())))
        limit = TypeAdapter(int | None).validate_python(data.get("limit"), strict=True)
        keep = TypeAdapter(tuple[str, ...]).validate_python(tuple(data.get("keep", ())))
        config, split = (
            TypeAdapter(str | None).validate_python(data.get(name), strict=True) for name in ("config", "split")
        )
    except (ValidationError, RecursionError) as error:
        report.add("recipe", _RECIPE, expected="a pair rule, and names of columns", found=str(error))
        return None
    if problem := kept_problem(keep):
        report.add("recipe", _RECIPE, field="keep", expected="columns that can be kept", found=problem)
        return None
    report.compare("lock", _LOCK, rule.fingerprint(), lock.get("rule"), path="rule")
    _check_code(rule, lock.get("rule_pins"), report)
    rules = Rules(rule=rule, layout=layout, also=also, unique_names=False, hashed_ids=False)
    names = data.get("names") == "digest"
    return Origin(
        *(rules, None, lock, columns, {"rule": rule.fingerprint()}, limit),
        named=names,
        keep=keep,
        config=config,
        split=split,
    )


def _check_code(rule: PairRule, pins: JSON, report: Report) -> None:
    """Checks that a rule of Python code is the pinned code. Only such a rule has pins."""
    report.compare("lock", _LOCK, rule.pins(), _objects(pins), path="rule_pins")


def _is_this_version(parts: JSON, report: Report) -> bool:
    """Checks whether this version of prefdata made the scores: their definition is its code."""
    version = _objects(_objects(_objects(parts).get("scores")).get("packages")).get("prefdata")
    ours = packages()["prefdata"]
    if version != ours:
        report.not_checked.append(f"scores: prefdata {version} made them, this is prefdata {ours}")
    return bool(version == ours)


def _objects(value: JSON) -> dict[str, JSON]:
    return value if isinstance(value, dict) else {}
