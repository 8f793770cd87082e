"""`refuse_secrets`: looks for the Hub's token and for API keys in everything that would be published."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from prefdata.errors import PublishError
from prefdata.lazy import pa, pc, pq
from prefdata.publish.outgoing import Outgoing
from prefdata.spec import JSON

__all__ = ["refuse_secrets"]

_KEY_FIELD = "api_key_env"
_SHORTEST = 8
"""Shorter values are words such as EMPTY, which servers without keys are given."""
_ROWS = 1_024


def refuse_secrets(outgoing: Outgoing, token: str) -> None:
    """Refuses a dataset that contains a secret of this machine, in a document or in a cell of a table.

    Args:
        outgoing: the dataset.
        token: the token for the Hub. The API keys are the values of the variables that the recipe names.

    Raises:
        PublishError: a file contains one; the message names the file and the variable, not the secret.
    """
    secrets = {"the token for the Hub that is in use": token, **_keys(outgoing)}
    secrets = {what: value for what, value in secrets.items() if len(value) >= _SHORTEST}
    if not secrets:
        return
    for name, content in outgoing.files().items():
        for what in _found(name, content, secrets):
            where = "an answer or a prompt" if name.endswith(".parquet") else "the recipe"
            raise PublishError(
                f"{name!r} contains {what}",
                hint=f"take it out of {where} and build again; and replace it by a new one: it is in a file",
            )


def _found(name: str, content: Path | bytes, secrets: Mapping[str, str]) -> Iterator[str]:
    if isinstance(content, Path) and name.endswith(".parquet"):
        yield from _in_table(content, secrets)
    else:
        data = content if isinstance(content, bytes) else content.read_bytes()
        yield from (what for what, value in secrets.items() if value.encode() in data)


def _in_table(path: Path, secrets: Mapping[str, str]) -> Iterator[str]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(_ROWS):
            for texts in (texts for column in batch.columns for texts in _texts(column)):
                for what, value in secrets.items():
                    if pc.any(pc.match_substring(texts, value)).as_py():
                        yield what


def _texts(column: pa.Array) -> Iterator[pa.Array]:
    """Yields the texts of a column, also those within lists and structs."""
    if pa.types.is_list(column.type):
        yield from _texts(column.flatten())
    elif pa.types.is_struct(column.type):
        for inner in column.flatten():
            yield from _texts(inner)
    elif pa.types.is_dictionary(column.type):
        yield from _texts(column.dictionary)
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        yield column


def _keys(outgoing: Outgoing) -> dict[str, str]:
    """Reads the API keys: the values of the variables that the recipe names."""
    if "recipe.json" not in outgoing.entries:
        return {}
    try:
        names = set(_variables(json.loads(outgoing.content("recipe.json"))))
    except (ValueError, RecursionError):
        raise PublishError("'recipe.json' is not JSON", hint="build the dataset again, then push") from None
    values = {name: os.environ.get(name, "").strip() for name in sorted(names)}
    return {f"the value of {name!r}, which holds an API key": value for name, value in values.items()}


def _variables(value: JSON) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get(_KEY_FIELD), str):
            yield value[_KEY_FIELD]
        for inner in value.values():
            yield from _variables(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _variables(inner)
