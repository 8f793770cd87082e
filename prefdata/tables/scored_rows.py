"""Rows of a table of scored answers as one frame: a column for each role, one row a candidate."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdata.errors import InputError, RecipeError
from prefdata.lazy import pl
from prefdata.spec import canonical_json
from prefdata.tables.cells import parse_score

__all__ = ["ELSEWHERE", "ROLES", "STRUCTURE", "cleaned", "cleaned_rows", "prompt_texts"]

ROLES = ("prompt_id", "prompt", "response", "score", "source", "model", "index", "finish_reason")
"""What a column of the table can be."""
ELSEWHERE = {"response": "all_generated_responses", "score": "all_rm_scores"}
"""Second names under which a role is looked for."""
STRUCTURE = "\0"
"""Stands before the JSON of a prompt that was no text, so that a list is never taken for the text that shows it."""
_PLAIN = "[!-Z\\\\-~]"
"""How a text starts that is read as one user turn, whatever follows."""


def cleaned(path: Path, named: Mapping[str, str], frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of a Parquet table.

    Args:
        path: the table, for messages.
        named: role → name of the column.
        frame: a column for each role of `named`, called by it.

    Returns:
        `ROLES`, `unscored`, `response_is_row` and `misaligned`; a row that is no candidate still tells of a prompt.

    Raises:
        InputError: a column holds something else than it should.
    """
    frame = frame.with_row_index("row").with_columns(
        pl.col(name).arr.to_list() for name in ("response", "score") if isinstance(frame[name].dtype, pl.Array)
    )
    kind = frame["response"].dtype
    if isinstance(kind, pl.List) and kind.inner in (pl.String, pl.Null):
        frame = _long(frame)
    elif kind not in (pl.String, pl.Categorical, pl.Null):
        raise _wrong_type(path, named["response"], f"{kind}")
    else:
        frame = frame.with_columns(response_is_row=True, misaligned=False)
    score, unscored = _parsed(frame["score"])
    frame = frame.with_columns(score=score, unscored=unscored)
    if "prompt" in frame.columns and frame["prompt"].dtype not in (pl.String, pl.Null):
        frame = frame.with_columns(prompt=prompt_texts(path, named["prompt"], frame["prompt"]))
    return _typed(path, named, frame)


def _long(frame: pl.DataFrame) -> pl.DataFrame:
    """Wide rows as one row a candidate. A row without a single answer keeps one row that is no candidate."""
    if not isinstance(frame["score"].dtype, pl.List):
        frame = frame.with_columns(score=pl.lit(None, pl.List(pl.Float64)))
    answers = pl.col("response").list.len().fill_null(0)
    frame = frame.with_columns(
        response_is_row=answers > 0, misaligned=answers != pl.col("score").list.len().fill_null(0)
    )
    whole = frame.filter(pl.col("response_is_row") & ~pl.col("misaligned"))
    rest = frame.filter(~pl.col("response_is_row") | pl.col("misaligned"))
    whole = whole.with_columns(index=pl.int_ranges(pl.col("response").list.len())).explode("response", "score", "index")
    rest = rest.with_columns(
        response=pl.lit(None, whole["response"].dtype),
        score=pl.lit(None, whole["score"].dtype),
        index=pl.lit(None, whole["index"].dtype),
    )
    return pl.concat([whole, rest.select(whole.columns)])


