"""The asynchronous half of `chat_endpoint`: one client, one place that retries, one reading of an answer.

Retries are done here and not in the client library, so that they are counted, are the same for every version of it,
and so that a `Retry-After` holds back every request to the endpoint and not only the one that was told.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from prefdata.errors import ModelError
from prefdata.records import Generation
from prefdata.spec import JSON

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from openai import APIStatusError, AsyncOpenAI

__all__ = ["ChatClient", "Outcome", "Policy", "read_answer", "retry_after"]

_RETRIED = frozenset({408, 409, 429})
_FATAL_CODES = frozenset({"insufficient_quota", "model_not_found"})
_MOST_BACKOFF_S = 30.0
_DETAIL_CHARS = 300


@dataclass(frozen=True, slots=True)
class Policy:
    """How requests are sent and sent again. Seconds throughout."""

    concurrency: int
    timeout_s: float
    max_retries: int
    backoff_s: float
    max_wait_s: float


class Outcome(NamedTuple):
    """What became of one request."""

    generation: Generation
    retries: int
    lost: Literal["", "connection", "other"]
    """Set when the retries are used up: whether the last try reached a server at all."""


class _NoAnswerError(Exception):
    """A try that gave no answer."""

    def __init__(self, what: str, *, final: str = "", wait_s: float | None = None, reached: bool = True) -> None:
        super().__init__(what)
        self.what = what
        self.final = final
        """Failure slug; empty when another try may help."""
        self.wait_s = wait_s
        self.reached = reached


class ChatClient:
    """Sends chat requests with bounded concurrency. Lives in one event loop.

    Args:
        client: an `openai.AsyncOpenAI` whose own retries are off.
        endpoint: where it sends to, for messages.
        secret: the API key, cut out of every text that leaves this object.
        policy: concurrency, time-out and retries.
    """

    def __init__(self, client: AsyncOpenAI, endpoint: str, secret: str, policy: Policy) -> None:
        self._client = client
        self._endpoint = endpoint
        self._secret = secret
        self._policy = policy
        self._slots = asyncio.Semaphore(policy.concurrency)
        self._quiet_until = 0.0
        self._reached = False
        self._answered = False
        self._tasks: set[asyncio.Task[Outcome]] = set()

    def start(self, key: str, body: Mapping[str, JSON], done: Callable[[asyncio.Task[Outcome]], None]) -> None:
        """Begins to answer one request; the finished task is handed to `done`. Call it in the loop's thread."""
        task = asyncio.create_task(self.answer(key, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(done)

    async def answer(self, key: str, body: Mapping[str, JSON]) -> Outcome:
        """Asks until there is an answer, a refusal, or no retry left.

        Raises:
            ModelError: the endpoint refuses the key, the model or the account, so that every request would fail.
        """
        for tries in range(self._policy.max_retries + 1):
            try:
                async with self._slots:
                    await self._pause()
                    generation = await self._once(key, body)
            except _NoAnswerError as missing:
                if missing.final:
                    return self._failed(key, missing, missing.final, tries)
                wait = self._backoff(tries, missing.wait_s)
                if tries == self._policy.max_retries or wait > self._policy.max_wait_s:
                    return self._failed(key, missing, "request_failed", tries)
            else:
                self._answered = True
                return Outcome(generation, tries, "")
            await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last try returns")

    async def close(self) -> None:
        """Cancels what is under way and closes the connections."""
        # Only the tasks that were started here: what they wait for is cancelled by them, in the right order.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def _failed(self, key: str, missing: _NoAnswerError, reason: str, tries: int) -> Outcome:
        detail = f"{missing.what} (after {tries} retries)" if tries else missing.what
        lost: Literal["", "connection", "other"] = ""
        if not missing.final:
            lost = "other" if missing.reached else "connection"
        return Outcome(Generation(key=key, text=None, failure=reason, detail=detail), tries, lost)

    def _backoff(self, tries: int, asked_s: float | None) -> float:
        """Seconds to wait: a full-jitter exponential back-off, on top of what the server asked for."""
        ceiling = min(_MOST_BACKOFF_S, self._policy.backoff_s * 2.0 ** min(tries, 30))
        wait = random.uniform(0.0, ceiling)
        if asked_s is None:
            return wait
        if asked_s <= self._policy.max_wait_s:
            self._quiet_until = max(self._quiet_until, time.monotonic() + asked_s)
        return asked_s + wait

    async def _pause(self) -> None:
        """Holds a request back while the endpoint has asked for quiet."""
        while (left := self._quiet_until - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def _once(self, key: str, body: Mapping[str, JSON]) -> Generation:
        import openai

        try:
            async with asyncio.timeout(self._policy.timeout_s):
                raw = await self._client.chat.completions.with_raw_response.create(**body)
                text = raw.http_response.text
        except openai.APIStatusError as error:
            self._reached = True
            raise self._status(error) from None
        except (TimeoutError, openai.APITimeoutError):
            raise _NoAnswerError(f"no answer within {self._policy.timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            cause = type(error.__cause__).__name__ if error.__cause__ else "connection error"
            raise _NoAnswerError(f"connection failed ({cause})", reached=self._reached) from None
        self._reached = True
        try:
            return read_answer(key, text)
        except ValueError as error:
            raise _NoAnswerError(self._clean(f"{error}: {text}")) from None

    def _status(self, error: APIStatusError) -> _NoAnswerError:
        """What a status of 400 or more means for this request.

        Raises:
            ModelError: it means the same for every request.
        """
        status, code = error.status_code, (error.code or "")
        message = self._clean(f"status {status}: {error.message}")
        if status in (401, 404) or (status == 403 and not self._answered) or code in _FATAL_CODES:
            raise self._fatal(status, code, message)
        if status in _RETRIED or status >= 500:
            return _NoAnswerError(message, wait_s=retry_after(error.response.headers, time.time()))
        if code == "context_length_exceeded" or "maximum context length" in error.message:
            return _NoAnswerError(message, final="prompt_too_long")
        if code == "content_filter":
            return _NoAnswerError(message, final="content_filter")
        return _NoAnswerError(message, final="refused_by_endpoint")

    def _fatal(self, status: int, code: str, message: str) -> ModelError:
        if status in (401, 403):
            # What the provider says of a bad key may quote a part of it.
            return ModelError(
                f"{self._endpoint} refuses the API key (status {status})",
                valid="a key of this provider that may use this model",
                hint="set the variable that `api_key_env` names, and run again: finished answers are kept",
            )
        if code != "insufficient_quota":
            return ModelError(
                f"{self._endpoint} does not know this model or address ({message})",
                valid="a model that the endpoint lists under /models; a base_url without /chat/completions",
                hint="mend `model` or `base_url`",
            )
        return ModelError(
            f"{self._endpoint} says that the account has no credit left ({code})",
            hint="add credit and run again: finished answers are kept",
        )

    def _clean(self, text: str) -> str:
        if self._secret:
            text = text.replace(self._secret, "***")
        text = " ".join(text.split())
        return text if len(text) <= _DETAIL_CHARS else text[:_DETAIL_CHARS] + "..."


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


def read_answer(key: str, text: str) -> Generation:
    """The first choice of a chat completion.

    Raises:
        ValueError: the text is no chat completion.
    """
    try:
        body = json.loads(text)
        choice = body["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
    except (ValueError, RecursionError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"the answer is no chat completion ({type(error).__name__})") from None
    told = choice.get("finish_reason")
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    answer = Generation(
        key=key,
        text=None,
        n_prompt_tokens=_count(usage.get("prompt_tokens")),
        n_tokens=_count(usage.get("completion_tokens")),
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
    return replace(answer, text=content, finish_reason=told if told in ("stop", "length") else "unknown")


def _storable(text: str) -> str:
    """The text with `?` for each lone surrogate, which JSON can spell and no UTF-8 file can hold."""
    return text.encode("utf-8", "replace").decode()


def _count(value: JSON) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
