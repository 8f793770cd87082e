"""Rows of a table of scored answers in one form: a column for each role, one row a candidate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from prefdata.errors import InputError, RecipeError
from prefdata.lazy import pl
from prefdata.records import MOST_SCORE
from prefdata.tables.cells import parse_score
from prefdata.tables.digest import MEASURES
from prefdata.tables.ids import id_series, id_text
from prefdata.tables.kept import kept_value
from prefdata.tables.row_answers import ANSWER_ROLES, answers_of_row, lists_apart
from prefdata.tables.shapes import PROMPT_PARTS
from prefdata.tables.shapes import ROLES as COLUMN_ROLES
from prefdata.tables.table_prompts import prompt_text

__all__ = [
    "ALIASES",
    "MEASURED",
    "ROLES",
    "column_of",
    "long_frame",
    "long_frame_of_rows",
    "one_score",
    "text_of",
    "wrong_type",
]

ROLES = tuple(role for role in COLUMN_ROLES if role not in PROMPT_PARTS)
"""The columns of rows in one form; the parts of a prompt are joined."""
MEASURED = (*ROLES, *MEASURES)
"""The roles, and what is measured of each answer."""
ALIASES = {"response": "all_generated_responses", "score": "all_rm_scores"}
"""Second names under which a role is looked for."""

_NAMES = ("prompt_id", "source", "model")
"""What may be a number that became a float, where some rows have none."""
_TURN = {"role": pl.String, "content": pl.String}


def long_frame(table: str, named: Mapping[str, str], frame: pl.DataFrame) -> pl.DataFrame:
    """Brings rows of a Parquet table into one form.

    Args:
        table: how messages call the table.
        named: role → path of its column, for messages.
        frame: a column for each role of `named`, called by it; long or wide. With `unscored`, the scores are parsed.

    Returns:
        `ROLES`, `unscored` (why there is no score), `is_answer` (False for a row that only reports a prompt),
        `misaligned` (which lists of its row differ in length from that of the answers, and how), and `MEASURES` where
        the frame has them.
        `prompt` holds texts or lists of messages.

    Raises:
        InputError: a column holds something else than it should.
    """
    kind = frame["response"].dtype
    if isinstance(kind, pl.List) and kind.inner in (pl.String, pl.Null):
        frame = _exploded(named, frame)
    elif kind not in (pl.String, pl.Null):
        raise wrong_type(table, named["response"], f"{kind}")
    else:
        frame = frame.with_columns(is_answer=pl.lit(value=True), misaligned=pl.lit(None, pl.String))
    if "unscored" not in frame.columns:
        score, unscored = _parsed(frame["score"])
        frame = frame.with_columns(score=score, unscored=unscored)
    if "prompt" in frame.columns:
        frame = frame.with_columns(prompt=_prompts(table, named["prompt"], frame["prompt"]))
    return _typed(table, named, frame)


def _exploded(named: Mapping[str, str], frame: pl.DataFrame) -> pl.DataFrame:
    """Makes one row a candidate of wide rows. A row without a single answer keeps one row that is not an answer."""
    if not isinstance(frame["score"].dtype, pl.List):
        frame = frame.with_columns(score=pl.lit(None, pl.List(pl.Float64)))
    names = (*ANSWER_ROLES, "unscored", *MEASURES)
    lists = [name for name in names if name in frame.columns and isinstance(frame[name].dtype, pl.List)]
    n_answers = pl.col("response").list.len().fill_null(0)
    frame = _without_lists_apart(named, frame, [name for name in lists if name in ANSWER_ROLES[1:]])
    frame = frame.with_row_index("_row").with_columns(is_answer=n_answers > 0)
    whole, rest = frame.filter("is_answer"), frame.filter(~pl.col("is_answer"))
    if "index" not in lists:
        whole, lists = whole.with_columns(index=pl.int_ranges(pl.col("response").list.len())), [*lists, "index"]
    # A list that is missing in some rows has nothing to say of their answers.
    whole = whole.with_columns(
        pl.when(pl.col(name).is_null())
        .then(pl.lit(None).repeat_by(n_answers).cast(whole[name].dtype))
        .otherwise(pl.col(name))
        .alias(name)
        for name in lists
        if whole[name].null_count()
    )
    whole = whole.explode(lists)
    if not rest.height:
        return whole.drop("_row")
    nothing = [pl.lit(None, whole[name].dtype).alias(name) for name in lists]
    rest = rest.with_columns(nothing).select(whole.columns)
    return pl.concat([whole, rest]).sort("_row", maintain_order=True).drop("_row")


def _without_lists_apart(named: Mapping[str, str], frame: pl.DataFrame, lists: list[str]) -> pl.DataFrame:
    """Says in `misaligned` which lists differ in length from that of the answers, and takes these out of their rows."""
    count = pl.col("response").list.len().fill_null(0)
    # Answers without any scores are a mistake; another list that is missing has nothing to say of them.
    counts = {name: pl.col(name).list.len().fill_null(0 if name == "score" else count) for name in lists}
    odd = frame.select((counts[name] != count).alias(name) for name in lists)
    if not any(odd[name].any() for name in lists):
        return frame.with_columns(misaligned=pl.lit(None, pl.String))
    said = [
        pl.when(odd[name]).then(
            pl.concat_str(
                pl.lit(f"{named[name]!r} has "), counts[name], pl.lit(" values for "), count, pl.lit(" answers")
            )
        )
        for name in lists
    ]
    misaligned = pl.concat_str(said, separator="; ", ignore_nulls=True)
    return frame.with_columns(
        *(pl.when(~odd[name]).then(name).alias(name) for name in lists),
        # The reasons of the scores are a list beside them.
        *(pl.when(~odd["score"]).then(name).alias(name) for name in ("unscored",) if name in frame.columns),
        misaligned=pl.when(misaligned != "").then(misaligned),
    )


def _parsed(scores: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Parses scores: the finite ones, and for the others the reason why they are not."""
    if not scores.dtype.is_numeric():
        parsed = [one_score(cell) for cell in scores.to_list()]
        return (
            pl.Series([score for score, _ in parsed], dtype=pl.Float64),
            pl.Series([reason for _, reason in parsed], dtype=pl.String),
        )
    values = scores.cast(pl.Float64)
    if not values.null_count() and values.is_between(-MOST_SCORE, MOST_SCORE).all():
        return values, pl.repeat(None, len(values), dtype=pl.String, eager=True)
    score = pl.col("score")
    reason = (
        pl.when(score.is_null())
        .then(pl.lit("missing"))
        .when(score.is_nan())
        .then(pl.lit("nan"))
        .when(score.abs() > MOST_SCORE)
        .then(pl.lit("not_finite"))
    )
    frame = values.to_frame("score").with_columns(unscored=reason)
    return frame.select(score=pl.when(pl.col("unscored").is_null()).then("score")).to_series(), frame["unscored"]


