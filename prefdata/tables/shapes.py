"""The shapes in which the trade writes scored answers: which columns hold what, where nobody names them.

A path is a column, or a key of the objects in one: `completions.response` is the value of `response` in each object of
`completions`. Two roles may share a column: a conversation that is both `prompt` and `response` ends in the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from prefdata.errors import InputError, closest
from prefdata.tables.cells import parse_truth
from prefdata.tables.documents import parse_json
from prefdata.tables.finish_reasons import is_flag, names_reasons
from prefdata.tables.prompt_columns import INPUT_NAMES, SYSTEM_NAMES
from prefdata.tables.table import Table
from prefdata.tables.written import is_written

__all__ = [
    "ASKED",
    "LEFT_OUT",
    "PROMPT_PARTS",
    "ROLES",
    "SHAPES",
    "TALKS",
    "Reading",
    "Shape",
    "path_of",
    "reading_of",
    "value_at",
]

PROMPT_PARTS = ("system", "input")
"""Columns that are joined with the prompt's."""
ROLES = (
    *("prompt_id", "prompt", "response", "score", "source", "model", "index", "finish_reason", "n_tokens"),
    *PROMPT_PARTS,
)
"""What a column of the table can be."""
LEFT_OUT = "-"
"""Stands for the column of a role that is not to be read."""
_SCORES = ("reward", "rating", "rm_score", "overall_score")
TALKS = ("messages", "conversations", "conversation")
"""Columns of conversations."""
ASKED = (
    *("instruction", "question", "query", "problem", "input"),
    *("prompt_text", "user_prompt", "user_input", "user_query", "user_message"),
)
"""Columns of prompts under other names; `input` alone is one, beside `instruction` it is a part of it."""
_LIKE_PROMPTS = ("prompt", *ASKED, *SYSTEM_NAMES, *TALKS, "history", "context")
_PEEKED = 64
"""Rows that are looked at for the keys of objects."""
_HINT = "--columns ROLE=NAME"


@dataclass(frozen=True, slots=True)
class Shape:
    """A way to write scored answers.

    Args:
        said: how it is called; empty where the columns are called by their roles.
        paths: role → paths, of which the first that the table has is read.
    """

    said: str
    paths: Mapping[str, Sequence[str]]


SHAPES = (
    Shape("", {"response": ("response",), "score": ("score", "all_rm_scores", *_SCORES)}),
    Shape(
        "lists of answers and scores, as Snorkel and SimPO have them",
        {"response": ("all_generated_responses",), "score": ("all_rm_scores", "score")},
    ),
    Shape(
        "UltraFeedback completions",
        {
            "response": ("completions.response",),
            "score": ("completions.overall_score", "completions.score", "completions.rating"),
            "source": ("completions.model",),
            "model": ("completions.model",),
        },
    ),
    Shape(
        "generations and ratings, as distilabel and Argilla have them",
        {
            "response": ("generations",),
            "score": ("ratings", "rating", "scores"),
            "model": ("generation_models", "generation_model", "model_names", "model_name"),
        },
    ),
    Shape(
        "lists of answers and scores",
        {
            "response": ("responses", "completions", "generated_responses", "outputs", "candidates"),
            "score": ("scores", "rewards", "ratings", "rm_scores"),
            "model": ("models", "model_names"),
        },
    ),
    Shape("one answer a row", {"response": ("completion", "generation", "output"), "score": ("score", *_SCORES)}),
    Shape("conversations that end in the answer", {"response": TALKS, "score": ("score", *_SCORES)}),
)
"""In order: the first of which the table has an answer and a score is taken."""


@dataclass(frozen=True)
class Reading:
    """How a table is read.

    Args:
        named: role → path.
        said: what was recognised and what was left out, for the person who watches; None where there is nothing to say.
        given: role → path, as the person named them.
    """

    named: dict[str, str]
    said: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, str]:
        """Role → path, so that the table is read in the same way wherever this is given again."""
        plain = all(role in self.given or path in (role, *_OWN_LISTS) for role, path in self.named.items())
        return {**({} if plain else self.named), **self.given}


_OWN_LISTS = ("all_generated_responses", "all_rm_scores")


