"""What `BaselineScorer` reads off the surface of an answer: features from 0 to 1, pure functions of texts."""

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
    """What of a conversation the features compare an answer with."""

    words: tuple[str, ...]
    stems: frozenset[str]
    script: str
    language: str

    @classmethod
    def of(cls, texts: Sequence[str]) -> Question:
        """The messages of a conversation: words of all of them, language of the last."""
        words = tuple(word for text in texts for word in _words(text))
        stems = frozenset(map(_stem, filter(_tells, _words(texts[-1])))) if texts else frozenset()
        last = texts[-1] if texts else ""
        return cls(words, stems, _script(last), _language(_words(last)))


def features(question: Question, answer: str, *, cut_off: bool = False) -> dict[str, float]:
    """The features of an answer that is not blank.

    Args:
        question: what was asked.
        answer: the text.
        cut_off: the source said that the answer ended at its token limit.

    Returns:
        `length`: words up to 600, on a logarithmic scale.
        `rambling`: words beyond 800, at 1 from 3,200 on.
        `on_topic`: share of the last message's content words that the answer takes up, at 1 from a half on.
        `variety`: share of different words among the first hundred; 0.65 for fewer.
        `structure`: lines that begin as lists, headings, tables or code do, at 1 from six on.
        `other_language`: 1 when it is mainly in another script, or told to be in another language.
        `repetition`: share of 4-word runs that occurred before, at 1 from a half on.
        `looping`: share of 10-character runs that occurred before, beyond what prose has; 1 for a loop.
        `copied`: share of 4-word runs that the conversation has.
        `cut_off`: 1 when its source said so, a half when it ends without a sign of an end.
        `open_fence`: 1 when a code block is not closed.
        `refusal`: 1 when it says what it can't do in the first 300 characters, a quarter when only later.
        `plays_on`: 1 when it goes on with other turns of a conversation, or writes control tokens.
    """
    words = _words(answer)
    runs = list(zip(*(words[start:] for start in range(4)), strict=False))
    asked = frozenset(zip(*(question.words[start:] for start in range(4)), strict=False))
    found = frozenset(map(_stem, words))
    size = _size(answer, words)
    first = words[:100]
    refused = _REFUSAL.search(answer)
    return {
        "length": min(1.0, _log_share(size, 600)),
        "rambling": _ramp(size, 800, 3200),
        "on_topic": min(1.0, 2 * len(question.stems & found) / len(question.stems)) if question.stems else 0.5,
        "variety": len(set(first)) / len(first) if len(first) == 100 else 0.65,
        "structure": min(1.0, len(_STRUCTURE.findall(answer)) / 6),
        "other_language": float(_is_other(question, answer, words)),
        "repetition": min(1.0, 2 * (1 - len(set(runs)) / len(runs))) if runs else 0.0,
        "looping": _looping(answer),
        "copied": sum(run in asked for run in runs) / len(runs) if runs else 0.0,
        "cut_off": 1.0 if cut_off else 0.0 if _END.search(answer) else 0.5,
        "open_fence": float(len(_FENCE.findall(answer)) % 2),
        "refusal": 0.0 if refused is None else 1.0 if refused.start() < 300 else 0.25,
        "plays_on": float(_PLAYS_ON.search(answer) is not None),
    }


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _size(text: str, words: Sequence[str]) -> float:
    """Words; of scripts without spaces, whose runs are whole sentences, half the letters."""
    return max(len(words), sum(map(len, words)) / 8, sum(len(word) for word in words if word[0] >= "\u2e80") / 2)


def _log_share(size: float, full: float) -> float:
    return math.log1p(size) / math.log1p(full)


def _ramp(value: float, start: float, end: float) -> float:
    return min(1.0, max(0.0, (value - start) / (end - start)))


def _tells(word: str) -> bool:
    return len(word) > 2 and word not in _FUNCTION_WORDS


def _stem(word: str) -> str:
    """The first five letters: `describe` is taken up by `described`."""
    return word[:5]


@lru_cache(maxsize=4096)
def _script_of(char: str) -> str:
    """The first word of a letter's Unicode name: LATIN, CYRILLIC, CJK, HIRAGANA, ..."""
    return unicodedata.name(char, "?").partition(" ")[0]


def _script(text: str, most: int = 2000) -> str:
    """The script of most letters, empty when there are fewer than five; kana and ideographs are one."""
    counts = Counter(_script_of(char) for char in text[:most] if char.isalpha())
    if "HIRAGANA" in counts or "KATAKANA" in counts:
        counts["CJK"] += counts.pop("HIRAGANA", 0) + counts.pop("KATAKANA", 0)
    if sum(counts.values()) < 5:
        return ""
    return min(counts, key=lambda name: (-counts[name], name))


def _language(words: Iterable[str]) -> str:
    """The one of seven languages whose commonest words are in the text, when it is clearly one."""
    counts = Counter(words)
    hits = sorted(((sum(counts[word] for word in known), name) for name, known in _LANGUAGES.items()), reverse=True)
    (most, name), (second, _) = hits[:2]
    return name if most >= 4 and most >= 2 * second else ""


def _is_other(question: Question, answer: str, words: Sequence[str]) -> bool:
    script = _script(answer)
    if question.script and script and question.script != script:
        return True
    language = _language(words)
    return bool(question.language and language and question.language != language)


def _looping(text: str) -> float:
    """0 down to four in five different runs of ten characters, 1 from two in five on.

    A compressor would tell the same, but its output depends on the build of its library.
    """
    text = text[:8000]
    runs = len(text) - 9
    if runs < 100:
        return 0.0
    return _ramp(1 - len({text[at : at + 10] for at in range(runs)}) / runs, 0.2, 0.6)
