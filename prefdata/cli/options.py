"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import get_args

import click

from prefdata.errors import InputError, UserError, closest
from prefdata.pairing import LengthUnit, PairRule, PythonRule, code_allowed, rule_named
from prefdata.spec import JSON

__all__ = [
    "allow_code_option",
    "allowing_code",
    "columns_given",
    "length_option",
    "limit_option",
    "named_rule",
    "one_rule",
    "out_option",
    "print_json",
    "profile_option",
    "recipe_argument",
    "rule_json_option",
]

recipe_argument = click.argument("recipe")
profile_option = click.option("--profile", metavar="NAME", help="A profile of the recipe, for instance `cpu`.")
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Take only the first N different prompts."
)
allow_code_option = click.option(
    "--allow-code", is_flag=True, help="Run a pair rule that is Python code; refused otherwise."
)
rule_json_option = click.option(
    "--rule-json", metavar="FILE", help="A rule as JSON, as in a recipe; instead of --rule."
)
length_option = click.option(
    "--length", type=click.Choice(get_args(LengthUnit)), help="Unit of length for --rule; left out, characters."
)
out_option = click.option("--out", metavar="DIR", help="The build folder; left out, builds/NAME.")


def allowing_code(allowed: bool, folder: Path) -> AbstractContextManager[None]:
    """Where the user allows code: Python rules run, and are looked for in `folder` first."""
    return code_allowed(folder) if allowed else nullcontext()


def print_json(value: JSON) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True))


def named_rule(name: str, length: LengthUnit) -> PairRule:
    """The published rule of a name, or the Python function `module:function`.

    Raises:
        UserError: there is none, or it needs more than its name.
    """
    from pydantic import ValidationError

    if ":" in name:
        try:
            return PythonRule(path=name, length=length)
        except ValidationError as error:
            raise UserError(f"{name!r} is no import path of a rule", valid="module:function") from error
    kinds = rule_named()
    if name in ("dno", "custom", "python"):
        raise UserError(
            f"the pair rule {name!r} needs more than its name", hint=f'--rule-json FILE, with {{"kind": "{name}", ...}}'
        )
    if name not in kinds:
        raise UserError(f"there is no pair rule {name!r}", valid=closest(name, kinds))
    return kinds[name](length=length)


def one_rule(name: str | None, file: str | None, length: LengthUnit | None) -> PairRule:
    """The one rule that was given.

    Raises:
        UserError: none was given, or two, or a length for a rule that says its own.
    """
    if (name is None) == (file is None):
        raise UserError("give one pair rule", valid="--rule NAME, or --rule-json FILE")
    if file is None:
        return named_rule(name or "", length or "characters")
    if length is not None:
        raise UserError(
            f"--length {length} stands beside --rule-json", hint=f'write "length": "{length}" into {file!r}'
        )
    from prefdata.recipe import load_rule

    return load_rule(file)


def columns_given(text: str | None) -> dict[str, str]:
    """`prompt=question,score=reward` as role → column.

    Raises:
        InputError: a part is not ROLE=NAME, or a role is named twice.
    """
    given: dict[str, str] = {}
    for part in (text or "").split(","):
        role, equals, name = part.partition("=")
        if part and not (equals and role.strip() and name.strip()):
            raise InputError(f"--columns: {part!r} is not ROLE=NAME", valid="--columns prompt=question,score=reward")
        if role.strip() in given:
            raise InputError(f"--columns: {role.strip()!r} is named twice", valid="one column a role")
        if part:
            given[role.strip()] = name.strip()
    return given
