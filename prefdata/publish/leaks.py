"""`refuse_secrets`: looks for the Hub's token and for API keys in everything that would be published."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from prefdata.errors import PublishError
from prefdata.lazy import pa, pc, pq
from prefdata.models.environment import tracker_keys
from prefdata.publish.loadable import TRAINED
from prefdata.publish.outgoing import Outgoing
from prefdata.spec import JSON

__all__ = ["refuse_secrets"]

_KEY_FIELD = "api_key_env"
_SHORTEST = 8
"""Shorter values are words such as EMPTY, which servers without keys are given."""
_ROWS = 1_024
_PIECE = 16 << 20
"""Bytes that are searched at once."""


def refuse_secrets(outgoing: Outgoing, token: str) -> None:
    """Refuses a dataset or model that contains a secret of this machine, in a file or in a cell of a table.

    Args:
        outgoing: what would be published.
        token: the token for the Hub. The API keys are the values of the variables that the recipe names, and of those
            that the trackers of a training read.

    Raises:
        PublishError: a file contains one; the message names the file and the variable, not the secret.
    """
    secrets = {"the token for the Hub that is in use": token, **_keys(outgoing)}
    secrets = {what: value for what, value in secrets.items() if len(value) >= _SHORTEST}
    if not secrets:
        return
    for name, content in outgoing.files().items():
        for what in _found(name, content, secrets):
            raise PublishError(
                f"{name!r} contains {what}",
                hint=f"take it out of {_origin(outgoing, name)}; and replace it by a new one: it is in a file",
            )


def _origin(outgoing: Outgoing, name: str) -> str:
    if outgoing.kind == "model":
        return "the recipe's training or its model's files and train again"
    return f"{'an answer or a prompt' if name.endswith('.parquet') else 'the recipe'} and build again"


def _found(name: str, content: Path | bytes, secrets: Mapping[str, str]) -> Iterator[str]:
    if isinstance(content, bytes):
        yield from (what for what, value in secrets.items() if value.encode() in content)
    elif name.endswith(".parquet"):
        yield from _in_table(content, secrets)
    else:
        yield from _in_file(content, secrets)


def _in_file(path: Path, secrets: Mapping[str, str]) -> Iterator[str]:
    """Searches a file of any size piece by piece; a piece begins with the end of the one before."""
    values = {what: value.encode() for what, value in secrets.items()}
    overlap = max(map(len, values.values())) - 1
    with path.open("rb") as file:
        rest = b""
        while piece := file.read(_PIECE):
            piece = rest + piece
            yield from (what for what, value in values.items() if value in piece)
            rest = piece[-overlap:]


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
    """Reads the API keys: the values of the variables that the recipe names, or that the training's trackers read."""
    names: set[str] = set()
    for document in {"recipe.json", TRAINED} & outgoing.entries.keys():
        try:
            content = json.loads(outgoing.content(document))
            names |= set(_variables(content))
            if document == TRAINED:
                names |= set(tracker_keys(content["training"].get("trl", {}).get("report_to")))
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            again = "build the dataset again, then push" if document != TRAINED else "train the model again, then push"
            raise PublishError(f"{document!r} is not the JSON that prefdata writes", hint=again) from None
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
