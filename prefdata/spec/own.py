"""Parts of the user's own in a recipe: subclasses and functions, by import path.

`Own` extends the union of a recipe's field. It admits an instance of a subclass that prefdata does not ship, and wraps
a bare function. Both are dumped as `{"kind": "python", "path": "module:name", ...}`. `OwnPart` is that
form as an object: a function, or a class that is named where no code is allowed.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, SupportsIndex

from pydantic import Field, GetCoreSchemaHandler, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import CoreSchema, core_schema

from prefdata.errors import RecipeError, UserError
from prefdata.records import Message, Prompt
from prefdata.spec import JSON, Part, Spec, sha256_of_file
from prefdata.spec.code import IMPORT_PATH, Code, code_is_allowed, file_of, is_importable, load_from, path_of
from prefdata.spec.marks import CODE

__all__ = [
    "Own",
    "OwnCode",
    "OwnPart",
    "PromptText",
    "Raised",
    "attempt",
    "is_slug",
    "pins_of",
    "source_pins",
    "storable",
]

_MOST = 300


class PromptText(str):
    """A prompt as a function of the user's gets it: a text that also has the turns.

    The text of a prompt of one user turn is that turn. Otherwise every turn follows its role, with a blank line between
    two turns.
    """

    messages: tuple[Message, ...]
    """Every turn: role and content."""
    prompt_id: str
    """The prompt's id."""

    @classmethod
    def of(cls, prompt: Prompt) -> PromptText:
        """Gives a prompt's text."""
        turns = prompt.messages
        alone = len(turns) == 1 and turns[0]["role"] == "user"
        text = turns[0]["content"] if alone else "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
        made = cls(text)
        made.messages, made.prompt_id = turns, prompt.prompt_id
        return made


class OwnCode(Spec):
    """A function or class of the user's own, named by its import path."""

    takes_functions: ClassVar[bool] = False
    """Whether a function may take the place of a class."""

    kind: Literal["python"] = "python"
    path: Annotated[str, CODE, Field(pattern=IMPORT_PATH)]
    """`module:name`. The module is looked for in the recipe's folder, then where Python looks."""
    options: Annotated[Mapping[str, Any], CODE, Field(exclude_if=lambda options: not options)] = {}
    """Fields of a class besides those of its base class."""

    @model_validator(mode="wrap")
    @classmethod
    def _of_a_function(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, Mapping) or "function" not in data:
            return handler(data)
        function = data["function"]
        if not cls.takes_functions or not callable(function) or isinstance(function, type):
            raise ValueError(f"{function!r} is not a function")
        path = path_of(function)
        if data.get("path", path) != path:
            raise ValueError(f"`function` is {path!r} and `path` is {data['path']!r}; give one of the two")
        made = handler({**{name: value for name, value in data.items() if name != "function"}, "path": path})
        # No field: equality, dumps and fingerprints go by the path.
        vars(made)["given_function"] = function
        return made

    @classmethod
    def named_by(cls, function: Callable[..., Any]) -> dict[str, JSON]:
        """Gives the fields that follow from a bare function in a recipe, besides its path."""
        return {}

    @property
    def code(self) -> Code:
        """The code that this names."""
        return Code(f"the {self.room}", self.path)

    def given(self) -> Any:
        """The function object that the recipe gave, or None where it gave an import path."""
        return vars(self).get("given_function")

    def function(self) -> Callable[..., Any]:
        """Gives the function, importing it where the recipe gave its path.

        Raises:
            RecipeError: code is not allowed, there is no such function, or it is a class.
        """
        found: Callable[..., Any] = self.given() or self.code.load()
        if isinstance(found, type) or not self.takes_functions:
            raise self.not_loaded()
        return found

    def not_loaded(self) -> RecipeError:
        """The error of using a class that the recipe only names."""
        return RecipeError(
            f"the {self.room} {self.path!r} is a class, and the recipe was loaded where no code is allowed",
            hint="load the recipe with --allow-code (in Python: within `code_allowed(folder)`)",
        )

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickles a function of a recipe's folder by that folder, so that workers find it."""
        function = self.given()
        if function is None or is_importable(function):
            return super().__reduce_ex__(protocol)
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return _unpickled, (type(self), str(file_of(function).parent), fields)

    def replace(self, **changes: Any) -> Self:
        """See `Spec.replace`; keeps the function that the recipe gave."""
        made = super().replace(**changes)
        if made.path == self.path and self.given() is not None:
            vars(made)["given_function"] = self.given()
        return made


def _unpickled(kind: type[OwnCode], folder: str, fields: dict[str, Any]) -> OwnCode:
    made = kind(**fields)
    vars(made)["given_function"] = load_from(folder, made.path)
    return made


