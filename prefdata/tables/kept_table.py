"""Reads the columns of a table of scored answers that travel along with its prompts."""

from __future__ import annotations

from collections.abc import Sequence

from prefdata.errors import InputError
from prefdata.tables.kept import Kept, KeptValues, kept_problem
from prefdata.tables.scored_table import ScoredTableFile
from prefdata.tables.table import check_columns

__all__ = ["check_kept", "kept_of_table"]


def kept_of_table(file: ScoredTableFile, names: Sequence[str]) -> Kept:
    """Reads the columns of a table of scored answers that travel along.

    Raises:
        InputError: there is no such column, it can't be kept under its name, or has several values for one prompt.
    """
    check_kept(file, names)
    values = KeptValues(file.table.name, names)
    for number, (prompt_id, row) in enumerate(file.prompts_with(names), 1):
        values.add(prompt_id, row, number)
    return Kept.of(names, values.values)


def check_kept(file: ScoredTableFile, names: Sequence[str]) -> None:
    """Checks that a table has columns that can be kept.

    Raises:
        InputError: it does not.
    """
    if problem := kept_problem(names):
        raise InputError(problem, hint="call it otherwise in the table, or leave it out of --keep")
    check_columns(file.table.name, names, file.table.columns)
