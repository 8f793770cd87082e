"""Checks that rows of one prompt are alike in the columns that may be a part of it and that no role reads."""

from __future__ import annotations

import hashlib

from prefdata.errors import InputError
from prefdata.tables.scored_table import ScoredTableFile

__all__ = ["check_parts"]


def check_parts(file: ScoredTableFile) -> None:
    """Refuses a table whose prompts are alike in what is read, and differ in what is not: images, tools, context.

    Answers to different prompts would be paired otherwise. Prompts with ids of their own are told apart by these.

    Raises:
        InputError: it is one; names the column and the rows.
    """
    names = file.reading.unread
    if not names or file.has_ids:
        return
    seen: dict[str, tuple[int, list[bytes]]] = {}
    for number, (prompt_id, row) in enumerate(file.prompts_with(names), 1):
        parts = [hashlib.blake2b(repr(row[name]).encode(errors="replace"), digest_size=8).digest() for name in names]
        # Rows that have neither id nor prompt are dropped.
        first, known = seen.setdefault(prompt_id, (number, parts)) if prompt_id else (number, parts)
        for name, part, other in zip(names, parts, known, strict=True):
            if part != other:
                raise InputError(
                    f"{file.table.name}, row {number}: the prompt is that of row {first}, but {name!r} is another, "
                    "and is not read",
                    valid="rows of one prompt that are alike in all its parts",
                    hint="name a column of ids: --columns prompt_id=NAME; or leave the column out of the table",
                )
