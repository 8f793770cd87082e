"""Interprets an endpoint's responses: pure functions of texts, for single requests and batches alike."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime

from prefdata.errors import ModelError, printable
from prefdata.models.endpoint._budget import Usage
from prefdata.records import Generation, TokenLogprobs
from prefdata.spec import JSON
from prefdata.tables.finish_reasons import ending_of, finish_reason_of

__all__ = [
    "fatal",
    "one_line",
    "read_answer",
    "read_completion",
    "refusal_of",
    "retry_after",
    "untrusted",
    "usage_of",
]

_RETRIED = frozenset({408, 409, 429})
_FATAL_CODES = frozenset({"insufficient_quota", "model_not_found"})
_DETAIL_CHARS = 300
_LOOKED_AT = 10_000
"""Characters of a server's message that are looked at."""
_MOST_TOKENS = 2**31


def one_line(text: str, secret: str) -> str:
    """Makes a text fit for messages: one line, at most 300 characters, without the API key."""
    if secret:
        text = text.replace(secret, "***")
    text = printable(" ".join(text[:_LOOKED_AT].split()), _LOOKED_AT)
    return text if len(text) <= _DETAIL_CHARS else text[:_DETAIL_CHARS] + "..."


def refusal_of(status: int, code: str, message: str) -> str:
    """Returns the failure slug for a status of 400 or more; empty if another try may help."""
    if status in _RETRIED or status >= 500:
        return ""
    if code == "context_length_exceeded" or "maximum context length" in message:
        return "prompt_too_long"
    if code == "content_filter":
        return "content_filter"
    return "refused_by_endpoint"


def fatal(endpoint: str, status: int, code: str, message: str, *, answered: bool) -> ModelError | None:
    """Returns the error for a status that every request would get; None for one that concerns a single request.

    Args:
        endpoint: name of the endpoint in messages.
        status: of the response.
        code: the endpoint's own error code.
        message: result of `one_line`.
        answered: whether a request was answered before: then a 403 concerns a single request.
    """
    if code == "insufficient_quota":
        return ModelError(
            f"{endpoint} says that the account has no credit left ({code})",
            hint="add credit and run again: finished answers are kept",
        )
    if status == 401 or (status == 403 and not answered):
        # The provider's own message may quote a part of the key, so it is not shown.
        return ModelError(
            f"{endpoint} refuses the API key (status {status})",
            valid="a key of this provider that may use this model",
            hint="set the variable that `api_key_env` names, and run again: finished answers are kept",
        )
    if 300 <= status < 400:
        return ModelError(
            f"{endpoint} sends requests on to another address (status {status}), which is not followed: the key and "
            "the prompts would go there too",
            valid="the address that answers",
            hint="fix `base_url`",
        )
    if status == 404 or code in _FATAL_CODES:
        return ModelError(
            f"{endpoint} does not know this model or address ({message})",
            valid="a model that the endpoint lists under /models; a base_url without /chat/completions",
            hint="fix `model` or `base_url`",
        )
    return None


def untrusted(endpoint: str, problem: str) -> ModelError:
    """Returns the error for a server whose certificate is not valid."""
    return ModelError(
        f"{endpoint} has a certificate that is not valid ({one_line(problem, '')}), and no request is sent there",
        valid="a certificate of an authority that this machine trusts",
        hint="check `base_url`; for an authority of your own: SSL_CERT_FILE=/path/to/its.pem",
    )


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Returns the seconds that a response asks to wait (`retry-after-ms`, or `Retry-After` as seconds or date).

    Args:
        headers: of the response; looked up in lower case.
        now: seconds since the epoch, to which a date is compared.

    Returns:
        Seconds, never negative; None if no header says it.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - now
            except ValueError:
                continue
        if not math.isnan(seconds):
            return max(0.0, seconds)
    return None


