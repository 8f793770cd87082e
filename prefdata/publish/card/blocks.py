"""The marks in a card that tell what prefdata wrote from what people wrote, and how foreign text is made harmless."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping

from prefdata.spec import JSON

__all__ = ["NOTICE", "block", "find_blocks", "header_note", "inline", "prose", "written_header"]

NOTICE = "<!-- prefdata replaces what stands between its marks when it publishes again; all other text stays. -->"
"""Told at the top of every card."""

_BLOCK = re.compile(
    r"<!-- prefdata:begin ([a-z-]+) -->\n(?:(?!<!-- prefdata:begin ).)*?\n<!-- prefdata:end \1 -->", re.DOTALL
)
"""A begin mark that was left alone opens no block: it would swallow the next ones."""
_HEADER = re.compile(r"<!-- prefdata:header (\{.*?\}) -->")
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "\\|", "`": "\\`", "*": "\\*", "[": "\\["})
_HTML = re.compile(r"<(?=[A-Za-z/!?])")
_UNPRINTABLE = {"Cc", "Cf", "Cs"}


def block(name: str, text: str) -> str:
    """A text of ours between its marks."""
    return f"<!-- prefdata:begin {name} -->\n{text}\n<!-- prefdata:end {name} -->"


def find_blocks(card: str) -> list[tuple[str, str]]:
    """Name and whole text, marks included, of each block of a card; of two with one name, the first."""
    found: dict[str, str] = {}
    for match in _BLOCK.finditer(card):
        found.setdefault(match[1], match[0])
    return list(found.items())


def header_note(header: Mapping[str, JSON]) -> str:
    """A comment that keeps what we wrote into the YAML header."""
    # No comment ends inside the text, whatever a value holds.
    text = json.dumps(header, ensure_ascii=True, sort_keys=True).replace("<", "\\u003c").replace(">", "\\u003e")
    return f"<!-- prefdata:header {text} -->"


def written_header(card: str) -> dict[str, JSON]:
    """What `header_note` kept in a card; empty where it has none."""
    found = _HEADER.search(card)
    try:
        header = json.loads(found[1]) if found else {}
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def inline(text: str, width: int = 300) -> str:
    """A short text from outside as one line that is shown as it is: no markup, no control character."""
    flat = _plain(" ".join(text.split()))
    return (flat if len(flat) <= width else f"{flat[: width - 1]}…").translate(_MARKUP)


def prose(text: str) -> str:
    """An author's Markdown. HTML in it, and so marks of ours, is shown and not rendered."""
    return _HTML.sub("&lt;", "\n".join(_plain(line) for line in text.splitlines())).strip()


def _plain(text: str) -> str:
    return "".join("\ufffd" if unicodedata.category(letter) in _UNPRINTABLE else letter for letter in text)
