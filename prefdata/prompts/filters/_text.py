"""Reads the part of a conversation that a filter looks at, and its words."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Literal, TypeAlias

from prefdata.records import Prompt

__all__ = ["Scope", "normalised", "text_of", "words"]

Scope: TypeAlias = Literal["conversation", "last_user_turn"]
"""`conversation`: all messages of a prompt; `last_user_turn`: its last user message."""

# Scripts that don't put spaces between words: every character counts as a word.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)
_SIGNS = r"[+\-*/=<>^%&|~#@$€£¥°×÷±≤≥≠√∞∑∫−]"


def text_of(prompt: Prompt, scope: Scope) -> str:
    """Returns the text that a filter looks at; messages are separated by line breaks."""
    if scope == "last_user_turn":
        # Every prompt of a build has a user turn: sources drop prompts without one.
        return next(message["content"] for message in reversed(prompt.messages) if message["role"] == "user")
    return "\n".join(message["content"] for message in prompt.messages)


def normalised(text: str) -> str:
    """Applies NFKC and case folding, so that width, ligatures and capitals make no difference."""
    return unicodedata.normalize("NFKC", text).casefold()


def words(text: str, *, symbols: bool = False) -> list[str]:
    """Lists the words of a text, normalised, without punctuation; with `symbols`, signs of mathematics and code too.

    A word is a run of letters with their marks, digits and underscores, or one character of a script that writes no
    spaces.
    """
    return _pattern(symbols).findall(normalised(text))


@cache
def _pattern(symbols: bool) -> re.Pattern[str]:
    # Not \w, which has no combining marks: the vowels of Hindi would be gaps between words.
    word = rf"[{_SPACELESS}]|[^{_between_words()}{_SPACELESS}]+"
    return re.compile(f"{word}|{_SIGNS}" if symbols else word)


@cache
def _between_words() -> str:
    """Returns the ranges of a character class: punctuation, symbols, white space, control characters, no underscore."""
    # Beyond 16 bits `re` tries range after range for every character, so only pictographs are listed there.
    ranges = [[0x1F000, 0x1FBFF]]
    for code in range(0x10000):
        if chr(code) != "_" and unicodedata.category(chr(code))[0] in "PSZC":
            if ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
