"""`wants`: what a recipe from elsewhere would do in the name of the person who builds it, and `Grants`, which allow it.

Everything that is not marked `Harmless` is refused unless it is granted, one group at a time.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prefdata.errors import RecipeError, closest
from prefdata.spec import Spec
from prefdata.spec import code as own_code
from prefdata.spec.marks import CODE, GROUPS, Acts, Group, mark_of

__all__ = ["GRANTS", "Grants", "Want", "option_of", "specs_of", "wants"]

_NAMED: tuple[Group, ...] = ("endpoint", "keys")
"""Groups of which each value is granted by itself."""
_NEVER: tuple[Group, ...] = ("code", "publish")
"""Groups that `allow` does not name: code has `--allow-code`, and where to publish is said on the command line."""
GRANTS = tuple(f"{group}=VALUE" if group in _NAMED else group for group in GROUPS if group not in _NEVER)
"""What may be granted, as `--allow` takes it."""
_SHOWN = 100


@dataclass(frozen=True)
class Want:
    """One field of a recipe that acts."""

    place: str
    """Where in the recipe: `candidates.0.generator.env`."""
    mark: Acts
    value: object

    @property
    def grant(self) -> str:
        """What grants it: an entry of `allow`, or `code`."""
        # A comma within a value would begin the next grant.
        value = str(self.value).replace(",", "%2C")
        return f"{self.mark.group}={value}" if self.mark.group in _NAMED else self.mark.group

    @property
    def is_shown_whole(self) -> bool:
        """Whether its text shows the whole value."""
        return len(self._value()) <= _SHOWN

    def _value(self) -> str:
        return repr(dict(self.value) if isinstance(self.value, Mapping) else self.value)

    def __str__(self) -> str:
        value = self._value()
        value = value if len(value) <= _SHOWN else f"{value[: _SHOWN - 3]}..."
        return f"{self.place} {self.mark.what}: {value} ({option_of(self.grant)})"


class Grants:
    """What a person allows the recipes of others to do.

    Args:
        allow: entries of `GRANTS`; several of them may be one text, with commas between.

    Raises:
        RecipeError: an entry is not one of `GRANTS`.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        entries = [allow] if isinstance(allow, str) else allow
        self._granted = {entry.strip() for text in entries for entry in text.split(",") if entry.strip()}
        for entry in sorted(self._granted):
            group, equals, value = entry.partition("=")
            if group == "code":
                raise RecipeError("Python code is not granted by 'allow'", hint="--allow-code (in Python: allow_code)")
            known = group in GROUPS and group not in _NEVER
            if not known or (group in _NAMED) != bool(equals and value):
                raise RecipeError(f"{entry!r} can't be granted", valid=closest(group, GRANTS))

    def cover(self, want: Want) -> bool:
        """Tells whether a want is granted."""
        if want.mark.group == "code":
            return own_code.code_is_allowed()
        return want.mark.group not in _NEVER and want.grant in self._granted


def option_of(*grants: str) -> str:
    """Gives the options of the command line that grant something."""
    named = [grant for grant in dict.fromkeys(grants) if grant != "code"]
    options = ["--allow " + shlex.quote(",".join(named))] if named else []
    return " ".join([*options, *(["--allow-code"] if "code" in grants else [])])


def wants(spec: Spec) -> Iterator[Want]:
    """Yields every field, at any depth, through which a part acts."""
    for place, part in specs_of(spec):
        if part.is_own():
            yield Want(place, CODE, own_code.path_of(type(part)))
        for name, info in type(part).model_fields.items():
            mark = mark_of(type(part), name)
            if isinstance(mark, Acts):
                default = None if info.is_required() else info.get_default(call_default_factory=True)
                value = mark.acting(getattr(part, name), default)
                if value is not None:
                    yield Want(f"{place}.{name}".lstrip("."), mark, value if isinstance(value, Mapping) else str(value))


def specs_of(value: object, place: str = "") -> Iterator[tuple[str, Spec]]:
    """Yields every part within a value, with its place; a part comes before those in its fields."""
    if isinstance(value, Spec):
        yield place, value
        inner: Iterable[tuple[object, object]] = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    else:
        return
    for name, item in inner:
        yield from specs_of(item, f"{place}.{name}".lstrip("."))
