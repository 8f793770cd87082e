"""Computes the features of an answer's surface for `BaselineScorer`: numbers from 0 to 1, pure functions of texts."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Question", "features"]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_STRUCTURE = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)]|#{1,6}|\||```)", re.MULTILINE)
_END = re.compile(r"[.!?…。！？؟।:;)\]}\"'”’»`*|>_~$0-9]\s*\Z")
_PLAYS_ON = re.compile(
    r"^\W{0,4}(?:user|human|assistant|ai|instruction|question|response|input|output|q|a)\s*\W{0,3}[:：]"
    r"|<\|[a-z_]+\|>|\[/?INST\]|^### ?(?:instruction|response|input|user|human|assistant)",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSAL = re.compile(
    r"\b(?:as an? (?:ai|artificial intelligence)\b|i(?:['’]m| am) (?:an ai|a language model|sorry,? (?:but|i))"
    r"|(?:i can(?:no|['’])t|i(?: a|['’])m (?:not able|unable) to)"
    r" (?:help|assist|provide|fulfil|answer|complete|create|generate)"
    r"|i do(?:n['’]t| not) have (?:access|enough|the ability|personal))",
    re.IGNORECASE,
)
_COMMON = {
    "en": "the of and to in is that it for with you are this as be on or was have not",
    "de": "der die das und ist nicht ein eine zu den mit für auf sich von dem es werden auch wie",
    "fr": "le la les des et est une dans pour que qui vous avec sur pas ce par plus du au",
    "es": "el los las que de una es por con para se su como más del pero al lo son está",
    "it": "il che di una per è non sono con del della gli si come più nel anche questo dei alla",
    "pt": "que não uma para com os as do da em por mais como dos ou ser seu são você pelo",
    "nl": "het een van en dat niet op te zijn voor met die ook aan er maar bij om naar wordt",
}
_LANGUAGES = {name: frozenset(words.split()) for name, words in _COMMON.items()}
_FUNCTION_WORDS = frozenset().union(*_LANGUAGES.values())


@dataclass(frozen=True, slots=True)
class Question:
    """The facts of a conversation with which an answer is compared."""

    words: tuple[str, ...]
    """Of all messages, in order."""
    stems: frozenset[str]
    """Of the content words of the last message."""
    script: str
    """Of the last message; empty if it is not clear."""
    language: str
    """Of the last message; empty if it is not clear."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Question:
        """Reads the messages of a conversation."""
        words = tuple(word for text in texts for word in _words(text))
        stems = frozenset(map(_stem, filter(_is_content, _words(texts[-1])))) if texts else frozenset()
        last = texts[-1] if texts else ""
        return cls(words, stems, _script(last), _language(_words(last)))