def one_score(cell: object) -> tuple[float | None, str | None]:
    """Parses a score: the finite number, or the reason why there is none."""
    score = parse_score(cell)
    if score is not None:
        return score, None
    if isinstance(cell, list | tuple) and len(cell) == 1:
        return None, one_score(cell[0])[1] or "not_a_number"
    if cell is None:
        return None, "missing"
    if isinstance(cell, float):
        return None, "nan" if math.isnan(cell) else "not_finite"
    return None, "not_a_number"


def _prompts(table: str, column: str, prompts: pl.Series) -> pl.Series:
    """The prompts as texts or as lists of messages, whatever type they come in."""
    kind = prompts.dtype
    if kind in (pl.String, pl.Null):
        return prompts.cast(pl.String)
    turn = kind.inner if isinstance(kind, pl.List) else None
    if isinstance(turn, pl.Struct) and dict(turn.to_schema()) == _TURN:
        return prompts.cast(pl.List(pl.Struct(_TURN))) if [*turn.to_schema()] == [*_TURN] else _reordered(prompts)
    return pl.Series([_text(table, column, cell) for cell in prompts.to_list()], dtype=pl.String)


def _reordered(prompts: pl.Series) -> pl.Series:
    return prompts.list.eval(pl.struct(pl.element().struct.field(name) for name in _TURN))


