"""`Spec`: the frozen, key-strict base of everything a recipe can name. Imports errors and code only.

A recipe is data. `Spec.dump()` is its JSON form, `Spec.identity()` the part of it that can change a result, and
`fingerprint()` the SHA-256 of that part's canonical JSON. Fields marked `Operational` (batch sizes, concurrency,
where a server listens) are dumped but leave the identity, so that turning such a knob samples nothing again. One
exception: `batch_tokens` of a reward model can change the last digits of a score.

A user's own subclass of a part's base class is dumped as `kind: "python"` with its import path: see
`prefdata.spec.own`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol, Self, SupportsIndex, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

import prefdata.spec.code as own_code
import prefdata.spec.marks as field_marks
import prefdata.spec.pages as pages
import prefdata.spec.source as source
from prefdata.errors import RecipeError, UserError, closest

__all__ = [
    "JSON",
    "Account",
    "Context",
    "Engines",
    "WorkerPool",
    "Operational",
    "Part",
    "Shelf",
    "Spec",
    "Store",
    "canonical_json",
    "derive_seed",
    "fingerprint",
    "sha256_of_file",
]

JSON: TypeAlias = Any
"""A value made of dicts with string keys, lists, strings, finite numbers, booleans and None."""


class _OperationalMark:
    """Marks a field that can change speed or place but never a result."""

    def __repr__(self) -> str:
        return "Operational"


Operational = _OperationalMark()
"""Put into `Annotated[int, Operational]` to keep a field out of the identity."""


def canonical_json(value: JSON) -> str:
    """Gives the one JSON text of a value: sorted keys, no spaces, UTF-8, finite numbers.

    Raises:
        RecipeError: the value has no stable JSON form (a set, a function, NaN, bytes, ...).
    """
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"{value!r} has no stable JSON form: {error}",
            valid="strings, finite numbers, booleans, None, and lists and dicts of these",
            hint="name functions and classes by import path, give folders as text",
        ) from error


def fingerprint(value: JSON) -> str:
    """Gives the SHA-256 (64 hex digits) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def derive_seed(*parts: str | int) -> int:
    """Derives a seed below 2**53 from any mix of texts and integers, the same on every machine.

    53 bits survive JSON and IEEE doubles, and every engine that takes a seed takes them.
    """
    digest = hashlib.sha256(canonical_json(list(parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def sha256_of_file(path: Path) -> str:
    """Gives the SHA-256 (hex) of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Spec(BaseModel):
    """A frozen pydantic model that forbids unknown keys and has a stable identity."""

    # Not `use_attribute_docstrings`: it parses the source of every part in every process, a fifth of a command's start.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    room: ClassVar[str] = ""
    """What a part is in a recipe, in words. Set by the base class of each kind of part that a user may subclass."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuses to define a class of prefdata with a field that is marked neither `Harmless` nor `Acts`.

        Raises:
            TypeError: there is such a field; see `prefdata.spec.marks`.
        """
        super().__pydantic_init_subclass__(**kwargs)
        # A field whose type is defined later has no mark yet; it gets it when the class is rebuilt.
        ours = cls.__module__.partition(".")[0] == "prefdata" and cls.__pydantic_fields_complete__
        if ours and (names := field_marks.unmarked(cls)):
            raise TypeError(f"{cls.__name__}: mark {', '.join(names)} as Harmless or Acts: see prefdata.spec.marks")

    @model_validator(mode="before")
    @classmethod
    def _without_sets(cls, data: object) -> object:
        if isinstance(data, Mapping):
            for name, value in data.items():
                if isinstance(value, set | frozenset):
                    # Pydantic would make a tuple of it, in another order in every process.
                    raise ValueError(f"{name}: a set has no order, write a list")
        return data

    @classmethod
    def is_own(cls) -> bool:
        """Tells whether this is a part of the user's own: a subclass that prefdata does not ship."""
        outside = cls.__module__.partition(".")[0] != "prefdata"
        return bool(cls.room) and outside and "<locals>" not in cls.__qualname__

    def dump(self) -> dict[str, JSON]:
        """Gives all fields as JSON values; `type(self).model_validate(dump)` gives an equal object.

        A part of the user's own is dumped in the form that `prefdata.spec.own` reads: `kind`, `path`, the fields of the
        base class, and all others under `options`.

        Raises:
            RecipeError: a value has no stable JSON form, or a class of the user's own has no import path.
        """
        dumped: dict[str, JSON] = self.model_dump(mode="json")
        canonical_json(dumped)
        return self._as_own(dumped) if self.is_own() else dumped

    def _as_own(self, dumped: dict[str, JSON]) -> dict[str, JSON]:
        base = [each for each in type(self).__mro__ if "room" in vars(each) and issubclass(each, Spec)][-2]
        try:
            path = own_code.path_of(type(self))
        except ValueError as error:
            raise RecipeError(str(error)) from error
        shared = {name: value for name, value in dumped.items() if name in base.model_fields}
        options = {name: value for name, value in dumped.items() if name not in {*shared, "kind"}}
        return {"kind": "python", "path": path, **shared, **({"options": options} if options else {})}

    def identity(self) -> dict[str, JSON]:
        """Gives `dump()` without the fields marked `Operational`, at every depth.

        Of a part of the user's own every field counts, since its file alone says which are operational.
        """
        kept: dict[str, JSON] = {}
        dumped = self.dump()
        if self.is_own():
            return dumped
        for name, info in type(self).model_fields.items():
            # A field with `exclude_if` is not dumped where it says nothing, so that adding one changes no identity.
            if name in dumped and Operational not in info.metadata:
                kept[name] = _identity(getattr(self, name), dumped[name])
        return kept

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickles a part whose class only a recipe's folder defines by that folder, so that workers find it."""
        if not self.is_own() or own_code.is_importable(type(self)):
            return super().__reduce_ex__(protocol)
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return _unpickled, (str(own_code.file_of(type(self)).parent), own_code.path_of(type(self)), fields)

    def replace(self, **changes: Any) -> Self:
        """Gives a copy with other values in some fields, validated like a new object.

        Args:
            changes: field → value; parts as objects or in their JSON form.

        Raises:
            RecipeError: there is no such field, or the values are not valid.
        """
        for name in changes:
            if name not in type(self).model_fields:
                raise RecipeError(
                    f"{type(self).__name__} has no field {name!r}", valid=closest(name, type(self).model_fields)
                )
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        try:
            return type(self)(**{**kept, **changes})
        except ValidationError as error:
            raise RecipeError(f"{self._named()} with {', '.join(changes)} changed: {self._explained(error)}") from error

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> NoReturn:
        """Refuses: pydantic's copy would not be validated.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            f"{type(self).__name__}.model_copy would not validate what it changes", hint="use .replace(field=value)"
        )

    def _named(self) -> str:
        return type(self).__name__

    def _explained(self, error: ValidationError) -> str:
        found = error.errors(include_url=False)
        return "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {source.one_line(each['input'])}: {each['msg']}" for each in found
        )

    def fingerprint(self) -> str:
        """Gives the SHA-256 (64 hex digits) of the identity."""
        return fingerprint(self.identity())

    def __repr__(self) -> str:
        return source.source_of(self)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return pages.preformatted(repr(self))


def _unpickled(folder: str, path: str, fields: dict[str, Any]) -> Any:
    return own_code.load_from(folder, path)(**fields)


def _identity(value: object, dumped: JSON) -> JSON:
    if isinstance(value, Spec):
        return value.identity()
    if isinstance(value, list | tuple):
        return [_identity(item, item_dumped) for item, item_dumped in zip(value, dumped, strict=True)]
    if isinstance(value, Mapping):
        return {str(key): _identity(item, dumped[str(key)]) for key, item in value.items()}
    return dumped


class Account(Protocol):
    """Records what endpoints were paid: `prefdata.models.endpoint.spending.Spending`."""

    def of(self, account: str) -> Any:
        """Returns what an account was paid so far."""

    def add(self, account: str, spent: Any) -> None:
        """Adds a payment to an account."""


class Shelf(Protocol):
    """Holds the results of one part with one set of options, by what each was asked."""

    def get(self, key: str) -> str | None:
        """Returns the JSON text that was kept under a key (64 hex digits); None where nothing was."""

    def put(self, key: str, text: str) -> None:
        """Keeps a JSON text under a key."""

    def __len__(self) -> int:
        """Counts what other builds have kept."""


class Store(Protocol):
    """Keeps finished results for other builds: `prefdata.flow.answer_store.AnswerStore`."""

    def shelf(self, what: JSON) -> Shelf:
        """Gives the shelf of a part.

        Args:
            what: everything that its results depend on, besides what is asked.
        """


class WorkerPool(Protocol):
    """The workers of one stream: `prefdata.models.pool.Pool`, or workers on other machines."""

    @property
    def waiting(self) -> int:
        """Number of items that are not answered."""

    @property
    def broken(self) -> bool:
        """True once nothing is to be sent any more: what went wrong is raised when the results are received."""

    def begin(self, options: Mapping[str, JSON] | None) -> bool:
        """Begins a next round of items; returns False where the workers can't serve it."""

    def has_room(self) -> bool:
        """Returns whether any worker can take an item."""

    def send(self, item: Mapping[str, JSON], *, to_last: bool) -> None:
        """Sends an item; with `to_last`, to the same worker as the last one if that has room."""

    def end(self) -> None:
        """Says that the round has no more items."""

    def has_result(self) -> bool:
        """Returns whether a result can be received without waiting."""

    def receive(self) -> dict[str, JSON]:
        """Waits for the next result, or raises what went wrong."""

    def close(self) -> None:
        """Ends the workers, and waits until their memory is free."""


class Engines(Protocol):
    """Starts workers, and keeps those of one stage for a next one: `prefdata.models.worker.KeptWorkers`."""

    start: Callable[[Any, Mapping[str, JSON] | None], WorkerPool]
    """Starts the workers of a stream, a `prefdata.models.pool.PoolSpec`, with the options of its first round."""

    def take(self, key: str) -> WorkerPool | None:
        """Gives what was kept under a key, if anything was; anything else is ended."""

    def keep(self, key: str, pool: WorkerPool) -> None:
        """Keeps workers that have answered everything."""


def _no_log(_line: str) -> None:
    """Logs nothing. A function with a name, unlike a lambda, can be pickled."""


def _no_count(_what: str, _count: int) -> None:
    """Counts nothing."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a running part is given besides its own fields."""

    seed: int
    """The recipe's seed."""
    pins: Mapping[str, JSON] = field(default_factory=dict)
    """What the lock says of this part: see `Part.pins`."""
    log: Callable[[str], None] = _no_log
    """Takes one line for the person who watches; goes to stderr."""
    counted: Callable[[str, int], None] = _no_count
    """Adds to a named counter of the stage's report (truncated texts, retries, unmatched rows ...)."""
    spending: Account | None = None
    """What endpoints were paid in all runs of this build; None keeps no record."""
    store: Store | None = None
    """Results that other builds may use, and those that they left; None neither looks up nor keeps any."""
    engines: Engines | None = None
    """Engines that another stage has started, or will need again; None starts and ends one's own."""

    def child(self, name: str) -> Context:
        """Gives the context of the part in this part's field `name`; in a list it is `name.0`, `name.1`, ..."""
        pins: Mapping[str, JSON] = self.pins.get(name, {})
        return replace(self, pins=pins)


class Part(Spec):
    """A `Spec` that does something in the flow.

    A subclass has `kind: Literal[...]`, its fields are its options, and it has the one method of its room. A subclass
    of the user's own needs no `kind`.
    """

    def pins(self) -> dict[str, JSON]:
        """Resolves every outside input that can change this part's result: SHAs, hashes, the back end taken.

        The result goes into the lock and into the stage's key. Parts in fields report under the field's name,
        those in a list under `name.0`, `name.1`, ... A part with inputs of its own extends this.

        Raises:
            UserError: an input can't be found.
        """
        own = {"sha256": sha256_of_file(own_code.file_of(type(self)))} if self.is_own() else {}
        return {**own, **{name: pins for name, part in self._parts() if (pins := part.pins())}}

    def problems(self) -> list[UserError]:
        """Lists what would stop this part from running here: a package that is missing, a key that is not set.

        Asked of every part before the first one starts, so that days of sampling don't end at a missing key. A part
        that can find out something without spending anything extends this.
        """
        return [problem for _, part in self._parts() for problem in part.problems()]

    def _parts(self) -> Iterator[tuple[str, Part]]:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Part):
                yield name, value
            elif isinstance(value, tuple):
                yield from ((f"{name}.{place}", part) for place, part in enumerate(value) if isinstance(part, Part))
