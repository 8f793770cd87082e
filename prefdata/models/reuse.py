"""Looks results up in the store before anything is asked, and keeps what was asked.

A result is kept under everything that it depends on: a model's answer under the model, its pins, the decoding and the
request. So a build of any size, name or folder that would send the same request finds it.
"""

from __future__ import annotations

import collections.abc
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields, replace
from functools import cache
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from prefdata.errors import StoreError
from prefdata.models.base import Decoding, Generator
from prefdata.records import Generation, Request
from prefdata.spec import JSON, Context, Shelf, canonical_json, fingerprint

__all__ = ["Form", "generate", "read_record", "reuse", "said_by"]

Task = TypeVar("Task")
Result = TypeVar("Result")
Record = TypeVar("Record")

_LASTING = frozenset({"content_filter", "refused"})
"""Failures that are a provider's own answer. Any other may be gone at the next try, so it is not kept."""
_MOST = 2**63


class Form(ABC, Generic[Task, Result]):
    """Says how tasks and results of one kind are named, written and read."""

    @abstractmethod
    def task_key(self, task: Task) -> str:
        """Names a task; unique within the stream."""

    @abstractmethod
    def result_key(self, result: Result) -> str:
        """Gives the key of the task that a result answers."""

    @abstractmethod
    def content(self, task: Task) -> JSON:
        """Gives all that a result depends on, besides the part."""

    @abstractmethod
    def dump(self, result: Result) -> JSON | None:
        """Gives a result as JSON; None for one that is not kept."""

    @abstractmethod
    def load(self, task: Task, text: str) -> Result | None:
        """Reads a result that was kept; None where it can't be one of the task."""


def reuse(
    tasks: Iterable[Task],
    ask: Callable[[Iterator[Task]], Iterator[Result]],
    shelf: Shelf,
    form: Form[Task, Result],
    counted: Callable[[str, int], None],
) -> Iterator[Result]:
    """Yields what the shelf holds, and asks for the rest; without a rest, nothing is started.

    Args:
        tasks: a stream that is pulled when there is room.
        ask: carries tasks out, each exactly once, in any order.
        shelf: what was kept, and where the rest is kept once it is known.
        form: of the tasks and results.
        counted: counts `reused`.

    Raises:
        StoreError: a result that was there a moment ago is not any more.
    """
    found = _Lookup(tasks, shelf, form, counted)
    yield from found.leading()
    if found.first is None:
        return
    results = ask(found.missing())
    try:
        for result in results:
            found.keep(result)
            yield result
            yield from found.passed()
    finally:
        if isinstance(results, collections.abc.Generator):
            results.close()
    # What the other side never pulled: results that are there, or tasks that it left out, which the caller finds.
    for _ in found.missing():
        continue
    yield from found.passed()


class _Lookup(Generic[Task, Result]):
    """Separates the tasks whose results are there from those that must be asked; see `reuse`."""

    def __init__(
        self, tasks: Iterable[Task], shelf: Shelf, form: Form[Task, Result], counted: Callable[[str, int], None]
    ) -> None:
        self.first: Task | None = None
        """A task that must be asked and is not yet."""
        self._tasks, self._shelf, self._form, self._counted = iter(tasks), shelf, form, counted
        self._asked: dict[str, str] = {}
        """Task that is asked → name in the shelf."""
        self._passed: deque[Task] = deque()
        """Tasks that were passed over in search of one to ask."""

    def leading(self) -> Iterator[Result]:
        """Yields the results of all tasks before the first one that must be asked."""
        for task in self._tasks:
            result = self._find(task)
            if result is None:
                self.first = task
                return
            self._counted("reused", 1)
            yield result

    def missing(self) -> Iterator[Task]:
        """Yields the tasks that must be asked."""
        if self.first is not None:
            first, self.first = self.first, None
            yield first
        for task in self._tasks:
            if self._find(task) is None:
                yield task
            else:
                self._passed.append(task)

    def passed(self) -> Iterator[Result]:
        """Yields the results of the tasks that were passed over so far."""
        while self._passed:
            # Read a second time: an engine may pull tasks far ahead of its results, and memory holds no texts of these.
            result = self._find(self._passed.popleft())
            if result is None:
                raise StoreError(
                    "what earlier builds have kept was changed while it was read",
                    hint="run the same command again: what is finished is kept",
                )
            self._counted("reused", 1)
            yield result

    def keep(self, result: Result) -> None:
        """Keeps a result that was asked."""
        name = self._asked.pop(self._form.result_key(result), None)
        value = self._form.dump(result)
        if name is not None and value is not None:
            self._shelf.put(name, canonical_json(value))

    def _find(self, task: Task) -> Result | None:
        name = fingerprint(self._form.content(task))
        text = self._shelf.get(name)
        result = None if text is None else self._form.load(task, text)
        if result is None:
            self._asked[self._form.task_key(task)] = name
        return result


def generate(
    generator: Generator, requests: Iterable[Request], decoding: Decoding, context: Context
) -> Iterator[Generation]:
    """Answers each request exactly once: from the store, or else by the generator; see `Generator.generate`.

    Args:
        generator: the model.
        requests: see `Generator.generate`.
        decoding: see `Generator.generate`.
        context: the generator's.

    Raises:
        UserError: what the generator raises, or the store can't be read.
    """
    if context.store is None:
        return generator.generate(requests, decoding, context)
    # What becomes of the reasoning is decided after a reply is read: see `Generator.split`.
    identity = {name: value for name, value in generator.identity().items() if name != "thinking"}
    shelf = context.store.shelf(["answers", identity, context.pins, decoding.identity()])
    return reuse(requests, lambda rest: generator.generate(rest, decoding, context), shelf, _Answers(), context.counted)


class _Answers(Form[Request, Generation]):
    """The answers of a language model. An answer depends on its request alone: see `Generator.generate`."""

    def task_key(self, task: Request) -> str:
        return task.key

    def result_key(self, result: Generation) -> str:
        return result.key

    def content(self, task: Request) -> JSON:
        return {name: value for name, value in said_by(task).items() if name != "key"}

    def dump(self, result: Generation) -> JSON | None:
        lasts = result.text is not None or result.failure in _LASTING
        return asdict(replace(result, key="")) if lasts else None

    def load(self, task: Request, text: str) -> Generation | None:
        found = read_record(Generation, text)
        if found is None or (found.text is None) == (found.failure is None):
            return None
        return replace(found, key=task.key)


def read_record(kind: type[Record], text: str) -> Record | None:
    """Reads what was kept as JSON; None where it is of another kind, or holds a number that no table can.

    Args:
        kind: a dataclass of records, or a tuple of them.
        text: may come from a stranger.
    """
    adapter = _adapter(cast(Any, kind))
    try:
        record: Record = adapter.validate_json(text, strict=True)
    except (ValidationError, ValueError, RecursionError):
        return None
    return record if _is_sound(adapter.dump_python(record)) else None


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def said_by(record: Any) -> dict[str, JSON]:
    """Gives the fields of a record that differ from their defaults, so that adding a field changes no key."""
    return {each.name: value for each in fields(record) if (value := getattr(record, each.name)) != each.default}


def _is_sound(value: object) -> bool:
    """Checks that all numbers are finite and below 2⁶³."""
    if isinstance(value, dict):
        return all(map(_is_sound, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_sound, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or -_MOST <= value < _MOST
