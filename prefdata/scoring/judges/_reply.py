"""Reads a judge's reply strictly: nothing is guessed, and a reply that can't be read gives the reason."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate

from prefdata.records import Generation, TokenLogprobs
from prefdata.spec import JSON
from prefdata.tables.reasoning import MARKS, Marks, parts_of

__all__ = [
    "BARE_TOKENS",
    "TOP_LOGPROBS",
    "Object",
    "UnreadableError",
    "check_one_label",
    "closed",
    "first_word",
    "justification_in",
    "label_shares",
    "object_in",
    "short",
    "text_of",
    "value_of",
    "verdict_of",
    "whole_number",
]

_ENDS = frozenset(end for _, end in MARKS)
TOP_LOGPROBS = 20
"""Number of likeliest tokens that are requested: the most that endpoints and engines give."""
BARE_TOKENS = 8
"""Token limit of a reply of one digit or letter: room for white space before it, and for seeing that it ends there."""


class UnreadableError(Exception):
    """Reports a reply, or a part of one, that can't be used, with the reason slug."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Object(list[tuple[str, JSON]]):
    """A JSON object as its pairs of key and value, repeated keys included."""


def text_of(reply: Generation, max_tokens: int) -> str:
    """Returns the verdict of a complete reply: what stands after its reasoning.

    Raises:
        UnreadableError: the generator's reason for giving no text (`refused`, `timed_out`, ...), `cut_off`, or
            `only_reasoning`.
    """
    if reply.finish_reason == "length" and reply.text is not None:
        raise UnreadableError("cut_off", f"the reply reached the limit of {max_tokens} tokens")
    return verdict_of(reply)


def verdict_of(reply: Generation) -> str:
    """Returns what stands after the reasoning of a reply, complete or not.

    Raises:
        UnreadableError: the generator's reason for giving no text, or `only_reasoning`.
    """
    if reply.text is None:
        raise UnreadableError(reply.failure or "request_failed", reply.detail)
    answer = parts_of(reply.text).answer
    if answer is None:
        raise UnreadableError("only_reasoning", "nothing stands after the reasoning of the reply")
    return answer


_CODE_FENCE = re.compile(r"^```[A-Za-z]*[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)


def object_in(text: str) -> Object:
    """Parses the JSON object that is the whole text, or the content of its only code fence with no brace around it.

    A brace beside the fence may begin another verdict, and nothing says which of the two is meant.

    Raises:
        UnreadableError: `unparsed`.
    """
    if (value := _parsed(text)) is not None:
        return value
    fences = list(_CODE_FENCE.finditer(text))
    if len(fences) == 1 and (value := _parsed(fences[0][1])) is not None:
        around = text[: fences[0].start()] + text[fences[0].end() :]
        if "{" not in around:
            return value
        raise UnreadableError("unparsed", f"more than one JSON object in {text[:200]!r}")
    raise UnreadableError("unparsed", f"no JSON object in {text[:200]!r}")


def _parsed(text: str) -> Object | None:
    """Parses a JSON object; None for anything else."""
    try:
        value = json.loads(text, object_pairs_hook=Object)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, Object) else None


def value_of(reply: Object, key: str) -> JSON:
    """Returns the only value of a key.

    Raises:
        UnreadableError: `missing` or `duplicate_key`.
    """
    values = [value for name, value in reply if name == key]
    if not values:
        raise UnreadableError("missing", f"the reply has no key {key!r}")
    if len(values) > 1:
        raise UnreadableError("duplicate_key", f"the reply has {len(values)} keys {key!r}")
    return values[0]


