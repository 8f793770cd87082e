"""`explained`: what pydantic found wrong, in words of the recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from prefdata.errors import closest
from prefdata.spec import Spec
from prefdata.spec.source import one_line

__all__ = ["explained"]

_SECRET = re.compile("key|token|secret|password", re.IGNORECASE)
"""Names whose value, given in the wrong place, may be a secret and is not quoted."""


def explained(error: ValidationError) -> str:
    """Lists every problem on its own line: where, what was given, why it is refused, what is valid."""
    problems = error.errors(include_url=False)
    # Pydantic calls a list too short when its items are refused, which they are already.
    real = [problem for problem in problems if problem["type"] != "too_short" or not problem["input"]] or problems
    lines = [_problem(error.title, problem) for problem in real]
    return lines[0] if len(lines) == 1 else "\n".join(["", *(f"- {line}" for line in lines)])


def _problem(title: str, problem: Mapping[str, Any]) -> str:
    specs, trail = _place(title, problem["loc"])
    where = ".".join([title, *trail])
    given = one_line(problem["input"])
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
        return f"{where}: {given} is not an object with a 'kind'; valid kinds: {', '.join(kinds)}"
    return f"{where}: {given}: {problem['msg'].removeprefix('Value error, ')}"


def _place(title: str, loc: tuple[str | int, ...]) -> tuple[list[type[Spec]], list[str]]:
    """Finds the Spec classes that a pydantic location may lead to, and names the location in words of the recipe.

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
