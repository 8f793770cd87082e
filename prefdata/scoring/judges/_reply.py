"""The strict reading of a judge's reply: nothing is guessed, and what can't be read says why."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence

from prefdata.records import Generation
from prefdata.spec import JSON

__all__ = [
    "BARE_TOKENS",
    "TOP_LOGPROBS",
    "Object",
    "UnreadableError",
    "closed",
    "first_word",
    "justification_in",
    "label_shares",
    "object_in",
    "short",
    "text_of",
    "value_of",
    "whole_number",
]

TOP_LOGPROBS = 20
"""Likeliest tokens that are asked for: as many as the endpoints and engines give."""
BARE_TOKENS = 8
"""Token limit of a reply that is one digit or letter: room for white space before it, and to see that it ends there."""


class UnreadableError(Exception):
    """A reply, or a part of one, that says nothing usable; with its reason slug."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Object(list[tuple[str, JSON]]):
    """A JSON object as read, with its repeated keys."""


def text_of(reply: Generation, max_tokens: int) -> str:
    """The text of a whole reply.

    Raises:
        UnreadableError: the generator's own reason where there is no text (`refused`, `timed_out`, ...), or `cut_off`.
    """
    if reply.text is None:
        raise UnreadableError(reply.failure or "request_failed", reply.detail)
    if reply.finish_reason == "length":
        raise UnreadableError("cut_off", f"the reply reached the limit of {max_tokens} tokens")
    return reply.text


_CODE_FENCE = re.compile(r"^```[A-Za-z]*[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)


def object_in(text: str) -> Object:
    """The JSON object that a text is, or that the one code fence in it holds.

    Raises:
        UnreadableError: `unparsed`.
    """
    blocks = _CODE_FENCE.findall(text)
    for candidate in [text, *(blocks if len(blocks) == 1 else [])]:
        try:
            found = json.loads(candidate, object_pairs_hook=Object)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, Object):
            return found
    raise UnreadableError("unparsed", f"no JSON object in {text[:200]!r}")


def value_of(found: Object, key: str) -> JSON:
    """The one value of a key.

    Raises:
        UnreadableError: `missing` or `duplicate_key`.
    """
    values = [value for name, value in found if name == key]
    if not values:
        raise UnreadableError("missing", f"the reply has no key {key!r}")
    if len(values) > 1:
        raise UnreadableError("duplicate_key", f"the reply has {len(values)} keys {key!r}")
    return values[0]


def whole_number(value: JSON, lowest: int, highest: int) -> int:
    """A value that is a whole number of the scale.

    Raises:
        UnreadableError: `not_an_integer` or `out_of_range`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnreadableError("not_an_integer", f"{short(value)} is no whole number")
    if not lowest <= value <= highest:
        raise UnreadableError("out_of_range", f"{short(value)} is not from {lowest} to {highest}")
    return value


def short(value: JSON) -> str:
    """A value as a message shows it."""
    return "an object" if isinstance(value, Object) else repr(value)[:100]


def justification_in(found: Object) -> str:
    """The one justification of a verdict, as it can be stored; empty when there is none."""
    said = [value for key, value in found if key == "justification"]
    if len(said) != 1 or not isinstance(said[0], str):
        return ""
    # JSON can spell half of a surrogate pair, which no UTF-8 file can hold.
    return said[0].encode("utf-8", "replace").decode()


def closed(properties: Mapping[str, JSON]) -> dict[str, JSON]:
    """The JSON schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def first_word(text: str) -> str:
    """The first word of a reply, without the full stop or the like behind it."""
    words = text.split(maxsplit=1)
    return words[0].rstrip(".,:;!") if words else ""


def label_shares(reply: Generation, labels: Sequence[str], min_mass: float) -> dict[str, float]:
    """How the judge would have begun its reply: the probability of each label, given that it is one of them.

    Read at the first place of the reply that is more than white space, from the tokens that are a label and nothing
    else (`7` and ` 7` are both the label 7).

    Args:
        reply: with log-probabilities.
        labels: each a single character, so that every tokenizer has a token for it and none begins another one.
        min_mass: least probability that all labels together must have.

    Returns:
        Probabilities that add up to 1.

    Raises:
        UnreadableError: `no_logprobs`, `unparsed` (a blank reply), `low_mass`, or why there is no reply.
    """
    if reply.text is None:
        raise UnreadableError(reply.failure or "request_failed", reply.detail)
    if reply.top_logprobs is None:
        raise UnreadableError("no_logprobs", "the engine gives no log-probabilities of tokens")
    place = next((place for place in reply.top_logprobs if place and place[0][0].strip()), None)
    if place is None:
        raise UnreadableError("unparsed", f"nothing but white space in {reply.text[:200]!r}")
    shares = dict.fromkeys(labels, 0.0)
    for token, logprob in place:
        if (label := token.strip()) in shares:
            # Some endpoints round, so that a certain token can come out a little above 0.
            shares[label] += math.exp(min(logprob, 0.0))
    mass = math.fsum(shares.values())
    # The other way round, NaN would pass.
    if not mass >= min_mass:
        raise UnreadableError(
            "low_mass", f"{mass:.3f} of the probability is on {'/'.join(labels)}: {reply.text[:80]!r}"
        )
    return {label: share / mass for label, share in shares.items()}
