"""Marks of fields: what a field can do in the name of the person who builds a recipe that somebody else wrote.

Every field of a `Spec` of prefdata is marked, within `Annotated`: `Harmless`, or `Acts`. A class with an unmarked field
can't be defined. `kind` alone needs no mark: it only chooses among parts that are themselves marked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel

__all__ = [
    "CODE",
    "DATASET",
    "FILE",
    "GROUPS",
    "MODEL",
    "REVISION",
    "Acts",
    "Group",
    "Harmless",
    "is_inside",
    "is_repository",
    "is_revision",
    "is_self_contained",
    "mark_of",
    "unmarked",
]

Group: TypeAlias = Literal[
    "paths", "endpoint", "keys", "body", "env", "engine", "remote_code", "trl", "revisions", "code", "publish"
]
"""What a field that acts does; each can be granted by itself (`prefdata.spec.trust`)."""
GROUPS: tuple[Group, ...] = get_args(Group)
"""Every group."""

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LONGEST = 200
"""Characters of a name; the Hub allows 96 in each half."""
_EMBEDDED = re.compile(r"embedded:[a-z0-9.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PART_OF_COMMIT = re.compile(r"(\A|-g)[0-9a-fA-F]{6,40}\Z")
"""What Git and the Hub may take for a commit: the beginning of its number, also after `-g`, in either case."""
_REVISION = re.compile(r"(?!refs/)[A-Za-z0-9][\w./+-]*")


class _HarmlessMark:
    """Marks a field that reads, runs and sends nothing, whatever its value."""

    def __repr__(self) -> str:
        return "Harmless"


Harmless = _HarmlessMark()
"""Put into `Annotated[int, Harmless]`: any value may come from a stranger."""


@dataclass(frozen=True)
class Acts:
    """Marks a field through which a recipe reads, runs or sends something in the name of the person who builds it."""

    group: Group
    """What the field does, and what grants it."""
    what: str
    """What it does, in words: `reads a file of this machine`."""
    unless: Callable[[Any], bool] | None = None
    """Returns whether a value does nothing of the kind; None: only the field's default does nothing."""
    harmless_keys: frozenset[str] = frozenset()
    """Keys of a mapping that do nothing of the kind, where their values are plain."""
    at_default: str | None = None
    """What acts even where the field has its default; None: nothing does."""

    def acting(self, value: Any, default: object) -> Any:
        """Returns the part of a field's value that acts; None where nothing of it does."""
        if value is None or value == default:
            return self.at_default
        if self.unless is not None and self.unless(value):
            return None
        if isinstance(value, Mapping):
            kept = {key: item for key, item in value.items() if key not in self.harmless_keys or not _is_plain(item)}
            return kept or None
        return value


def mark_of(spec: type[BaseModel], name: str) -> Acts | _HarmlessMark | None:
    """Gives the mark of a field; one that a subclass only gives another default keeps its mark."""
    for base in spec.__mro__:
        info = base.model_fields.get(name) if issubclass(base, BaseModel) else None
        for mark in info.metadata if info is not None else ():
            if isinstance(mark, Acts | _HarmlessMark):
                return mark
    return None


def unmarked(spec: type[BaseModel]) -> list[str]:
    """Lists the fields without a mark."""
    return [name for name in spec.model_fields if name != "kind" and mark_of(spec, name) is None]


def is_repository(value: str) -> bool:
    """Tells whether a text names a repository of the Hub or an embedded model, and nothing that lies here."""
    if _EMBEDDED.fullmatch(value):
        return True
    named = len(value) <= _LONGEST and _REPOSITORY.fullmatch(value) is not None
    return named and not Path(value).exists()


def is_revision(value: str) -> bool:
    """Tells whether a text is a branch, a tag or a full commit, and not a pull request, which anybody may open.

    A shortened commit may be one of a pull request, and what a lock says of it can't be checked.
    """
    if _PART_OF_COMMIT.search(value) and not _COMMIT.fullmatch(value):
        return False
    return _REVISION.fullmatch(value) is not None and ".." not in value


def is_inside(value: str) -> bool:
    """Tells whether a path stays in its repository."""
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in value and ":" not in value


def is_self_contained(schema: Any) -> bool:
    """Tells whether a JSON schema refers to nothing outside itself."""
    if isinstance(schema, Mapping):
        outside = any(not str(schema.get(key, "#")).startswith("#") for key in ("$ref", "$dynamicRef"))
        return not outside and all(map(is_self_contained, schema.values()))
    return all(map(is_self_contained, schema)) if isinstance(schema, list | tuple) else True


def _is_plain(value: object) -> bool:
    """Tells whether a value is a number, a switch, or a word that can't be a path or an address."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return re.fullmatch(r"[\w-]*", value) is not None
    return value is None or isinstance(value, bool | int | float)


CODE = Acts("code", "runs Python code")
"""A function or class by its import path."""
FILE = Acts("paths", "reads a file of this machine")
"""A path of this machine."""
MODEL = Acts("paths", "reads a model of this machine", unless=is_repository)
"""A model: harmless where it is one of the Hub, or embedded."""
DATASET = Acts("paths", "reads a dataset of this machine", unless=is_repository)
"""A dataset: harmless where it is one of the Hub."""
REVISION = Acts("revisions", "reads a reference that anybody may set, such as a pull request", unless=is_revision)
"""A branch, tag or commit."""
