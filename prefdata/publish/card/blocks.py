"""Marks around the text of prefdata in a card, and escaping of text from elsewhere."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping

from prefdata.spec import JSON

__all__ = ["NOTICE", "block", "find_blocks", "header_note", "inline", "prose", "written_header"]

NOTICE = "<!-- prefdata replaces the text between its marks when it publishes again; all other text stays. -->"
"""First line of every card."""

_BLOCK = re.compile(
    r"<!-- prefdata:begin ([a-z-]+) -->\n(?:(?!<!-- prefdata:begin ).)*?\n<!-- prefdata:end \1 -->", re.DOTALL
)
"""A begin mark without an end mark is ignored; it would otherwise swallow the blocks after it."""
_HEADER = re.compile(r"<!-- prefdata:header (\{.*?\}) -->")
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "\\|", "`": "\\`", "*": "\\*", "[": "\\["})
_HTML = re.compile(r"<(?=[A-Za-z/!?])")
_UNPRINTABLE = {"Cc", "Cf", "Cs"}


def block(name: str, text: str) -> str:
    """Puts a text of prefdata between its marks."""
    return f"<!-- prefdata:begin {name} -->\n{text}\n<!-- prefdata:end {name} -->"


def find_blocks(card: str) -> list[tuple[str, str]]:
    """Returns name and whole text, marks included, of each block of a card; of two with one name, the first."""
    blocks: dict[str, str] = {}
    for match in _BLOCK.finditer(card):
        blocks.setdefault(match[1], match[0])
    return list(blocks.items())


def header_note(header: Mapping[str, JSON]) -> str:
    """Writes the YAML header of prefdata as a comment, from which `written_header` reads it."""
    # Without this, a value with --> would end the comment.
    text = (
        json.dumps(header, ensure_ascii=True, sort_keys=True, allow_nan=False)
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
    )
    return f"<!-- prefdata:header {text} -->"


def written_header(card: str) -> dict[str, JSON]:
    """Reads the header that `header_note` wrote into a card; empty where there is none."""
    note = _HEADER.search(card)
    try:
        header = json.loads(note[1]) if note else {}
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def inline(text: str, width: int = 300) -> str:
    """Escapes a short text from elsewhere as one line without markup or control characters."""
    flat = _plain(" ".join(text.split()))
    return (flat if len(flat) <= width else f"{flat[: width - 1]}…").translate(_MARKUP)


def prose(text: str) -> str:
    """Escapes HTML in an author's Markdown, so that it is shown and not rendered; marks of prefdata are HTML too."""
    return _HTML.sub("&lt;", "\n".join(_plain(line) for line in text.splitlines())).strip()


def _plain(text: str) -> str:
    return "".join("\ufffd" if unicodedata.category(letter) in _UNPRINTABLE else letter for letter in text)
