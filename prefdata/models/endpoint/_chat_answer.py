"""What an endpoint's response means: pure functions of texts, for single requests and batches alike."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime

from prefdata.errors import ModelError
from prefdata.models.endpoint._budget import Usage
from prefdata.records import FinishReason, Generation, TokenLogprobs
from prefdata.spec import JSON

__all__ = ["cleaned", "fatal", "read_answer", "read_completion", "refusal_of", "retry_after", "usage_of"]

_RETRIED = frozenset({408, 409, 429})
_FATAL_CODES = frozenset({"insufficient_quota", "model_not_found"})
_DETAIL_CHARS = 300


def cleaned(text: str, secret: str) -> str:
    """A text for messages: in one line, cut, and without the key."""
    if secret:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= _DETAIL_CHARS else text[:_DETAIL_CHARS] + "..."


def refusal_of(status: int, code: str, message: str) -> str:
    """The slug of a request that ended with a status of 400 or more; empty when another try may help."""
    if status in _RETRIED or status >= 500:
        return ""
    if code == "context_length_exceeded" or "maximum context length" in message:
        return "prompt_too_long"
    if code == "content_filter":
        return "content_filter"
    return "refused_by_endpoint"


def fatal(endpoint: str, status: int, code: str, message: str, *, answered: bool) -> ModelError | None:
    """The error of a status that means the same for every request, or None.

    Args:
        endpoint: what messages call it.
        status: of the response.
        code: the endpoint's own word for what is wrong.
        message: `cleaned`.
        answered: whether any request was answered: a 403 later concerns one request only.
    """
    if code == "insufficient_quota":
        return ModelError(
            f"{endpoint} says that the account has no credit left ({code})",
            hint="add credit and run again: finished answers are kept",
        )
    if status == 401 or (status == 403 and not answered):
        # What the provider says of a bad key may quote a part of it.
        return ModelError(
            f"{endpoint} refuses the API key (status {status})",
            valid="a key of this provider that may use this model",
            hint="set the variable that `api_key_env` names, and run again: finished answers are kept",
        )
    if status == 404 or code in _FATAL_CODES:
        return ModelError(
            f"{endpoint} does not know this model or address ({message})",
            valid="a model that the endpoint lists under /models; a base_url without /chat/completions",
            hint="mend `model` or `base_url`",
        )
    return None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a response asks to wait (`retry-after-ms`, or `Retry-After` as seconds or date), or None.

    Args:
        headers: of the response; looked up in lower case.
        now: seconds since the epoch, which a date is compared with.
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
    """The first choice of a chat completion, and what it took.

    Raises:
        ValueError: the text is no chat completion.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the answer is no chat completion ({type(error).__name__})") from None
    return read_completion(key, body), usage_of(body)


def read_completion(key: str, body: JSON) -> Generation:
    """The first choice of a chat completion.

    Raises:
        ValueError: it is no chat completion.
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
        told = choice.get("finish_reason")
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"the answer is no chat completion ({type(error).__name__})") from None
    usage = usage_of(body)
    answer = Generation(
        key=key,
        text=None,
        n_prompt_tokens=usage.prompt_tokens if usage else None,
        n_tokens=usage.completion_tokens if usage else None,
        model=_storable(body["model"]) if isinstance(body.get("model"), str) else None,
    )
    if told == "content_filter":
        return replace(answer, failure="content_filter", detail="finish reason content_filter")
    if isinstance(refusal, str) and refusal:
        return replace(answer, failure="refused", detail=_storable(refusal[:_DETAIL_CHARS]))
    if not isinstance(content, str):
        return replace(answer, failure="no_content", detail=f"finish reason {told!r}")
    if content != _storable(content):
        return replace(answer, failure="not_unicode", detail="the answer holds half of a surrogate pair")
    finish: FinishReason = told if told in ("stop", "length") else "unknown"
    return replace(answer, text=content, finish_reason=finish, top_logprobs=_logprobs(choice))


def usage_of(body: JSON) -> Usage | None:
    """The tokens that a response tells; None when it tells neither."""
    told = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(told, dict):
        return None
    details = told.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    usage = Usage(_count(told.get("prompt_tokens")), _count(told.get("completion_tokens")), cached or 0)
    return None if usage.prompt_tokens is None and usage.completion_tokens is None else usage


def _logprobs(choice: dict[str, JSON]) -> tuple[TokenLogprobs, ...] | None:
    """The likeliest tokens at each place, the likeliest first; None where the endpoint gives none it should give."""
    try:
        return tuple(_place(token) for token in choice["logprobs"]["content"]) or None
    except (TypeError, KeyError, AttributeError):
        return None


def _place(token: dict[str, JSON]) -> TokenLogprobs:
    # An endpoint that was asked for none beside it still tells the token that it took.
    listed = token.get("top_logprobs") or [token]
    known = {_storable(one["token"]): float(one["logprob"]) for one in reversed(listed) if _finite(one["logprob"])}
    return tuple(sorted(known.items(), key=lambda pair: (-pair[1], pair[0])))


def _finite(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _storable(text: str) -> str:
    """The text with `?` for each lone surrogate, which JSON can spell and no UTF-8 file can hold."""
    return text.encode("utf-8", "replace").decode()


def _count(value: JSON) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