def long_frame_of_rows(
    table: str, named: Mapping[str, str], rows: Iterable[tuple[int, dict[str, Any]]]
) -> pl.DataFrame:
    """Brings numbered rows of a text table into the form of `long_frame`; prompts are texts.

    Args:
        table: how messages call the table.
        named: role → path of its column, for messages.
        rows: the number and the cells by role of each row: see `prefdata.tables.roles`.

    Raises:
        InputError: a column holds something else than it should.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("is_answer", "misaligned", "unscored", *ROLES)}
    for number, cells in rows:
        if "prompt" in cells:
            cells["prompt"] = _text(table, named["prompt"], cells["prompt"])
        for candidate in _candidates(table, named, number, cells):
            for name, values in columns.items():
                values.append(candidate.get(name))
    frame = pl.DataFrame(
        {
            "score": pl.Series(columns.pop("score"), dtype=pl.Float64),
            "is_answer": pl.Series(columns.pop("is_answer"), dtype=pl.Boolean),
            **{
                name: pl.Series([text_of(table, named, name, value) for value in values], dtype=pl.String)
                for name, values in columns.items()
            },
        }
    )
    absent = [role for role in ROLES if role not in named and not (role == "index" and frame["index"].count())]
    return _typed(table, named, frame.drop(absent))


def text_of(table: str, named: Mapping[str, str], role: str, value: object) -> str | None:
    """Gives what a cell says in a role as text, in the one spelling of all formats.

    Numbers, dates and truth values are spelt as ids are, lists and objects as JSON. NaN is null: programs write it that
    have no other null.

    Args:
        table: how messages call the table.
        named: role → path of its column, for messages.
        role: neither the score nor the prompt.
        value: the cell.

    Raises:
        InputError: a name that has lost digits or is a list, or bytes that are no text.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and role in _NAMES:
        raise _not_of(table, named, role)
    if isinstance(value, list | dict):
        return str(kept_value(value, table, named[role]))
    if isinstance(value, float) and role not in _NAMES:
        return None if math.isnan(value) else str(value)
    try:
        return id_text(value)
    except ValueError as error:
        raise _unreadable(table, named, role, error) from error


def column_of(table: str, named: Mapping[str, str], role: str, values: pl.Series) -> pl.Series:
    """Gives a column of a Parquet table in the type of its role: each cell as `text_of` says, then as number or text.

    Args:
        table: how messages call the table.
        named: role → path of its column, for messages.
        role: neither the score nor the prompt.
        values: the column.

    Raises:
        InputError: a cell holds something else than it should.
    """
    kind = values.dtype
    try:
        if kind == pl.Struct and role == "finish_reason":
            values = values.struct.json_encode()
        elif not (kind.is_numeric() or kind in (pl.String, pl.Null)):
            cells = [text_of(table, named, role, cell) for cell in values.to_arrow().to_pylist()]
            values = pl.Series(values.name, cells, dtype=pl.String)
        elif kind.is_float():
            values = values.fill_nan(None)
        return _READ.get(role, partial(_named, role=role))(values)
    except (ValueError, pl.exceptions.PolarsError) as error:
        raise _unreadable(table, named, role, error) from error


def _named(values: pl.Series, role: str) -> pl.Series:
    return id_series(values) if role in _NAMES else values.cast(pl.String)


def _not_of(table: str, named: Mapping[str, str], role: str) -> InputError:
    return InputError(
        f"{table}: column {named[role]!r} holds something else than {'whole numbers' if role in _READ else 'texts'}",
        valid="0, 1, 2, ..." if role in _READ else "texts or numbers",
        hint=f"name another column: --columns {role}=NAME",
    )


