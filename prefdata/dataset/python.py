"""Layouts of the user's own: `rows_of` checks what they return, `PythonLayout` is what a recipe's JSON says of one."""

from __future__ import annotations

from typing import Any

from prefdata.dataset.base import Layout
from prefdata.errors import RecipeError
from prefdata.lazy import pa
from prefdata.spec.code import Code
from prefdata.spec.own import OwnCode

__all__ = ["PythonLayout", "rows_of"]


class PythonLayout(OwnCode, Layout):
    """A subclass of `Layout` by its import path. Where code is allowed, a recipe holds an instance in its place."""

    def rows(self, pairs: pa.Table, prompts: pa.Table, answers: pa.Table | None = None) -> pa.Table:
        """Refuses: the class is not loaded.

        Raises:
            RecipeError: always.
        """
        self.code.check_allowed()
        raise self.not_loaded()


def rows_of(layout: Layout, pairs: pa.Table, prompts: pa.Table, answers: pa.Table | None = None) -> pa.Table:
    """Gives a layout's rows; those of the user's own layout are checked.

    Raises:
        RecipeError: the user's layout raises, or returns other rows than `Layout.rows` promises.
    """
    if not layout.is_own():
        return layout.rows(pairs, prompts, answers)
    code = Code("the layout", str(layout.dump()["path"]))
    rows = code.guarded(lambda: layout.rows(pairs, prompts, answers))
    empty = code.guarded(lambda: layout.rows(pairs.slice(0, 0), prompts, answers))
    for problem in _problems(layout, rows, empty, pairs.num_rows):
        raise RecipeError(
            f"{code.what} {code.path!r} returned {problem}",
            valid=f"a pyarrow Table with {layout.rows_per_pair} rows for each pair, a column 'prompt_id', and always "
            "the same columns of text, int64, float64, bool, lists and structs",
            hint="fix `rows` and build again; answers, scores and pairs are kept",
        )
    return rows


def _problems(layout: Layout, rows: Any, empty: Any, pairs: int) -> list[str]:
    if not isinstance(rows, pa.Table) or not isinstance(empty, pa.Table):
        return [f"{type(rows).__name__}"]
    found = [f"{rows.num_rows} rows for {pairs} pairs"] if rows.num_rows != pairs * layout.rows_per_pair else []
    if "prompt_id" not in rows.column_names:
        found.append(f"columns {', '.join(rows.column_names)}")
    found += [f"the column {name!r} of type {rows.schema.field(name).type}" for name in _odd(rows.schema)]
    if rows.schema != empty.schema:
        found.append("columns of other types where there is no pair")
    return found


def _odd(schema: pa.Schema) -> list[str]:
    def fits(kind: pa.DataType) -> bool:
        if pa.types.is_list(kind):
            return fits(kind.value_type)
        if pa.types.is_struct(kind):
            return all(fits(inner.type) for inner in kind)
        return kind in (pa.string(), pa.int64(), pa.float64(), pa.bool_())

    return [field.name for field in schema if not fits(field.type)]
