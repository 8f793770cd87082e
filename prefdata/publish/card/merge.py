"""`merge_card`: merges a new card into one that somebody has edited. Only what prefdata wrote changes.

In the text, everything between a begin and an end mark is ours; everything else is kept. In the YAML header, entries of
`configs` and `dataset_info` are ours by the name of their configuration. Any other key whose value differs from the one
that we wrote last was edited and is kept; a comment in the text records what we wrote last.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from prefdata.errors import PublishError
from prefdata.publish.card.blocks import find_blocks, written_header
from prefdata.publish.card.text import card_header, header_text
from prefdata.spec import JSON

__all__ = ["MergedCard", "merge_card"]

_BY_NAME = ("configs", "dataset_info")
_WRITTEN = {"config_name", "default", "data_files", "features", "splits", "download_size", "dataset_size"}
_FACTS = ("size_categories",)
_HEADER = re.compile(r"\A---[ \t]*\r?\n.*?\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


@dataclass(frozen=True)
class MergedCard:
    """A card with our text and that of others."""

    text: str
    kept: Mapping[str, JSON]
    """Edited keys of the header whose values differ from ours → their values."""


def merge_card(ours: str, theirs: str) -> MergedCard:
    """Replaces our parts of the card `theirs` by those of `ours`; merging twice changes nothing more.

    Raises:
        PublishError: the header of `theirs` is not a YAML mapping.
    """
    theirs = theirs.removeprefix("\ufeff").replace("\r\n", "\n")
    header, body = _split(theirs)
    old = card_header(theirs) if header else {}
    if not isinstance(old, dict):
        raise PublishError(
            "the header of the published card is not a YAML mapping",
            valid="a card that begins with ---, keys and values, and ---",
            hint="fix README.md on its page, or delete it there",
        )
    merged, kept = _merge_header(card_header(ours), old, written_header(theirs))
    if merged != old:
        header = header_text(merged)
    return MergedCard(header + _merge_body(_split(ours)[1], body), kept)


def _split(card: str) -> tuple[str, str]:
    match = _HEADER.match(card)
    return (match[0], card[match.end() :]) if match else ("", card)


def _merge_header(
    ours: Mapping[str, JSON], theirs: Mapping[str, JSON], last: Mapping[str, JSON]
) -> tuple[dict[str, JSON], dict[str, JSON]]:
    merged: dict[str, JSON] = {}
    kept: dict[str, JSON] = {}
    own = {name for name in _as_list(last.get("configs")) if isinstance(name, str)}
    own |= {_name(config) for config in _as_list(ours.get("configs"))}
    for key in dict.fromkeys([*theirs, *ours]):
        if key in _BY_NAME:
            if configs := _merge_by_name(ours.get(key), theirs.get(key), own):
                merged[key] = configs
        elif key in _FACTS and key in ours:
            merged[key] = ours[key]
        elif key not in ours and key not in last:
            merged[key] = theirs[key]
        elif key not in last and key not in theirs:
            merged[key] = ours[key]
        elif theirs.get(key) == last.get(key):
            if key in ours:
                merged[key] = ours[key]
        elif key == "tags" and isinstance(theirs.get(key), list):
            old_tags = [*theirs[key], *_as_list(last.get(key))]
            new_tags = [tag for tag in ours.get(key, ()) if tag not in old_tags]
            merged[key] = [*theirs[key], *new_tags]
        elif key in theirs:
            merged[key] = theirs[key]
            if theirs[key] != ours.get(key):
                kept[key] = _as_json(theirs[key])
    return merged, kept


def _as_json(value: object) -> JSON:
    """Replaces what YAML has and JSON lacks, such as dates and keys that are not texts, by texts."""
    if isinstance(value, dict):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_as_json(inner) for inner in value]
    return value if value is None or isinstance(value, str | int) else str(value)


def _merge_by_name(ours: JSON, theirs: JSON, own: Collection[str]) -> JSON:
    """Merges configurations by name: our new ones, then those of others."""
    before = {_name(item): item for item in _as_list(theirs) if isinstance(item, dict)}
    mine = [{**_own_keys(before.get(_name(item), {})), **item} for item in _as_list(ours)]
    others = [item for item in _as_list(theirs) if _name(item) not in own]
    if any(isinstance(item, dict) and item.get("default") for item in mine):
        others = [
            {key: value for key, value in item.items() if key != "default"} if isinstance(item, dict) else item
            for item in others
        ]
    return [*mine, *others] or None


def _own_keys(item: Mapping[str, JSON]) -> dict[str, JSON]:
    """Returns what somebody wrote into a configuration of ours: the keys that prefdata never writes."""
    return {key: value for key, value in item.items() if key not in _WRITTEN}


def _as_list(value: JSON) -> list[JSON]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _name(item: JSON) -> str:
    name = item.get("config_name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else repr(item) if name is not None else "default"


def _merge_body(ours: str, theirs: str) -> str:
    blocks = dict(find_blocks(ours))
    old_names = [name for name, _ in find_blocks(theirs)]
    if not old_names:
        return f"{theirs.rstrip()}\n\n{ours.lstrip()}" if theirs.strip() else ours
    for name, text in find_blocks(theirs):
        new = blocks.get(name)
        # A block that the new card lacks is removed, with the blank line after it.
        theirs = theirs.replace(text, new, 1) if new is not None else _without(theirs, text)
    after: str | None = None
    for name, text in blocks.items():
        if name not in old_names:
            neighbour = blocks[after] if after is not None else next(old_text for _, old_text in find_blocks(theirs))
            joined = f"{neighbour}\n\n{text}" if after is not None else f"{text}\n\n{neighbour}"
            theirs = theirs.replace(neighbour, joined, 1)
        after = name
    return theirs


def _without(text: str, part: str) -> str:
    before, _, rest = text.partition(part)
    return before + rest.lstrip("\n")