def read_answer(key: str, text: str) -> tuple[Generation, Usage | None]:
    """Reads the first choice of a chat completion, and the tokens that it used.

    Raises:
        ValueError: the text is not a chat completion.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the answer is not a chat completion ({type(error).__name__})") from None
    return read_completion(key, body), usage_of(body)


def read_completion(key: str, body: JSON) -> Generation:
    """Reads the first choice of a chat completion.

    Raises:
        ValueError: the value is not a chat completion.
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        (content, reasoning), refusal = _content(message), message.get("refusal")
        finish_reason = choice.get("finish_reason")
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"the answer is not a chat completion ({type(error).__name__})") from None
    usage = usage_of(body)
    answer = Generation(
        key=key,
        text=None,
        n_prompt_tokens=usage.prompt_tokens if usage else None,
        n_tokens=usage.completion_tokens if usage else None,
        model=_storable(body["model"]) if isinstance(body.get("model"), str) else None,
    )
    if ending_of(finish_reason) == "failed":
        word = finish_reason_of(finish_reason)
        failure = "content_filter" if word.lower().startswith("content_filter") else "request_failed"
        return replace(answer, failure=failure, detail=f"finish reason {word}")
    if isinstance(refusal, str) and refusal:
        return replace(answer, failure="refused", detail=_storable(refusal[:_DETAIL_CHARS]))
    if not isinstance(content, str):
        return replace(answer, failure="no_content", detail=f"finish reason {finish_reason!r}")
    if content != _storable(content):
        return replace(answer, failure="not_unicode", detail="the answer holds half of a surrogate pair")
    finish = finish_reason_of(finish_reason)
    return replace(answer, text=content, finish_reason=finish, top_logprobs=_logprobs(choice), reasoning=reasoning)


def _content(message: dict[str, JSON]) -> tuple[JSON, str | None]:
    """Reads the answer of a message, and the reasoning that an endpoint gives beside it; None where it gives none.

    The answer of one that gave reasoning alone is empty.
    """
    content = message.get("content")
    thoughts = [message.get(name) for name in ("reasoning_content", "reasoning")]
    if isinstance(content, list) and content:
        # Mistral's form: parts, of which some are reasoning, with parts of their own.
        thoughts += [_joined(part["thinking"]) for part in content if part["type"] == "thinking"]
        content = _joined(content)
    reasoning = next((_storable(text) for text in thoughts if isinstance(text, str) and text.strip()), None)
    return "" if content is None and reasoning is not None else content, reasoning


def _joined(parts: JSON) -> JSON:
    """Joins the texts of a list of parts; gives anything else back."""
    if not isinstance(parts, list):
        return parts
    return "".join(part["text"] for part in parts if part["type"] == "text")


def usage_of(body: JSON) -> Usage | None:
    """Reads the tokens that a response reports; returns None if it reports neither kind."""
    report = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(report, dict):
        return None
    details = report.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    usage = Usage(_count(report.get("prompt_tokens")), _count(report.get("completion_tokens")), cached or 0)
    return None if usage.prompt_tokens is None and usage.completion_tokens is None else usage


def _logprobs(choice: dict[str, JSON]) -> tuple[TokenLogprobs, ...] | None:
    """Reads the likeliest tokens at each position, the likeliest first; returns None if there are none."""
    try:
        return tuple(_likeliest(token) for token in choice["logprobs"]["content"]) or None
    except (TypeError, KeyError, AttributeError, OverflowError):
        return None


def _likeliest(token: dict[str, JSON]) -> TokenLogprobs:
    # An endpoint that lists no alternatives still reports the token that it chose.
    listed = token.get("top_logprobs") or [token]
    logprobs = {_storable(one["token"]): float(one["logprob"]) for one in reversed(listed) if _finite(one["logprob"])}
    return tuple(sorted(logprobs.items(), key=lambda pair: (-pair[1], pair[0])))


def _finite(value: JSON) -> bool:
    # Not `math.isfinite`: a whole number may be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53


def _storable(text: str) -> str:
    """Replaces each lone surrogate by `?`: JSON can spell one, and no UTF-8 file can hold it."""
    return text.encode("utf-8", "replace").decode()


def _count(value: JSON) -> int | None:
    """Returns a number of tokens; None for anything else, and for one that no request can have used."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None