class OwnPart(OwnCode, Part):
    """A part of the flow that is a function or class of the user's own."""

    def pins(self) -> dict[str, JSON]:
        """Hashes the file that defines it.

        Raises:
            RecipeError: code is not allowed, or there is no such module.
        """
        return source_pins(self)

    def problems(self) -> list[UserError]:
        """Reports that code is not allowed, or that there is no such function."""
        try:
            self.function()
        except UserError as problem:
            return [problem]
        return []


def source_pins(part: OwnCode) -> dict[str, JSON]:
    """Hashes the file that defines a function or class.

    Raises:
        RecipeError: code is not allowed, or there is no such module.
    """
    given = part.given()
    return {"sha256": sha256_of_file(file_of(given)) if given is not None else part.code.sha256()}


def pins_of(spec: Spec) -> dict[str, JSON]:
    """Hashes the file of a layout or objective of the user's own; of one that prefdata ships there is nothing to pin.

    Raises:
        RecipeError: code is not allowed, or there is no such module.
    """
    if isinstance(spec, OwnCode):
        spec.code.load()
        return source_pins(spec)
    return {"sha256": sha256_of_file(file_of(type(spec)))} if spec.is_own() else {}


class Own:
    """Extends the union of a recipe's field by parts of the user's own.

    Args:
        bases: base classes whose subclasses are admitted.
        stand_in: the `OwnCode` of the field's union.
    """

    def __init__(self, *bases: type[Spec], stand_in: type[OwnCode]) -> None:
        self.bases, self.stand_in = bases, stand_in

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler(source)
        return core_schema.no_info_wrap_validator_function(
            self._validated,
            inner,
            serialization=core_schema.wrap_serializer_function_ser_schema(self._dumped, schema=inner),
        )

    def _validated(self, value: Any, handler: Callable[[Any], Any]) -> Any:
        if isinstance(value, Spec):
            if type(value).__module__.partition(".")[0] == "prefdata":
                return handler(value)
            if not isinstance(value, self.bases):
                names = " or ".join(base.__name__ for base in self.bases)
                raise ValueError(f"{type(value).__name__} is not a subclass of {names}")
            path_of(type(value))
            return value
        if isinstance(value, type):
            raise ValueError(f"{value.__name__} is a class; give an instance: {value.__name__}(...)")
        if callable(value):
            if not self.stand_in.takes_functions:
                raise ValueError(f"a {self.stand_in.room} can't be a function; give an instance of a subclass")
            value = {"kind": "python", "function": value, **self.stand_in.named_by(value)}
        made = handler(value)
        return self._instance(made) if isinstance(made, OwnCode) and made.given() is None else made

    def _instance(self, made: OwnCode) -> Spec:
        """The instance of a class that an import path names, where code is allowed."""
        if not code_is_allowed():
            return made
        found = made.code.load()
        if not isinstance(found, type):
            return made
        if not (issubclass(found, self.bases) and issubclass(found, Spec)):
            raise ValueError(f"{made.path} is not a subclass of {' or '.join(base.__name__ for base in self.bases)}")
        fields = {name: getattr(made, name) for name in type(made).model_fields if name not in OwnCode.model_fields}
        # What the JSON leaves out has the class's own default, which may differ from that of the base class.
        known = {name: fields[name] for name in fields if name in found.model_fields and name in made.model_fields_set}
        try:
            return found(**{**known, **made.options})
        except ValidationError as error:
            raise ValueError(f"{made.path}: {error}") from error

    @staticmethod
    def _dumped(value: Any, handler: Callable[[Any], Any]) -> Any:
        return value.dump() if isinstance(value, Spec) and value.is_own() else handler(value)


@dataclass(frozen=True, slots=True)
class Raised:
    """What a function of the user's own raised."""

    detail: str
    """The error, and the line that raised it. Of the file only the name: the detail may be published."""


def attempt(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Calls a function of the user's own and returns its value, or `Raised`: one failure must not end a run."""
    try:
        return function(*arguments, **named)
    except Exception as error:  # noqa: BLE001 - the user's code raises whatever it likes
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        return Raised(storable(f"{type(error).__name__}: {error}") + where)


def storable(text: str, most: int | None = _MOST) -> str:
    """Shortens a text to `most` characters, and replaces what UTF-8 can't hold."""
    return text[:most].encode("utf-8", "replace").decode()


def is_slug(text: str) -> bool:
    """Tells whether a text can be the reason of a drop: lower-case letters, digits and underscores."""
    return re.fullmatch(r"[a-z][a-z0-9_]{0,63}", text) is not None