def path_of(path: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    """Splits a path into its column and the keys within; a column of the whole name comes first."""
    if path in columns or "." not in path:
        return path, []
    column, _, keys = path.partition(".")
    return column, keys.split(".")


def value_at(value: Any, keys: Sequence[str]) -> Any:
    """Returns what stands under the keys: of an object its value, of a list those of its objects; otherwise None."""
    if not keys:
        return value
    if isinstance(value, list):
        return [value_at(item, keys) for item in value]
    return value_at(value.get(keys[0]), keys[1:]) if isinstance(value, dict) else None


def reading_of(table: Table, given: Mapping[str, str]) -> Reading:
    """Recognises how a table is to be read.

    Args:
        table: the table.
        given: role → path, which comes first; `-` leaves a role out.

    Raises:
        InputError: the table can't be read, lacks what is needed or named, or can be read in several ways.
    """
    have = _Columns(table)
    for role, path in given.items():
        if role not in ROLES:
            raise InputError(f"{role!r} is not a known column role", valid=closest(role, ROLES), hint=_HINT)
        if path != LEFT_OUT:
            have.check(role, path)
    named = {role: path for role, path in given.items() if path != LEFT_OUT}
    shape = _shape(have, named)
    for role, paths in shape.paths.items():
        _take(have, role, paths, named, given)
    for role in ("source", "model", "index", "n_tokens", "prompt_id"):
        _take(have, role, (role,), named, given)
    _take(have, "finish_reason", _endings(have, named), named, given)
    _check_flag(have, named.get("finish_reason"))
    _find_prompt(have, named, given)
    for role in ("response", "score"):
        if role not in named:
            raise InputError(
                f"{table.name} has no column {role!r}",
                valid=closest(role, have.names),
                hint=f"name it: --columns {role}=NAME",
            )
    return Reading(named, _said(have, shape, named, given), dict(given))


class _Columns:
    """The columns of a table, and the keys of the objects in them."""

    def __init__(self, table: Table) -> None:
        self.table, self.names = table, table.columns
        self._peeked: dict[str, list[Any]] = {}
        self._keys: dict[str, set[str]] = {}

    def has(self, path: str) -> bool:
        """Checks whether there is such a column, or an object in one with such a key."""
        column, keys = path_of(path, self.names)
        return column in self.names and (not keys or ".".join(keys) in self.keys(column))

    def keys(self, column: str) -> set[str]:
        """Returns the paths of the keys in the objects of a column, as far as its first rows show them."""
        if column not in self._keys:
            self._keys[column] = {path for cell in self._peek(column) for path in _paths(cell)}
        return self._keys[column]

    def first(self, column: str) -> Any:
        """Returns the first cell that holds something, of the first rows."""
        return next((cell for cell in self._peek(column) if cell), None)

    def has_truths(self, path: str, *, or_written: bool = False) -> bool:
        """Checks whether a path leads to truth values, as far as the first rows show them, and to nothing else.

        Args:
            path: of a column, or of a key in its objects.
            or_written: take lists that Python wrote as well, which are refused when they are read.
        """
        column, keys = path_of(path, self.names)
        values = [value for cell in self._peek(column) for value in _leaves(value_at(cell, keys))]
        return bool(values) and all(
            parse_truth(value) is not None or (or_written and is_written(value)) for value in values
        )

    def _peek(self, column: str) -> list[Any]:
        """Reads the first cells of a column, once."""
        if column not in self._peeked:
            rows = islice(self.table.rows(only=[column]), _PEEKED)
            self._peeked[column] = [_parsed(row[column]) for row in rows]
        return self._peeked[column]

    def check(self, role: str, path: str) -> None:
        if self.has(path):
            return
        column, keys = path_of(path, self.names)
        if column in self.names:
            raise InputError(
                f"{self.table.name}: no object in the column {column!r} has the key {'.'.join(keys)!r}",
                valid=closest(".".join(keys), sorted(self.keys(column))) if self.keys(column) else None,
                hint=f"name another one: --columns {role}=COLUMN.KEY",
            )
        raise InputError(
            f"{self.table.name} has no column {path!r}",
            valid=closest(path, self.names),
            hint="name the column as the table has it",
        )


def _leaves(value: Any) -> Iterator[Any]:
    """Yields the values of a cell, or of the lists in it, that are there."""
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None and value != "":
        yield value


def _parsed(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.lstrip().startswith(("[", "{")):
        return cell
    try:
        return parse_json(cell)
    except (ValueError, RecursionError):
        return cell


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from (f"{key}.{path}" for path in _paths(inner))


def _shape(have: _Columns, named: Mapping[str, str]) -> Shape:
    """Returns the first shape that the table has, of those that fit what is named."""
    if "response" in named:
        own = named["response"] in SHAPES[1].paths["response"]
        return Shape("", {"score": SHAPES[1 if own else 0].paths["score"]})
    with_answers = [shape for shape in SHAPES if any(map(have.has, shape.paths["response"]))]
    for shape in with_answers:
        if "score" in named or any(map(have.has, shape.paths["score"])):
            return shape
    # Which column lacks is then said of a shape that can't be meant otherwise.
    return next((shape for shape in with_answers if shape in SHAPES[:4]), SHAPES[0])


def _take(have: _Columns, role: str, paths: Sequence[str], named: dict[str, str], given: Mapping[str, str]) -> None:
    """Names the first of some paths for a role, unless the role is named or left out."""
    if role in given or role in named:
        return
    found = [path for path in paths if have.has(path)]
    if role == "score" and len(found) > 1 and {*found} <= {*_SCORES}:
        raise InputError(
            f"{have.table.name}: several columns may be the score",
            valid=", ".join(found),
            hint=f"name one: --columns score={found[0]}",
        )
    if found:
        named[role] = found[0]


def _endings(have: _Columns, named: Mapping[str, str]) -> list[str]:
    """Lists the columns that say how answers ended, then those that say by truth values whether they are whole."""
    column, keys = path_of(named.get("response", ""), have.names)
    paths = [*have.names, *(f"{column}.{key}" for key in (sorted(have.keys(column)) if keys else ()))]
    last = {path: path.rpartition(".")[2] for path in paths if path not in named.values()}
    flags = [path for path, name in last.items() if is_flag(name) and have.has_truths(path, or_written=True)]
    return ["finish_reason", *(path for path, name in last.items() if names_reasons(name)), *flags]


def _check_flag(have: _Columns, path: str | None) -> None:
    """Refuses truth values as finish reasons where nothing says what they mean.

    Raises:
        InputError: they do not.
    """
    if path is not None and not is_flag(path) and have.has_truths(path):
        raise InputError(
            f"{have.table.name}: the column {path!r} holds truth values, which are not finish reasons",
            valid="words, such as stop and length; or truth values in a column called truncated, or finished",
            hint="rename the column, or leave it out: --columns finish_reason=-",
        )


def _find_prompt(have: _Columns, named: dict[str, str], given: Mapping[str, str]) -> None:
    """Names the columns of the prompt.

    Raises:
        InputError: there is neither a prompt nor an id, or one that looks like a prompt would not be read.
    """
    taken = {path_of(path, have.names)[0] for path in named.values()}
    if "prompt" not in given and "prompt" not in named:
        if "prompt" in have.names:
            named["prompt"] = "prompt"
        elif named.get("response") in TALKS and "response" not in given:
            named["prompt"] = named["response"]
        else:
            _find_other_prompt(have, named, taken)
    if "prompt" in named:
        _take(have, "system", SYSTEM_NAMES, named, given)
    if named.get("prompt") == "instruction":
        _take(have, "input", INPUT_NAMES, named, given)
    if "prompt" not in named and "prompt_id" not in named:
        raise InputError(
            f"{have.table.name} has neither a column 'prompt_id' nor a column 'prompt'",
            valid=closest("prompt", have.names),
            hint="name one of them: --columns prompt=NAME",
        )


def _find_other_prompt(have: _Columns, named: dict[str, str], taken: set[str]) -> None:
    found = [name for name in ASKED if name in have.names and name not in taken]
    if "instruction" in found and "input" in found:
        found.remove("input")
    talks = [name for name in TALKS if name in have.names and name not in taken]
    if len(found) == 1:
        named["prompt"] = found[0]
    elif not found and len(talks) == 1 and _ends_in_question(have.first(talks[0])):
        named["prompt"] = talks[0]
    elif found or talks:
        likely = found or talks
        raise InputError(
            f"{have.table.name} has no column 'prompt', and {' and '.join(map(repr, likely))} may be the prompt",
            valid=", ".join(likely),
            hint=f"name it: --columns prompt={likely[0]}, or say that there is none: --columns prompt={LEFT_OUT}",
        )


def _ends_in_question(talk: Any) -> bool:
    last = talk[-1] if isinstance(talk, list) and talk else None
    return isinstance(last, dict) and (last.get("role") or last.get("from")) in ("user", "human", "tool")


def _said(have: _Columns, shape: Shape, named: Mapping[str, str], given: Mapping[str, str]) -> str | None:
    taken = {path_of(path, have.names)[0] for path in (*named.values(), *given.values())}
    unread = [name for name in _LIKE_PROMPTS if name in have.names and name not in taken and name not in given]
    found = {role: path for role, path in named.items() if role not in given and path != role}
    lacks_prompt = "prompt" not in named and "prompt" not in given
    if not (shape.said or found or unread or lacks_prompt or "system" in named or "input" in named):
        return None
    columns = ", ".join(f"{role}={named[role]}" for role in ROLES if role in named)
    said = shape.said or ("columns as named" if "response" in given else "one answer a row")
    parts = [f"{said} ({columns})"]
    if "input" in named:
        parts.append(f"{named['input']} follows {named.get('prompt')} after a blank line")
    if "system" in named:
        parts.append(f"{named['system']} is the system turn")
    if is_flag(ending := named.get("finish_reason", "")) and "finish_reason" not in given:
        parts.append(f"{ending} says which answers were cut off")
    if named.get("prompt") == named.get("response"):
        parts.append("the last turn is the answer, those before it are the prompt")
    if lacks_prompt:
        parts.append("there is no column of the prompt, so pairs have ids alone (--columns prompt=NAME)")
    if unread:
        parts.append(f"not read: {', '.join(unread)}")
    return "; ".join(parts)
