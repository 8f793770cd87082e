"""`merge_card`: a new card over one that somebody has edited. Only what prefdata wrote changes.

In the text, what stands between a begin and an end mark is ours; everything else stays as it is. In the YAML header,
`configs` and `dataset_info` are ours by the name of their configuration. Of the other keys, one that says something
else than we wrote last time was edited and stays; what we wrote last stands in a comment of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from prefdata.errors import PublishError
from prefdata.publish.card.blocks import find_blocks, written_header
from prefdata.publish.card.text import card_header, header_text
from prefdata.spec import JSON

__all__ = ["Merged", "merge_card"]

_BY_NAME = ("configs", "dataset_info")
_FACTS = ("size_categories",)
_HEADER = re.compile(r"\A---[ \t]*\r?\n.*?\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Merged:
    """A card that holds both."""

    text: str
    kept: Mapping[str, JSON]
    """Keys of the header that somebody has edited and that say something else than ours → what they say."""


def merge_card(ours: str, theirs: str) -> Merged:
    """The card `theirs` with everything of ours brought up to `ours`; merging twice changes nothing more.

    Raises:
        PublishError: the header of `theirs` is no YAML mapping.
    """
    theirs = theirs.removeprefix("\ufeff").replace("\r\n", "\n")
    header, body = _split(theirs)
    known = card_header(theirs) if header else {}
    if not isinstance(known, dict):
        raise PublishError(
            "the header of the card that is there is no YAML mapping",
            valid="a card that begins with ---, keys and values, and ---",
            hint="mend README.md on its page, or delete it there",
        )
    merged, kept = _merge_header(card_header(ours), known, written_header(theirs))
    if merged != known:
        header = header_text(merged)
    return Merged(header + _merge_body(_split(ours)[1], body), kept)


def _split(card: str) -> tuple[str, str]:
    found = _HEADER.match(card)
    return (found[0], card[found.end() :]) if found else ("", card)


def _merge_header(
    ours: Mapping[str, JSON], theirs: Mapping[str, JSON], last: Mapping[str, JSON]
) -> tuple[dict[str, JSON], dict[str, JSON]]:
    merged: dict[str, JSON] = {}
    kept: dict[str, JSON] = {}
    own = {name for name in _listed(last.get("configs")) if isinstance(name, str)}
    own |= {_name(config) for config in _listed(ours.get("configs"))}
    for key in dict.fromkeys([*theirs, *ours]):
        if key in _BY_NAME:
            merged[key] = _merge_named(ours.get(key), theirs.get(key), own)
        elif key in _FACTS and key in ours:
            merged[key] = ours[key]
        elif key not in ours and key not in last:
            merged[key] = theirs[key]
        elif key not in last and key not in theirs:
            merged[key] = ours[key]
        elif theirs.get(key) == last.get(key):
            merged[key] = ours.get(key)
        elif key == "tags" and isinstance(theirs.get(key), list):
            known = [*theirs[key], *_listed(last.get(key))]
            added = [tag for tag in ours.get(key, ()) if tag not in known]
            merged[key] = [*theirs[key], *added]
        elif key in theirs:
            merged[key] = theirs[key]
            if theirs[key] != ours.get(key):
                # YAML has dates and more, which JSON has not.
                kept[key] = json.loads(json.dumps(theirs[key], default=str))
    return {key: value for key, value in merged.items() if value is not None}, kept


def _merge_named(ours: JSON, theirs: JSON, own: Collection[str]) -> JSON:
    """Configurations by name: ours as they are now, those of others after them."""
    mine = _listed(ours)
    others = [item for item in _listed(theirs) if _name(item) not in own]
    if any(isinstance(item, dict) and item.get("default") for item in mine):
        others = [
            {key: value for key, value in item.items() if key != "default"} if isinstance(item, dict) else item
            for item in others
        ]
    return [*mine, *others] or None


def _listed(value: JSON) -> list[JSON]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _name(item: JSON) -> str:
    name = item.get("config_name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else json.dumps(item, default=str) if name is not None else "default"


def _merge_body(ours: str, theirs: str) -> str:
    blocks = dict(find_blocks(ours))
    there = [name for name, _ in find_blocks(theirs)]
    if not there:
        return f"{theirs.rstrip()}\n\n{ours.lstrip()}" if theirs.strip() else ours
    for name, text in find_blocks(theirs):
        new = blocks.get(name)
        # A block that has nothing to say any more goes, with the blank line after it.
        theirs = theirs.replace(text, new, 1) if new is not None else _without(theirs, text)
    after: str | None = None
    for name, text in blocks.items():
        if name not in there:
            place = blocks[after] if after is not None else next(found for _, found in find_blocks(theirs))
            joined = f"{place}\n\n{text}" if after is not None else f"{text}\n\n{place}"
            theirs = theirs.replace(place, joined, 1)
        after = name
    return theirs


def _without(text: str, part: str) -> str:
    before, _, rest = text.partition(part)
    return before + rest.lstrip("\n")