def _parsed(scores: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Finite scores, and for the others the reason why they are none."""
    if scores.dtype.is_numeric():
        values = scores.cast(pl.Float64)
        reason = (
            pl.when(pl.col("score").is_null())
            .then(pl.lit("missing"))
            .when(pl.col("score").is_nan())
            .then(pl.lit("nan"))
            .when(pl.col("score").is_infinite())
            .then(pl.lit("not_finite"))
        )
        frame = values.to_frame("score").with_columns(unscored=reason)
        return frame.select(score=pl.when(pl.col("unscored").is_null()).then("score")).to_series(), frame["unscored"]
    parsed = [_one_score(cell) for cell in scores.to_list()]
    return (
        pl.Series([score for score, _ in parsed], dtype=pl.Float64),
        pl.Series([reason for _, reason in parsed], dtype=pl.String),
    )


def _one_score(cell: object) -> tuple[float | None, str | None]:
    score = parse_score(cell)
    if score is not None:
        return score, None
    if isinstance(cell, list | tuple) and len(cell) == 1:
        return None, _one_score(cell[0])[1] or "not_a_number"
    if cell is None:
        return None, "missing"
    if isinstance(cell, float):
        return None, "nan" if math.isnan(cell) else "not_finite"
    return None, "not_a_number"


def cleaned_rows(path: Path, named: Mapping[str, str], rows: Iterable[tuple[int, Mapping[str, Any]]]) -> pl.DataFrame:
    """Numbered rows of a text table, as `cleaned` gives those of a Parquet table."""
    columns: dict[str, list[Any]] = {name: [] for name in ("row", "response_is_row", "misaligned", "unscored", *ROLES)}
    text_only = ".csv" in [suffix.lower() for suffix in path.suffixes]
    for number, row in rows:
        cells = {role: row[name] for role, name in named.items()}
        if "prompt" in cells:
            cells["prompt"] = _text(path, named["prompt"], cells["prompt"])
        if text_only:
            cells = _unfolded(cells)
        for candidate in _candidates(path, named["response"], number, cells):
            for name, values in columns.items():
                values.append(candidate.get(name))
    frame = pl.DataFrame(
        {
            "row": pl.Series(columns.pop("row"), dtype=pl.UInt32),
            "score": pl.Series(columns.pop("score"), dtype=pl.Float64),
            **{name: pl.Series(columns.pop(name), dtype=pl.Boolean) for name in ("response_is_row", "misaligned")},
            **{
                name: pl.Series([_cell(value) for value in values], dtype=pl.String) for name, values in columns.items()
            },
        }
    )
    absent = [role for role in ROLES if role not in named and not (role == "index" and frame["index"].count())]
    return _typed(path, named, frame.drop(absent))


def _unfolded(cells: dict[str, Any]) -> dict[str, Any]:
    """The cells of a CSV row, with the lists of a wide row, which CSV holds as JSON texts, as lists."""
    lists: dict[str, Any] = {}
    for role in ("response", "score"):
        cell = cells[role]
        try:
            lists[role] = json.loads(cell) if cell is not None and cell.lstrip().startswith("[") else None
        except (ValueError, RecursionError):
            return cells
    return {**cells, **lists} if all(isinstance(found, list) for found in lists.values()) else cells


def _cell(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else canonical_json(value)


def _candidates(path: Path, column: str, number: int, cells: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The candidates of one row of a text table."""
    response, shared = cells["response"], {**cells, "row": number, "misaligned": False}
    if response is None and column == ELSEWHERE["response"]:
        response = []
    if response is None or isinstance(response, str):
        score, reason = _one_score(cells["score"])
        yield {**shared, "score": score, "unscored": reason, "response_is_row": True}
        return
    if not isinstance(response, list) or not all(text is None or isinstance(text, str) for text in response):
        raise _wrong_type(path, column, f"{type(response).__name__} in row {number}")
    scores: Sequence[Any] = cells["score"] if isinstance(cells["score"], list) else []
    if len(scores) != len(response) or not response:
        nothing = {"response": None, "score": None, "response_is_row": bool(response)}
        yield {**shared, **nothing, "misaligned": len(scores) != len(response)}
        return
    for index, (text, cell) in enumerate(zip(response, scores, strict=True)):
        score, reason = _one_score(cell)
        place = {"response": text, "index": str(index), "response_is_row": True}
        yield {**shared, **place, "score": score, "unscored": reason}


def _wrong_type(path: Path, column: str, found: str) -> InputError:
    return InputError(
        f"{str(path)!r}: column {column!r} holds {found}",
        valid="texts (one row a candidate), or lists of texts (one row a prompt)",
        hint="name the column of the answers: --columns response=NAME",
    )


def _typed(path: Path, named: Mapping[str, str], frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with every column there, of its type; the source falls back to the model."""
    missing = {*ROLES, "unscored"} - {*frame.columns}
    frame = frame.with_columns(pl.lit(None, pl.String).alias(name) for name in sorted(missing))
    for role in ROLES:
        kind = pl.Int64 if role == "index" else pl.String
        if role != "score":
            try:
                frame = frame.with_columns(_whole(frame[role]) if role == "index" else frame[role].cast(kind))
            except pl.exceptions.PolarsError as error:
                raise InputError(
                    f"{str(path)!r}: column {named[role]!r} holds something else than "
                    f"{'whole numbers' if role == 'index' else 'texts'}",
                    valid="0, 1, 2, ..." if role == "index" else "texts or numbers",
                    hint=f"name another column: --columns {role}=NAME",
                ) from error
    return frame.with_columns(source=pl.coalesce("source", "model"))


def _whole(numbers: pl.Series) -> pl.Series:
    """The numbers as Int64; `1.0` is one of them, `1.5` is not."""
    try:
        exact = numbers.cast(pl.Int64)
    except pl.exceptions.InvalidOperationError:
        exact = numbers.cast(pl.Float64).cast(pl.Int64)
    if numbers.dtype.is_integer() or (exact == numbers.cast(pl.Float64)).fill_null(True).all():
        return exact
    raise pl.exceptions.InvalidOperationError("fractions")


def prompt_texts(path: Path, column: str, prompts: pl.Series) -> pl.Series:
    """Prompts that are no texts as texts; one user turn is what it says, which is the same prompt."""
    said = pl.Series([None] * len(prompts), dtype=pl.String)
    if prompts.dtype == pl.List(pl.Struct({"role": pl.String, "content": pl.String})):
        turn = prompts.list.first().struct
        plain = (prompts.list.len() == 1) & (turn.field("role") == "user")
        plain &= turn.field("content").str.contains(f"^{_PLAIN}")
        said = turn.field("content").zip_with(plain.fill_null(False), said)
    if not said.null_count():
        return said
    others = iter(prompts.filter(said.is_null()).to_list())
    return pl.Series(
        [text if text is not None else _text(path, column, next(others)) for text in said.to_list()], dtype=pl.String
    )


def _text(path: Path, column: str, prompt: object) -> str | None:
    if prompt is None or isinstance(prompt, str):
        return prompt
    match prompt:
        case [{"role": "user", "content": str(said), **more}] if not more and re.match(_PLAIN, said):
            return said
    try:
        return f"{STRUCTURE if isinstance(prompt, list | dict) else ''}{canonical_json(prompt)}"
    except RecipeError as error:
        raise InputError(
            f"{str(path)!r}: column {column!r} holds {type(prompt).__name__}",
            valid="texts, or lists of messages",
            hint="name the column of the prompts: --columns prompt=NAME",
        ) from error
