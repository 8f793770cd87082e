"""The shapes in which the trade writes scored answers: which columns hold what, where nobody names them.

A path is a column, or a key of the objects in one: `completions.response` is the value of `response` in each object of
`completions`. Two roles may share a column: a conversation that is both `prompt` and `response` ends in the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefdata.errors import InputError, closest
from prefdata.tables.columns import Columns, path_of
from prefdata.tables.finish_reasons import is_flag, names_reasons
from prefdata.tables.prompt_columns import INPUT_NAMES, SYSTEM_NAMES
from prefdata.tables.table import Table

__all__ = [
    "ASKED",
    "LEFT_OUT",
    "PROMPT_PARTS",
    "ROLES",
    "SHAPES",
    "TALKS",
    "Reading",
    "Shape",
    "reading_of",
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
_PARTS = (
    *("prompt", *ASKED, *SYSTEM_NAMES, "history", "context", "documents", "tools", "functions", "chat_template_kwargs"),
    *("image", "images", "video", "videos", "audio", "audios"),
)
"""Columns that are a prompt or a part of one."""
_RANKS = ("rank", "ranks", "ranking", "rankings")
"""Columns in which the least is the best."""
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
            # `model_name` is the judge there: distilabel, steps/tasks/ultrafeedback.py.
            "model": ("generation_models", "generation_model", "model_names"),
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
        unread: columns that may be a part of the prompt, and that no role reads.
    """

    named: dict[str, str]
    said: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    @property
    def columns(self) -> dict[str, str]:
        """Role → path, so that the table is read in the same way wherever this is given again."""
        plain = all(role in self.given or path in (role, *_OWN_LISTS) for role, path in self.named.items())
        return {**({} if plain else self.named), **self.given}


_OWN_LISTS = ("all_generated_responses", "all_rm_scores")


def reading_of(table: Table, given: Mapping[str, str]) -> Reading:
    """Recognises how a table is to be read.

    Args:
        table: the table.
        given: role → path, which comes first; `-` leaves a role out.

    Raises:
        InputError: the table can't be read, lacks what is needed or named, or can be read in several ways.
    """
    have = Columns(table)
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
    if (path := named["score"]).rpartition(".")[2] in _RANKS:
        raise InputError(
            f"{table.name}: the scores of {path!r} are ranks, of which the least is the best",
            valid="scores, of which the highest is the best",
            hint="put a column of scores into the table, such as minus the rank",
        )
    taken = {path_of(path, have.names)[0] for path in (*named.values(), *given.values())}
    unread = [name for name in (*_PARTS, *TALKS) if name in have.names and name not in taken and name not in given]
    parts = tuple(name for name in unread if name in _PARTS)
    return Reading(named, _said(have, shape, named, given, unread), dict(given), parts)


def _shape(have: Columns, named: Mapping[str, str]) -> Shape:
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


def _take(have: Columns, role: str, paths: Sequence[str], named: dict[str, str], given: Mapping[str, str]) -> None:
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


def _endings(have: Columns, named: Mapping[str, str]) -> list[str]:
    """Lists the columns that say how answers ended, then those that say by truth values whether they are whole."""
    column, keys = path_of(named.get("response", ""), have.names)
    paths = [*have.names, *(f"{column}.{key}" for key in (sorted(have.keys(column)) if keys else ()))]
    last = {path: path.rpartition(".")[2] for path in paths if path not in named.values()}
    flags = [path for path, name in last.items() if is_flag(name) and have.has_truths(path, or_written=True)]
    found = ["finish_reason", *(path for path, name in last.items() if names_reasons(name)), *flags]
    # A column without a value says nothing, and another one may.
    return [path for path in found if have.holds(path)] or found


def _check_flag(have: Columns, path: str | None) -> None:
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


def _find_prompt(have: Columns, named: dict[str, str], given: Mapping[str, str]) -> None:
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


def _find_other_prompt(have: Columns, named: dict[str, str], taken: set[str]) -> None:
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


def _said(
    have: Columns, shape: Shape, named: Mapping[str, str], given: Mapping[str, str], unread: Sequence[str]
) -> str | None:
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