def whole_number(value: JSON, lowest: int, highest: int) -> int:
    """Checks that a value is a whole number of the scale, and returns it.

    Raises:
        UnreadableError: `not_an_integer` or `out_of_range`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnreadableError("not_an_integer", f"{short(value)} is not a whole number")
    if not lowest <= value <= highest:
        raise UnreadableError("out_of_range", f"{short(value)} is not from {lowest} to {highest}")
    return value


def short(value: JSON) -> str:
    """Writes a value for a message, in at most 100 characters."""
    return "an object" if isinstance(value, Object) else repr(value)[:100]


def justification_in(reply: Object) -> str:
    """Returns the only justification of a verdict, in a form that can be stored; empty if there is none."""
    texts = [value for key, value in reply if key == "justification"]
    if len(texts) != 1 or not isinstance(texts[0], str):
        return ""
    # JSON can spell half of a surrogate pair, which no UTF-8 file can hold.
    return texts[0].encode("utf-8", "replace").decode()


def closed(properties: Mapping[str, JSON]) -> dict[str, JSON]:
    """Returns the JSON schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def first_word(text: str) -> str:
    """Returns the first word of a reply, without punctuation after it."""
    words = text.split(maxsplit=1)
    return words[0].rstrip(".,:;!") if words else ""


def check_one_label(text: str, labels: Collection[str]) -> None:
    """Checks that no two lines of a bare reply are different labels.

    Raises:
        UnreadableError: `unparsed`.
    """
    named = dict.fromkeys(label for line in text.splitlines() if (label := line.strip().rstrip(".,:;!")) in labels)
    if len(named) > 1:
        raise UnreadableError("unparsed", f"two verdicts in {text[:200]!r}")


def label_shares(
    reply: Generation, labels: Sequence[str], min_mass: float, marks: Marks | None = None
) -> dict[str, float]:
    """Reads the probability that the judge's verdict begins with each label, given that it begins with one of them.

    Read at the first position of the verdict that is not white space, from the tokens that are exactly a label (`7` and
    ` 7` are both the label 7).

    Args:
        reply: with log-probabilities.
        labels: single characters, so that every tokenizer has a token for each, and no label begins another one.
        min_mass: least probability that all labels together must have.
        marks: what the judge writes before and after its reasoning, besides the usual marks.

    Returns:
        Probabilities that add up to 1.

    Raises:
        UnreadableError: `no_logprobs`, `unparsed` (a blank reply, two verdicts, or reasoning whose end is not among
            the tokens), `low_mass`, `only_reasoning`, or the reason for having no reply.
    """
    verdict = verdict_of(reply)
    check_one_label(verdict, labels)
    if reply.top_logprobs is None:
        raise UnreadableError("no_logprobs", "the engine gives no log-probabilities of tokens")
    places = _after_reasoning(reply.top_logprobs, marks) if reply.reasoning is not None else reply.top_logprobs
    tokens = next((tokens for tokens in places if tokens and tokens[0][0].strip()), None)
    if tokens is None:
        raise UnreadableError("unparsed", f"nothing but white space in {verdict[:200]!r}")
    shares = dict.fromkeys(labels, 0.0)
    for token, logprob in tokens:
        if (label := token.strip()) in shares:
            # Some endpoints round, so the log-probability of a certain token can be slightly above 0.
            shares[label] += math.exp(min(logprob, 0.0))
    mass = math.fsum(shares.values())
    # `mass < min_mass` would let NaN pass.
    if not mass >= min_mass:
        raise UnreadableError("low_mass", f"{mass:.3f} of the probability is on {'/'.join(labels)}: {verdict[:80]!r}")
    return {label: share / mass for label, share in shares.items()}


def _after_reasoning(places: Sequence[TokenLogprobs], marks: Marks | None) -> Sequence[TokenLogprobs]:
    """Returns the positions after the tokens that end the reasoning.

    Raises:
        UnreadableError: `unparsed`: no token does.
    """
    own = () if marks is None else (marks[1],)
    texts = [tokens[0][0] if tokens else "" for tokens in places]
    whole = "".join(texts)
    last = max(whole.rfind(end) + len(end) if end in whole else 0 for end in (*own, *_ENDS))
    if not last:
        raise UnreadableError("unparsed", "no token says where the reasoning of the reply ends")
    read = list(accumulate(map(len, texts)))
    return places[bisect_left(read, last) + 1 :]
