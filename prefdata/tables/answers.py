"""Every answer with its score, as the dataset folder holds them beside the pairs."""

from __future__ import annotations

from prefdata.lazy import pa, pc, pl
from prefdata.tables.schemas import ANSWERS

__all__ = ["answer_rows"]


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
