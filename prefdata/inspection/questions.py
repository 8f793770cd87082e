"""Answers the usual questions about a dataset, each as a frame of Polars: the methods of `prefdata.inspection.load`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from prefdata.errors import InputError, closest, first_line
from prefdata.inspection._dataset_frames import DatasetFrames
from prefdata.inspection._files import table_errors
from prefdata.inspection._foreign_frames import typed
from prefdata.inspection.conditions import filter_of, names_in
from prefdata.inspection.pair_rows import PairShape, shape_of
from prefdata.lazy import pl
from prefdata.records import SIDES
from prefdata.tables.cells import parse_score
from prefdata.tables.ids import id_series

__all__ = [
    "TEXTS",
    "by_source",
    "changed",
    "columns_of",
    "dropped",
    "find_prompt",
    "hardest",
    "id_texts",
    "longer_won",
    "measured",
    "prompt",
    "ties",
    "where",
    "with_texts",
]

TEXTS = ("prompt", "chosen", "rejected")
_MEASURES = {
    "length_chosen": pl.Int64,
    "length_rejected": pl.Int64,
    "score_chosen": pl.Float64,
    "score_rejected": pl.Float64,
}
_KEY = ["prompt_id", "number"]


def columns_of(frame: pl.DataFrame) -> dict[str, str]:
    """Lists column → type in words."""
    return {name: _words(dtype) for name, dtype in frame.schema.items()}


def _words(dtype: pl.DataType) -> str:
    if dtype.is_nested():
        return "list" if isinstance(dtype, pl.List | pl.Array) else "object"
    if dtype == pl.String:
        return "text"
    return "whole number" if dtype.is_integer() else "number" if dtype.is_numeric() else str(dtype).lower()


def measured(tables: DatasetFrames) -> pl.DataFrame:
    """Gives the pairs with `length_difference`, and with lengths, scores and `score_margin` where they lack them.

    Lengths that are added are in characters, of the answer without its reasoning. In a table of others a score, a
    margin or a length that is not a finite number is missing, and so is NaN in any column.

    Raises:
        InputError: the rows are not pairs.
    """
    pairs = tables.pairs if tables.is_ours else _with_numbers(tables)
    missing = {name: dtype for name, dtype in _MEASURES.items() if name not in pairs.columns}
    if missing:
        pairs = pairs.hstack(_read_measures(pairs, _shape(tables)).select(list(missing)))
    with table_errors(f"the pairs of {tables.name} have no numbers as lengths and scores"):
        if "score_margin" not in pairs.columns:
            margin = pl.col("score_chosen").cast(pl.Float64) - pl.col("score_rejected").cast(pl.Float64)
            pairs = pairs.with_columns(score_margin=margin)
        whole = not any(pairs.schema[f"length_{side}"].is_float() for side in SIDES)
        lengths = [pl.col(f"length_{side}").cast(pl.Int64 if whole else pl.Float64) for side in SIDES]
        return pairs.with_columns(length_difference=lengths[0] - lengths[1])


def with_texts(tables: DatasetFrames, pairs: pl.DataFrame) -> pl.DataFrame:
    """Replaces prompt, chosen and rejected by their texts, whatever the layout has them in."""
    shape = _shape(tables)
    read = [shape.read(row) for row in pairs.select(shape.names()).iter_rows(named=True)]
    sides = [
        pl.Series(side, [None if (answer := getattr(row, side)) is None else answer.whole for row in read], pl.String)
        for side in SIDES
    ]
    return pairs.with_columns(pl.Series("prompt", [row.prompt_text for row in read], pl.String), *sides)


def _shape(tables: DatasetFrames) -> PairShape:
    pairs = tables.pairs.drop("split", strict=False)
    shape = shape_of(tables.name, pairs.columns, lambda name: _cells(pairs[name]), {})
    if not shape.paired:
        raise InputError(f"{tables.name} has single answers with labels, not pairs", valid="chosen and rejected")
    return shape


def _cells(column: pl.Series) -> Iterator[Any]:
    for part in column.to_frame().iter_slices():
        yield from part.to_series().to_list()


def _with_numbers(tables: DatasetFrames) -> pl.DataFrame:
    """Gives the pairs of a table of others with numbers in the columns that are compared as such."""
    pairs, shape = tables.pairs, _shape(tables)
    if tables.lacks_types:
        pairs = typed(pairs, {*shape.texts(), "prompt_id", "split"})
    found = [name for name in (*_MEASURES, "score_margin") if name in pairs.columns]
    return pairs.with_columns(_numbers(pairs[name]) for name in found).with_columns(pl.selectors.float().fill_nan(None))


def _numbers(cells: pl.Series) -> pl.Series:
    """Reads a column as numbers; lengths as whole ones, where they are."""
    numbers = pl.Series(cells.name, [parse_score(cell) for cell in cells.to_list()], pl.Float64)
    whole = cells.name.startswith("length") and (numbers == numbers.round()).all()
    return numbers.cast(pl.Int64, strict=False) if whole else numbers


def id_texts(tables: DatasetFrames, pairs: pl.DataFrame) -> pl.Series:
    """Gives the ids of prompts as texts, whatever the table has them as.

    Raises:
        InputError: they are no ids.
    """
    ids = pairs["prompt_id"]
    try:
        if ids.dtype.is_nested():
            raise ValueError("it holds lists or objects, which are no ids")
        return id_series(ids)
    except (ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"the pairs of {tables.name}: the column 'prompt_id': {first_line(error)}", hint="write ids as texts"
        ) from error


def _read_measures(pairs: pl.DataFrame, shape: PairShape) -> pl.DataFrame:
    rows = []
    for cells in pairs.select(shape.names()).iter_rows(named=True):
        row = shape.read(cells)
        lengths = (None if side is None else len(side.text) for side in (row.chosen, row.rejected))
        rows.append((*lengths, row.score_chosen, row.score_rejected))
    return pl.DataFrame(rows, _MEASURES, orient="row")


def where(tables: DatasetFrames, condition: str) -> pl.DataFrame:
    """Gives the pairs that meet a condition; see `prefdata.inspection.conditions`.

    Raises:
        InputError: it can't be read, or names a column that the pairs do not have.
    """
    pairs = measured(tables)
    schema = {**pairs.schema, **dict.fromkeys(TEXTS, pl.String())}
    keep = filter_of(condition, schema)
    # Texts are read from every row only where the condition asks for them.
    if names_in(condition) & set(TEXTS):
        numbers = with_texts(tables, pairs).with_row_index("row of the pairs").filter(keep)["row of the pairs"]
        return pairs[numbers]
    return pairs.filter(keep)


def hardest(tables: DatasetFrames, n: int) -> pl.DataFrame:
    """Gives the pairs with the smallest score difference."""
    return _scored(tables).sort("score_margin", *_ids(tables), nulls_last=True, maintain_order=True).head(n)


def ties(tables: DatasetFrames) -> pl.DataFrame:
    """Gives the pairs with a tie: several answers with the first key of a side, or sides with the same score."""
    pairs = _scored(tables)
    tied = [pl.col(name) > 1 for name in ("n_tied_chosen", "n_tied_rejected") if name in pairs.columns]
    return pairs.filter(pl.any_horizontal(pl.col("score_margin") == 0, *tied))


def longer_won(tables: DatasetFrames) -> pl.DataFrame:
    """Gives the pairs whose chosen answer is longer."""
    pairs = measured(tables).filter(pl.col("length_difference") > 0)
    return pairs.sort("length_difference", descending=True, maintain_order=True)


def by_source(tables: DatasetFrames) -> pl.DataFrame:
    """Counts the pairs of each source of the two sides."""
    pairs = measured(tables)
    names = [f"source_{side}" for side in SIDES]
    _require(tables, pairs.columns, names)
    longer = (pl.col("length_difference") > 0).mean().alias("chosen_longer")
    means = [pl.col(name).mean().alias(f"mean_{name}") for name in ("score_margin", "length_difference")]
    counted = pairs.group_by(names).agg(pl.len().cast(pl.Int64).alias("pairs"), longer, *means)
    counted = counted.with_columns(share=pl.col("pairs") / max(1, pairs.height))
    return counted.sort("pairs", *names, descending=[True, False, False]).select(
        *names, "pairs", "share", "chosen_longer", "mean_score_margin", "mean_length_difference"
    )


def changed(before: DatasetFrames, after: DatasetFrames) -> pl.DataFrame:
    """Gives the pairs that only one of two datasets has, or that have other texts in the other one."""
    first, second = _texts_by_pair(before), _texts_by_pair(after)
    both = first.join(second, on=_KEY, how="full", suffix="_after", coalesce=True).sort(_KEY)
    both = both.rename({name: f"{name}_before" for name in (*SIDES, "score_margin")})
    differs = {side: pl.col(f"{side}_before").ne_missing(pl.col(f"{side}_after")) for side in SIDES}
    change = (
        pl.when(pl.col("there").is_null())
        .then(pl.lit("gained"))
        .when(pl.col("there_after").is_null())
        .then(pl.lit("lost"))
        .when(differs["chosen"] & differs["rejected"])
        .then(pl.lit("both sides"))
        .when(differs["chosen"])
        .then(pl.lit("chosen"))
        .when(differs["rejected"])
        .then(pl.lit("rejected"))
    )
    sides = [f"{name}_{when}" for name in (*SIDES, "score_margin") for when in ("before", "after")]
    found = both.with_columns(change=change).filter(pl.col("change").is_not_null())
    for tables, column in ((before, "reason_before"), (after, "reason_after")):
        found = found.join(_reasons(tables, column), on="prompt_id", how="left")
    return found.select("prompt_id", "number", "change", "reason_before", "reason_after", *sides)


def _texts_by_pair(tables: DatasetFrames) -> pl.DataFrame:
    pairs = with_texts(tables, measured(tables))
    _require(tables, pairs.columns, ["prompt_id"])
    numbered = pairs.with_columns(id_texts(tables, pairs))
    numbered = numbered.with_columns(
        number=pl.int_range(pl.len(), dtype=pl.Int64).over("prompt_id"), there=pl.lit(True)
    )
    return numbered.select(*_KEY, "there", *SIDES, "score_margin")


def _reasons(tables: DatasetFrames, column: str) -> pl.DataFrame:
    if tables.folder is None or not tables.has("drops"):
        return pl.DataFrame(schema={"prompt_id": pl.String, column: pl.String})
    drops = tables.drops.unique("prompt_id", keep="first", maintain_order=True)
    return drops.select("prompt_id", pl.col("reason").alias(column))


def prompt(tables: DatasetFrames, prompt_id: str) -> pl.DataFrame:
    """Gives the candidates of one prompt, best first, with `picked`: the sides of pairs that each one is."""
    answers = tables.answers
    whole = find_prompt(tables, prompt_id, answers["prompt_id"].unique().to_list())
    found = answers.filter(pl.col("prompt_id") == whole)
    pairs = tables.pairs.filter(pl.col("prompt_id") == whole)
    picks = [
        pairs.select(source=pl.col(f"source_{side}"), index=pl.col(f"index_{side}"), picked=pl.lit(side))
        for side in SIDES
        if {f"source_{side}", f"index_{side}"} <= set(pairs.columns)
    ]
    if not picks:
        raise InputError(f"the pairs of {tables.name} do not say which answers they are", valid="a build's dataset")
    picked = pl.concat(picks).unique(maintain_order=True)
    names = picked.group_by("source", "index").agg(pl.col("picked").sort().str.join(", "))
    found = found.join(names, on=["source", "index"], how="left", nulls_equal=True)
    found = found.sort("score", "source", "index", descending=[True, False, False], nulls_last=True)
    first = ("prompt_id", "picked", "score", "source", "index", "response")
    return found.select(*first, pl.exclude(first))


def find_prompt(tables: DatasetFrames, prompt_id: str, known: Collection[str]) -> str:
    """Finds a prompt by its id or the beginning of its id.

    Raises:
        InputError: there is none, or several begin so.
    """
    if prompt_id in known:
        return prompt_id
    begin = sorted(known_id for known_id in known if prompt_id and known_id.startswith(prompt_id))
    if len(begin) == 1:
        return begin[0]
    if begin:
        raise InputError(
            f"{len(begin):,} prompts of {tables.name} begin with {prompt_id!r}", valid=", ".join(begin[:5])
        )
    raise InputError(
        f"{tables.name} has no prompt {prompt_id!r}", valid=f"{len(known):,} ids: {closest(prompt_id, sorted(known))}"
    )


def dropped(tables: DatasetFrames, reason: str | None) -> pl.DataFrame:
    """Gives the dropped prompts, with prompt, answers and scores where the dataset holds them."""
    drops = tables.drops.sort("stage", "reason", "prompt_id", maintain_order=True)
    if reason is not None:
        reasons = drops["reason"].unique().sort().to_list()
        if reason not in reasons:
            raise InputError(
                f"no prompt of {tables.name} was dropped for {reason!r}", valid=closest(reason, reasons) or "none"
            )
        drops = drops.filter(pl.col("reason") == reason)
    texts = pl.DataFrame(schema={"prompt_id": pl.String, "prompt": pl.String})
    if tables.has("candidates"):
        content = pl.col("prompt").list.eval(pl.element().struct.field("content")).list.join("\n\n")
        ordered = tables.answers.sort("score", "source", "index", descending=[True, False, False], nulls_last=True)
        with table_errors(f"the answers of {tables.name} are not as prefdata writes them"):
            texts = ordered.group_by("prompt_id", maintain_order=True).agg(
                content.first(), pl.col("response").alias("answers"), pl.col("score").alias("scores"), "unscored"
            )
    return drops.join(texts, on="prompt_id", how="left", maintain_order="left")


def _scored(tables: DatasetFrames) -> pl.DataFrame:
    pairs = measured(tables)
    if pairs.height and not pairs["score_margin"].count():
        raise InputError(f"the pairs of {tables.name} have no scores", valid="pairs with two scores each")
    return pairs


def _ids(tables: DatasetFrames) -> list[str]:
    return ["prompt_id"] if "prompt_id" in tables.pairs.columns else []


def _require(tables: DatasetFrames, columns: Collection[str], wanted: Collection[str]) -> None:
    for name in wanted:
        if name not in columns:
            raise InputError(f"the pairs of {tables.name} have no column {name!r}", valid=closest(name, columns))
