"""Every answer with its score, as the dataset folder holds them beside the pairs."""

from __future__ import annotations

from prefdata.lazy import pa, pc, pl
from prefdata.tables.digest import digest_series
from prefdata.tables.schemas import ANSWERS

__all__ = ["ANSWER_ORDER", "answer_rows", "in_order"]

ANSWER_ORDER = ("prompt_id", "source", "index", "digest", "model", "score", "unscored", "finish_reason", "n_tokens")
"""Sorts answers: the total order, in which `digest` hashes the text, then what else tells rows of one text apart."""


def in_order(candidates: pl.DataFrame) -> pl.DataFrame:
    """Returns the candidates in the order in which they are published."""
    digests = digest_series(candidates["response"])
    return candidates.with_columns(digest=digests).sort(ANSWER_ORDER).drop("digest")


def answer_rows(candidates: pl.DataFrame, prompts: pa.Table) -> pa.Table:
    """The rows of some candidates.

    Args:
        candidates: as `PairRule.pair` takes them, sorted as they are to be written.
        prompts: columns `prompt_id` and `messages`, at least the prompts of the candidates.

    Returns:
        Schema `prefdata.tables.schemas.ANSWERS`, in the order of `candidates`; a column that is not there is null.
    """
    table = candidates.to_arrow()
    ids = prompts["prompt_id"].cast(pa.string()).combine_chunks()
    place = pc.index_in(table["prompt_id"].cast(pa.string()), value_set=ids)
    columns = {name: table[name] for name in table.column_names} | {"prompt": prompts["messages"].take(place)}
    nothing = pa.nulls(table.num_rows)
    return pa.table({name: columns.get(name, nothing) for name in ANSWERS.names}).cast(ANSWERS)
