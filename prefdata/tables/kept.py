"""Columns of a table that travel along to every table of a dataset, with one value for each prompt."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any

from prefdata.errors import InputError
from prefdata.lazy import pa, pc
from prefdata.records import SIDES
from prefdata.spec import canonical_json
from prefdata.spec.quoting import quoted

__all__ = ["RESERVED", "Kept", "KeptValues", "kept_problem", "kept_schema", "kept_value"]

_OF_SIDES = ("n_tied", "decided", "source", "index", "model", "score", "length", "response")
RESERVED = frozenset(
    {"prompt_id", "pair_index", "n_candidates", "n_eligible", "score_margin", "split", "stage", "reason", "detail"}
    | {f"{name}_{side}" for name in _OF_SIDES for side in SIDES}
    | {"source", "index", "model", "response", "score", "unscored", "finish_reason", "n_tokens"}
    | {"prompt", "chosen", "rejected", "prompt_text", "messages", "completion", "label", "conversations"}
    | {"all_generated_responses", "all_rm_scores"}
    | {"label_chosen", "chosen_probs", "chosen_probs_win", "chosen_probs_lose"}
    # What trainers read wherever they find it.
    | {"text", "images", "image", "tools", "chat_template_kwargs"}
)
"""Names of columns that a dataset of prefdata has, in some layout, or that a trainer would read."""
_WHOLE, _EXACT = 2**63, 2**53


def kept_problem(names: Sequence[str]) -> str | None:
    """Says why columns can't be kept under their names; None where they can."""
    for at, name in enumerate(names):
        if not name.strip():
            return "a column to keep has no name"
        if name in RESERVED:
            return f"the column {name!r} can't be kept: a dataset has, or a trainer reads, a column of that name"
        if name in names[:at]:
            return f"the column {name!r} is to be kept twice"
    return None


def kept_value(value: Any, where: str, name: str) -> str | int | float | bool | None:
    """Gives a cell as it is kept: texts, numbers and truth values as they are, anything else as text.

    Lists and objects become JSON, dates ISO 8601. NaN is no value.

    Raises:
        InputError: the cell holds bytes.
    """
    plain = _plain(value, where, name)
    return canonical_json(plain) if isinstance(plain, list | dict) else plain


def _plain(value: Any, where: str, name: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, where, name) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, where, name) for inner in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if -_WHOLE <= value < _WHOLE else str(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        raise InputError(f"{where}: the column {name!r} holds bytes, which can't be kept", valid="texts and numbers")
    return str(value)


class KeptValues:
    """Collects the values of each prompt, of which a row may lack some.

    Args:
        where: what they are read from, for messages.
        names: of the columns.
    """

    def __init__(self, where: str, names: Sequence[str]) -> None:
        self._where, self._names = where, names
        self.values: dict[str, dict[str, Any]] = {}
        """Prompt → column → value; what is not there has no value."""

    def add(self, prompt_id: str, row: Mapping[str, Any], number: int) -> None:
        """Adds a row.

        Raises:
            InputError: an earlier row of the prompt has another value.
        """
        mine = self.values.setdefault(prompt_id, {})
        for name in self._names:
            value = kept_value(row[name], f"{self._where}, row {number}", name)
            # 1, 1.0 and true are equal, and which of them came first would show.
            if value is not None and repr(first := mine.setdefault(name, value)) != repr(value):
                raise InputError(
                    f"{self._where}, row {number}: the column {name!r} can't be kept: it has {quoted(value, 60)} here, "
                    f"and {quoted(first, 60)} in another row of the same prompt",
                    valid="columns of the prompt, with one value in all of its rows",
                    hint="leave it out, or make a column for each prompt of it",
                )


@dataclass(frozen=True)
class Kept:
    """Columns that travel along."""

    table: pa.Table
    """`prompt_id`, ascending, and the columns: texts, whole numbers, numbers or truth values."""

    @classmethod
    def of(cls, names: Sequence[str], values: Mapping[str, Mapping[str, Any]]) -> Kept:
        """Makes the columns of the values of each prompt: see `KeptValues`."""
        ids = sorted(values)
        columns = {name: _column([values[prompt_id].get(name) for prompt_id in ids]) for name in names}
        return cls(pa.table({"prompt_id": pa.array(ids, pa.string()), **columns}))

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [name for name in self.table.column_names if name != "prompt_id"]

    def add(self, rows: pa.Table) -> pa.Table:
        """Appends the columns to rows that have a `prompt_id`; one without values gets nulls.

        Raises:
            InputError: the rows have a column of such a name, in a layout or by a rule of the user's own.
        """
        if taken := [name for name in self.names if name in rows.column_names]:
            raise InputError(
                f"the column {taken[0]!r} can't be kept: the dataset has one of that name",
                hint="call it otherwise in the table",
            )
        ids = rows["prompt_id"].cast(pa.string())
        near = self._between(*pc.min_max(ids).values()) if len(ids) else self.table.slice(0, 0)
        places = pc.index_in(ids, value_set=near["prompt_id"].combine_chunks())
        for name in self.names:
            rows = rows.append_column(name, near[name].take(places))
        return rows

    def _between(self, first: pa.Scalar, last: pa.Scalar) -> pa.Table:
        """Gives the prompts from one to another: rows come in the order of their ids, so no table needs all prompts."""
        ids = self.table["prompt_id"]
        start, end = (
            cut(range(len(ids)), prompt.as_py(), key=lambda at: ids[at].as_py())
            for cut, prompt in ((bisect_left, first), (bisect_right, last))
        )
        return self.table.slice(start, end - start)


def _column(values: list[Any]) -> pa.Array:
    """Makes a column of the one type that its values have; of several types it holds texts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {str}:
        return pa.array(values, pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int}:
        return pa.array(values, pa.int64())
    if kinds <= {int, float} and all(abs(value) <= _EXACT for value in values if isinstance(value, int)):
        return pa.array(values, pa.float64())
    return pa.array([value if value is None or isinstance(value, str) else canonical_json(value) for value in values])


def kept_schema(names: Sequence[str], have: pa.Schema) -> pa.Schema:
    """Gives the types that kept columns have in a table, as far as they can have them; texts otherwise."""
    kinds = (pa.int64(), pa.float64(), pa.bool_())
    of = {name: have.field(name).type for name in names if have.get_field_index(name) >= 0}
    return pa.schema([(name, of[name] if of.get(name) in kinds else pa.string()) for name in names])
