"""Arguments and options that several commands share."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from prefdata.cli.terminal import coloured, uses_colour
from prefdata.errors import InputError, UserError, printable
from prefdata.flow.fitting import on_terminal
from prefdata.records import LengthUnit

if TYPE_CHECKING:
    from prefdata.flow.engines.local import Engine
    from prefdata.spec import JSON

__all__ = [
    "actors_option",
    "address_option",
    "allow_code_option",
    "allow_option",
    "columns_given",
    "engine_of",
    "engine_option",
    "from_option",
    "length_option",
    "limit_option",
    "no_reuse_option",
    "one_rule",
    "out_option",
    "print_json",
    "profile_option",
    "replace_option",
    "reuse_of",
    "reuse_option",
    "rule_json_option",
    "display",
    "settings_given",
]

_LINE = 10_000
"""Longest line that is printed."""
_ESCAPED = re.compile(r"[\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""What JSON may hold as it is, although a terminal acts on it."""

profile_option = click.option("--profile", metavar="NAME", help="A profile of the recipe, for instance `cpu`.")
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Take only the first N different prompts."
)
replace_option = click.option(
    "--replace", "replaces", is_flag=True, help="Replace a finished dataset of another limit or profile, and size."
)
allow_code_option = click.option(
    "--allow-code", is_flag=True, help="Run parts and pair rules that are Python code; refused otherwise."
)
allow_option = click.option(
    "--allow",
    multiple=True,
    metavar="WHAT,...",
    help="What a recipe from elsewhere may do: paths, env, engine, endpoint=URL, ...; `prefdata check` lists all.",
)
from_option = click.option(
    "--from",
    "origin",
    metavar="REPO_ID",
    help="Take the recipe of a published dataset (or of its folder), with its lock.",
)
rule_json_option = click.option(
    "--rule-json", metavar="FILE", help="A rule as JSON, as in a recipe; instead of --rule."
)
length_option = click.option(
    "--length", type=click.Choice(get_args(LengthUnit)), help="Unit of length for --rule; left out, characters."
)
reuse_option = click.option(
    "--reuse",
    metavar="DIR",
    help="Look answers and scores of other builds up here, and keep those of this one; left out, .cache beside it.",
)
no_reuse_option = click.option("--no-reuse", is_flag=True, help="Ask everything anew, and keep nothing for others.")
engine_option = click.option(
    "--engine", type=click.Choice(["local", "ray"]), default="local", help="The machines: this one, or a Ray cluster."
)
address_option = click.option(
    "--address", metavar="HOST:PORT", help="Of a running Ray cluster, or `auto`; left out, one starts on this machine."
)
actors_option = click.option(
    "--actors", type=click.IntRange(min=1), metavar="N", help="Workers of each model on Ray; left out, all that fit."
)
out_option = click.option(
    "--out", metavar="DIR", help="The build folder (or s3://BUCKET/FOLDER); left out, builds/NAME."
)


def engine_of(name: str, address: str | None, actors: int | None) -> Engine | None:
    """Gives the `engine` of `build`.

    Raises:
        UserError: an option of Ray was given without it.
    """
    if name == "ray":
        from prefdata.flow.engines.ray import Ray

        return Ray(address=address, actors=actors)
    if address is not None or actors is not None:
        raise UserError("--address and --actors are of Ray", hint="add --engine ray, or leave them out")
    return None


def reuse_of(folder: str | None, nothing: bool) -> str | bool:
    """Gives the `reuse` of `build` and `check`.

    Raises:
        UserError: both options were given.
    """
    if folder is not None and nothing:
        raise UserError("--reuse cannot be combined with --no-reuse", valid="one of the two")
    return not nothing if folder is None else folder


def print_json(value: JSON, *, one_line: bool = False) -> None:
    """Prints one JSON object on stdout, at once; what a terminal would act on is escaped; no value changes by that.

    Args:
        value: the object.
        one_line: for a program that reads line by line: on one line, of ASCII only.
    """
    text = json.dumps(
        _finite(value), ensure_ascii=one_line, indent=None if one_line else 2, sort_keys=True, allow_nan=False
    )
    click.echo(_ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def _finite(value: JSON) -> JSON:
    """Replaces infinities and NaN, which JSON lacks, by their names; only foreign data has any."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def display(text: str) -> None:
    """Prints lines on stdout, each made safe; on a terminal broken between words, with marks in colour."""
    lines = on_terminal("\n".join(printable(line, _LINE) for line in text.split("\n")), sys.stdout)
    click.echo("\n".join(map(coloured, lines) if uses_colour() else lines))


def one_rule(name: str | None, file: str | None, length: LengthUnit | None) -> str | Path:
    """Gives the one rule that the options name, or its file.

    Raises:
        UserError: none was given, or two, or a length for a rule in a file, which has its own.
    """
    if (name is None) == (file is None):
        raise UserError("give one pair rule", valid="--rule NAME, or --rule-json FILE")
    if file is not None and length is not None:
        raise UserError(
            f"--length {length} cannot be combined with --rule-json", hint=f'write "length": "{length}" into {file!r}'
        )
    return name if name is not None else Path(file or "")


def columns_given(text: str | None) -> dict[str, str]:
    """Reads `prompt=question,score=reward` as role → column.

    Raises:
        InputError: a part is not ROLE=NAME, or a role is given twice.
    """
    given: dict[str, str] = {}
    for part in (text or "").split(","):
        role, equals, name = part.partition("=")
        if part and not (equals and role.strip() and name.strip()):
            raise InputError(f"--columns: {part!r} is not ROLE=NAME", valid="--columns prompt=question,score=reward")
        if role.strip() in given:
            raise InputError(f"--columns: {role.strip()!r} is given twice", valid="one column for each role")
        if part:
            given[role.strip()] = name.strip()
    return given


def settings_given(settings: Iterable[str]) -> dict[str, JSON]:
    """Reads `KEY=VALUE` each; a value that is not JSON is a text.

    Raises:
        UserError: one of them is not KEY=VALUE.
    """
    fields: dict[str, JSON] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {text!r} is not KEY=VALUE", valid="--set beta=0.1 --set trl.max_steps=20")
        try:
            fields[key.strip()] = json.loads(value)
        except ValueError:
            fields[key.strip()] = value
    return fields