def _unreadable(table: str, named: Mapping[str, str], role: str, error: Exception) -> InputError:
    if isinstance(error, UnicodeDecodeError | pl.exceptions.PolarsError):
        return _not_of(table, named, role)
    return InputError(f"{table}: column {named[role]!r}: {error}", hint="write ids as texts")


def _candidates(table: str, named: Mapping[str, str], number: int, cells: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the candidates of one row of a text table."""
    column = named["response"]
    texts = cells["response"]
    if not isinstance(texts, list | str | None):
        raise wrong_type(table, column, f"{type(texts).__name__} in row {number}")
    if isinstance(texts, list) and not all(text is None or isinstance(text, str) for text in texts):
        raise wrong_type(table, column, f"list in row {number}")
    shared = {role: cell for role, cell in cells.items() if role not in ANSWER_ROLES}
    if isinstance(texts, list) and not isinstance(cells["score"], list):
        cells["score"] = []
    apart = lists_apart(cells, named) if isinstance(texts, list) else {}
    cells |= dict.fromkeys(apart)
    misaligned = "; ".join(apart.values()) or None
    answers = answers_of_row(
        cells, {role: role for role in ANSWER_ROLES if role in cells}, where=f"{table}, row {number}"
    )
    assert not isinstance(answers, str), answers
    if not answers:
        yield {**shared, "is_answer": False, "misaligned": misaligned}
    for index, answer in enumerate(answers):
        score, reason = one_score(answer["score"])
        place = {"index": str(index)} if isinstance(texts, list) and not isinstance(cells.get("index"), list) else {}
        said = {"score": score, "unscored": reason, "is_answer": True, "misaligned": misaligned}
        yield {**shared, **answer, **place, **said}


def wrong_type(table: str, column: str, kind: str) -> InputError:
    """Makes the error of a column of answers that holds something else."""
    return InputError(
        f"{table}: column {column!r} holds {kind}",
        valid="texts (one row a candidate), or lists of texts (one row a prompt)",
        hint="name the column of the answers: --columns response=NAME",
    )


def _typed(table: str, named: Mapping[str, str], frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with every column there, of its type; the source falls back to the model."""
    missing = {*ROLES, "unscored"} - {*frame.columns}
    frame = frame.with_columns(pl.lit(None, pl.String).alias(name) for name in sorted(missing))
    for role in ROLES:
        if role in ("score", "prompt"):
            continue
        frame = frame.with_columns(column_of(table, named, role, frame[role]))
    computed = [name for name in MEASURES if name in frame.columns]
    return frame.select(*ROLES, "unscored", "is_answer", "misaligned", *computed).with_columns(
        source=pl.coalesce("source", "model")
    )


def _whole(numbers: pl.Series) -> pl.Series:
    """The numbers as Int64; `1.0` is one of them, `1.5` is not."""
    try:
        exact = numbers.cast(pl.Int64)
    except pl.exceptions.InvalidOperationError:
        exact = numbers.cast(pl.Float64).cast(pl.Int64)
    if numbers.dtype.is_integer() or (exact == numbers.cast(pl.Float64)).fill_null(True).all():
        return exact
    raise pl.exceptions.InvalidOperationError("fractions")


def _counts(numbers: pl.Series) -> pl.Series:
    """The numbers that are counts; null for anything else, as in `prefdata.tables.row_answers.whole_number`."""
    found = numbers.cast(pl.Float64, strict=False)
    is_count = ((found >= 0) & (found < 2**53) & (found == found.floor())).fill_null(value=False)
    nothing = pl.Series([None], dtype=pl.Int64)
    return found.zip_with(is_count, pl.Series([0.0])).cast(pl.Int64).zip_with(is_count, nothing).alias(numbers.name)


_READ = {"index": _whole, "n_tokens": _counts}
"""Roles of whole numbers; the others are texts."""


def _text(table: str, column: str, prompt: object) -> str | None:
    try:
        return prompt_text(prompt)
    except RecipeError as error:
        raise InputError(
            f"{table}: column {column!r} holds {type(prompt).__name__}",
            valid="texts, or lists of messages",
            hint="name the column of the prompts: --columns prompt=NAME",
        ) from error