def features(question: Question, answer: str, *, cut_off: bool = False) -> dict[str, float]:
    """Computes the features of an answer that is not blank.

    Args:
        question: the conversation before the answer.
        answer: the text.
        cut_off: whether the source said that the answer ended at its token limit.

    Returns:
        `length`: words up to 600, on a logarithmic scale.
        `rambling`: words beyond 800; 1 from 3,200 on.
        `on_topic`: share of the last message's content words that occur in the answer; 1 from a half on.
        `variety`: share of different words among the first hundred; 0.65 for a shorter answer.
        `structure`: lines that begin like those of lists, headings, tables or code; 1 from six on.
        `other_language`: 1 if the answer is mainly in another script or language.
        `repetition`: share of 4-word runs that occurred before; 1 from a half on.
        `looping`: share of 10-character runs that occurred before, above the share in prose; 1 for a loop.
        `copied`: share of 4-word runs that occur in the conversation.
        `cut_off`: 1 if the source said so, a half if the answer ends without a sign of an end.
        `open_fence`: 1 if a code block is not closed.
        `refusal`: 1 if it says what it can't do in the first 300 characters, a quarter if only later.
        `plays_on`: 1 if it continues with other turns of a conversation, or writes control tokens.
    """
    words = _words(answer)
    runs = list(zip(*(words[start:] for start in range(4)), strict=False))
    question_runs = frozenset(zip(*(question.words[start:] for start in range(4)), strict=False))
    stems = frozenset(map(_stem, words))
    size = _size(answer, words)
    first = words[:100]
    refusal = _REFUSAL.search(answer)
    return {
        "length": min(1.0, _log_share(size, 600)),
        "rambling": _ramp(size, 800, 3200),
        "on_topic": min(1.0, 2 * len(question.stems & stems) / len(question.stems)) if question.stems else 0.5,
        "variety": len(set(first)) / len(first) if len(first) == 100 else 0.65,
        "structure": min(1.0, len(_STRUCTURE.findall(answer)) / 6),
        "other_language": float(_is_other(question, answer, words)),
        "repetition": min(1.0, 2 * (1 - len(set(runs)) / len(runs))) if runs else 0.0,
        "looping": _looping(answer),
        "copied": sum(run in question_runs for run in runs) / len(runs) if runs else 0.0,
        "cut_off": 1.0 if cut_off else 0.0 if _END.search(answer) else 0.5,
        "open_fence": float(len(_FENCE.findall(answer)) % 2),
        "refusal": 0.0 if refusal is None else 1.0 if refusal.start() < 300 else 0.25,
        "plays_on": float(_PLAYS_ON.search(answer) is not None),
    }


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _size(text: str, words: Sequence[str]) -> float:
    """Counts the words; in scripts without spaces, where a run of letters is a sentence, half the letters."""
    return max(len(words), sum(map(len, words)) / 8, sum(len(word) for word in words if word[0] >= "\u2e80") / 2)


def _log_share(size: float, full: float) -> float:
    return math.log1p(size) / math.log1p(full)


def _ramp(value: float, start: float, end: float) -> float:
    return min(1.0, max(0.0, (value - start) / (end - start)))


def _is_content(word: str) -> bool:
    return len(word) > 2 and word not in _FUNCTION_WORDS


def _stem(word: str) -> str:
    """Returns the first five letters, which `describe` and `described` have in common."""
    return word[:5]


@lru_cache(maxsize=4096)
def _script_of(char: str) -> str:
    """Returns the first word of a letter's Unicode name: LATIN, CYRILLIC, CJK, HIRAGANA, ..."""
    return unicodedata.name(char, "?").partition(" ")[0]


def _script(text: str, most: int = 2000) -> str:
    """Returns the script of most letters, empty for fewer than five letters; kana and ideographs count as one."""
    counts = Counter(_script_of(char) for char in text[:most] if char.isalpha())
    if "HIRAGANA" in counts or "KATAKANA" in counts:
        counts["CJK"] += counts.pop("HIRAGANA", 0) + counts.pop("KATAKANA", 0)
    if sum(counts.values()) < 5:
        return ""
    return min(counts, key=lambda name: (-counts[name], name))


def _language(words: Iterable[str]) -> str:
    """Returns the one of seven languages whose commonest words the text has; empty if it is not clear."""
    counts = Counter(words)
    hits = sorted(((sum(counts[word] for word in common), name) for name, common in _LANGUAGES.items()), reverse=True)
    (most, name), (second, _) = hits[:2]
    return name if most >= 4 and most >= 2 * second else ""


def _is_other(question: Question, answer: str, words: Sequence[str]) -> bool:
    script = _script(answer)
    if question.script and script and question.script != script:
        return True
    language = _language(words)
    return bool(question.language and language and question.language != language)


def _looping(text: str) -> float:
    """Returns 0 if at least four in five runs of ten characters are different, 1 if at most two in five are.

    A compressor would measure the same, but its output depends on the build of its library.
    """
    text = text[:8000]
    runs = len(text) - 9
    if runs < 100:
        return 0.0
    return _ramp(1 - len({text[start : start + 10] for start in range(runs)}) / runs, 0.2, 0.6)
