"""Reads the words with which tables, endpoints, batches and engines say why an answer ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from prefdata.errors import printable
from prefdata.records import FinishReason
from prefdata.tables.cells import parse_truth

__all__ = ["Ending", "ending_of", "finish_reason_of", "is_flag", "names_reasons", "word_of"]

Ending: TypeAlias = Literal["whole", "cut_off", "failed", "unknown"]
"""`whole`: it ended by itself; `cut_off`: at a limit of length; `failed`: whoever wrote it broke it off; `unknown`: a
word that is not in the table below."""

_NOT_STATED = "null none nan na unknown unspecified"
_WORDS: Mapping[Ending, str] = {
    "whole": """
        stop eos eosfound eostoken endtoken endoftext endofturn endturn end eot stopsequence stopsequences stopstring
        stopstr stopword stopwords word stoptoken stoptokens stopped complete completed finish finished done success
        succeeded eostokenid matchedstop toolcall toolcalls tooluse functioncall functioncalls""",
    "cut_off": """
        length lengthlimit limit truncated incomplete maxlen maxlength lengthcapped maxtoken maxtokens maxtokensreached
        maxnewtokens maxoutputtokens maxoutput maxcompletiontokens maxcontext maxcontextlength maxmodellen tokenlimit
        tokenlimitreached outputlimit modellength contextlength contextlengthexceeded contextwindow
        contextwindowexceeded modelcontextwindowexceeded errorlimit pauseturn truncation cutoff contextoverflow
        incompletemaxoutputtokens maxnewtokensreached""",
    "failed": """
        error errored errortoxic fail failed failure abort aborted cancel canceled cancelled usercancel interrupted
        timeout timelimit timedout overloaded insufficientsystemresource malformedfunctioncall malformedtoolcall
        contentfilter contentfiltered contentfiltering filtered moderation safety imagesafety blocked blocklist
        prohibitedcontent recitation spii language sensitive refusal refused guardrailintervened""",
}
_ENDING_OF: dict[str, Ending | None] = {
    **dict.fromkeys(_NOT_STATED.split()),
    **{word: ending for ending, words in _WORDS.items() for word in words.split()},
}
_COLUMNS = ("finishreason", "finishreasons", "stopreason", "stopreasons", "donereason", "donereasons")
_OF_ANSWERS = ("is", "was", "has", "response", "completion", "answer", "output", "generation")
"""What the name of a flag may begin with."""
_FLAGS = {
    **dict.fromkeys(("finished", "complete", "completed", "ended", "endedwitheos", "eos", "finishedwitheos"), True),
    **dict.fromkeys(("truncated", "cutoff", "clipped", "incomplete", "unfinished", "hitlimit", "stoppedlimit"), False),
    **dict.fromkeys(("hitmaxtokens", "reachedmaxtokens", "maxtokensreached", "hitlengthlimit", "hitmaxlength"), False),
}
"""Name of a column of truth values → whether true says that the answer is whole."""
_PREFIXES = ("finishreason", "stopreason", "reason")
_KEYS = ("type", "reason", "finish_reason", "stop_reason")
"""Keys under which an object, such as SGLang's, says the word."""
_LONGEST = 80


def ending_of(word: object) -> Ending | None:
    """Reads why an answer ended, in any spelling: `MAX_TOKENS`, `maxTokens` and `FinishReason.MAX_TOKENS` are one word.

    Args:
        word: a text, an object that has the word under `type` or `reason`, or the JSON text of such an object.

    Returns:
        None where the source does not say.
    """
    text = _text(word)
    folded = _folded(text)
    for prefix in _PREFIXES:
        folded = folded.removeprefix(prefix)
    return _ENDING_OF.get(folded, "unknown") if text else None


def names_reasons(name: str) -> bool:
    """Checks whether a column of this name holds finish reasons, in any spelling: `stop_reason`, `finishReason`."""
    return _folded(name) in _COLUMNS


def is_flag(name: str) -> bool:
    """Checks whether truth values in a column of this name say which answers are whole: `truncated`, `is_complete`."""
    return _whole_if_true(name) is not None


def word_of(value: object, name: str) -> object:
    """Gives a cell of a column of finish reasons as a word: `truncated` is `length` where it is true, else `stop`.

    Args:
        value: the cell; a list of them is read one by one.
        name: the column, or a path that ends in it.

    Returns:
        The value itself where it is not a truth value, or the name does not say what is true.
    """
    if isinstance(value, list):
        return [word_of(item, name) for item in value]
    whole, truth = _whole_if_true(name), parse_truth(value)
    if whole is None or truth is None:
        return value
    return "stop" if truth == whole else "length"


@lru_cache
def _whole_if_true(name: str) -> bool | None:
    folded = _folded(name.rpartition(".")[2])
    while folded not in _FLAGS and (begin := next((each for each in _OF_ANSWERS if folded.startswith(each)), "")):
        folded = folded.removeprefix(begin)
    return _FLAGS.get(folded)


def _folded(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def finish_reason_of(word: object) -> FinishReason:
    """Returns the finish reason that is kept for a word.

    Returns:
        `stop` for a whole answer, `length` for one that was cut off, `unknown` where the source does not say, otherwise
        the word itself, such as `content_filter`.
    """
    match ending_of(word):
        case "whole":
            return "stop"
        case "cut_off":
            return "length"
        case None:
            return "unknown"
    return printable(_text(word), _LONGEST)


def _text(word: object) -> str:
    if isinstance(word, str) and word.lstrip().startswith("{"):
        word = _object(word)
    if isinstance(word, Mapping):
        word = next((word[key] for key in _KEYS if word.get(key)), None)
    return "" if word is None else str(word).strip()


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
