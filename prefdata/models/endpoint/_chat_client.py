"""The asynchronous half of `chat_endpoint`: one client, one place that retries.

Retries are done here and not in the client library, so that they are counted, are the same for every version of it,
and so that a `Retry-After` holds back every request to the endpoint and not only the one that was told.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from prefdata.errors import ModelError
from prefdata.models.endpoint._budget import Bound, Purse
from prefdata.models.endpoint._chat_answer import cleaned, fatal, read_answer, refusal_of, retry_after
from prefdata.models.endpoint._limit import AdaptiveLimit
from prefdata.models.endpoint.spending import Spent
from prefdata.records import Generation
from prefdata.spec import JSON

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from openai import APIStatusError, AsyncOpenAI

__all__ = ["Ask", "ChatClient", "Lost", "Outcome", "Policy", "backoff"]

_MOST_BACKOFF_S = 30.0
_OVERLOADED = frozenset({429, 503})

Lost = Literal["", "connection", "other", "budget"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How requests are sent and sent again. Seconds throughout."""

    concurrency: int
    timeout_s: float
    deadline_s: float
    max_retries: int
    backoff_s: float
    max_wait_s: float


class Ask(NamedTuple):
    """One request as it is sent."""

    key: str
    body: Mapping[str, JSON]
    name: str
    """The same on every try and in every run, and different for every other request: its idempotency key."""
    bound: Bound


class Outcome(NamedTuple):
    """What became of one request."""

    generation: Generation
    retries: int = 0
    lost: Lost = ""
    """Set when no try gave an answer: whether the last reached a server at all, or the budget allows no other."""
    paid: Spent = Spent()


class _NoAnswerError(Exception):
    """A try that gave no answer."""

    def __init__(
        self, what: str, *, final: str = "", wait_s: float | None = None, reached: bool = True, late: bool = False
    ) -> None:
        super().__init__(what)
        self.what = what
        self.final = final
        """Failure slug; empty when another try may help."""
        self.wait_s = wait_s
        self.reached = reached
        self.late = late
        """Whether it was the time-out of one try."""


class _Tries:
    """One request under way: what has been tried and paid so far."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.retries = 0
        self.paid = Spent()
        self.last: _NoAnswerError | None = None

    def answered(self, generation: Generation) -> Outcome:
        return Outcome(generation, self.retries, "", self.paid)

    def failed(self, reason: str, what: str, lost: Lost) -> Outcome:
        detail = f"{what} (after {self.retries} retries)" if self.retries else what
        generation = Generation(key=self.ask.key, text=None, failure=reason, detail=detail)
        return Outcome(generation, self.retries, lost, self.paid)


class ChatClient:
    """Sends chat requests with bounded, adaptive concurrency. Lives in one event loop.

    Args:
        client: an `openai.AsyncOpenAI` whose own retries are off.
        endpoint: where it sends to, for messages.
        secret: the API key, cut out of every text that leaves this object.
        policy: concurrency, time-outs and retries.
        purse: pays for what comes back.
    """

    def __init__(self, client: AsyncOpenAI, endpoint: str, secret: str, policy: Policy, purse: Purse) -> None:
        self._client = client
        self._endpoint = endpoint
        self._secret = secret
        self._policy = policy
        self._purse = purse
        self._limit = AdaptiveLimit(policy.concurrency)
        self._quiet_until = 0.0
        self._reached = False
        self._answered = False
        self._ended: ModelError | None = None
        self._tasks: set[asyncio.Task[Outcome]] = set()

    def start(self, ask: Ask, done: Callable[[asyncio.Task[Outcome]], None]) -> None:
        """Begins to answer one request; the finished task, named by its key, is handed to `done`.

        Call it in the loop's thread.
        """
        task = asyncio.create_task(self.answer(ask), name=ask.key)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(done)

    async def answer(self, ask: Ask) -> Outcome:
        """Asks until there is an answer, a refusal, no retry left, or the deadline has come.

        Raises:
            ModelError: the endpoint refuses the key, the model or the account, so that every request would fail.
        """
        tries = _Tries(ask)
        try:
            # The deadline is set when the request is first sent: before that, it waits for the others only.
            async with asyncio.timeout(None) as deadline:
                return await self._tried(tries, deadline)
        except TimeoutError:
            return self._too_late(tries)

    async def close(self) -> None:
        """Cancels what is under way and closes the connections."""
        # Only the tasks that were started here: what they wait for is cancelled by them, in the right order.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def _tried(self, tries: _Tries, deadline: asyncio.Timeout) -> Outcome:
        while True:
            try:
                return tries.answered(await self._try(tries, deadline))
            except _NoAnswerError as error:
                tries.last = missing = error
            if missing.final:
                return tries.failed(missing.final, missing.what, "")
            wait = self._wait(tries.retries, missing.wait_s)
            if tries.retries == self._policy.max_retries or wait > self._policy.max_wait_s:
                reason = "timed_out" if missing.late else "request_failed"
                return tries.failed(reason, missing.what, "other" if missing.reached else "connection")
            if not self._purse.fits():
                # A try that was paid for and gave no answer has used up what was set aside for it.
                return tries.failed("request_failed", missing.what, "budget")
            if (end := deadline.when()) is not None and asyncio.get_running_loop().time() + wait >= end:
                return self._too_late(tries)
            await asyncio.sleep(wait)
            tries.retries += 1

    async def _try(self, tries: _Tries, deadline: asyncio.Timeout) -> Generation:
        await self._limit.enter()
        try:
            await self._pause()
            if self._ended is not None:
                raise self._ended
            if deadline.when() is None:
                deadline.reschedule(asyncio.get_running_loop().time() + self._policy.deadline_s)
            generation = await self._once(tries, time.monotonic())
            self._limit.answered()
        finally:
            self._limit.leave()
        self._answered = True
        return generation

    async def _once(self, tries: _Tries, sent: float) -> Generation:
        import openai

        ask = tries.ask
        try:
            async with asyncio.timeout(self._policy.timeout_s):
                create = self._client.chat.completions.with_raw_response.create
                raw = await create(**ask.body, extra_headers={"Idempotency-Key": ask.name})
                text = raw.http_response.text
        except openai.APIStatusError as error:
            self._reached = True
            if error.status_code in _OVERLOADED:
                self._limit.overloaded(sent)
            raise self._status(error) from None
        except (TimeoutError, openai.APITimeoutError):
            self._limit.overloaded(sent)
            raise _NoAnswerError(f"no answer within {self._policy.timeout_s:g} s", late=True) from None
        except openai.APIConnectionError as error:
            cause = type(error.__cause__).__name__ if error.__cause__ else "connection error"
            raise _NoAnswerError(f"connection failed ({cause})", reached=self._reached) from None
        self._reached = True
        try:
            generation, usage = read_answer(ask.key, text)
        except ValueError as error:
            # It came with status 200: what can't be read was computed all the same.
            tries.paid += self._purse.pay(ask.bound, None)
            raise _NoAnswerError(cleaned(f"{error}: {text}", self._secret)) from None
        tries.paid += self._purse.pay(ask.bound, usage)
        return generation

    def _too_late(self, tries: _Tries) -> Outcome:
        last = f"; the last try: {tries.last.what}" if tries.last else ""
        lost: Lost = "other" if self._reached or tries.last is None or tries.last.reached else "connection"
        return tries.failed("timed_out", f"no answer within the deadline of {self._policy.deadline_s:g} s{last}", lost)

    def _wait(self, retries: int, asked_s: float | None) -> float:
        """Seconds to wait: a random back-off, on top of what the server asked for."""
        wait = backoff(self._policy.backoff_s, retries)
        if asked_s is None:
            return wait
        if asked_s <= self._policy.max_wait_s:
            self._quiet_until = max(self._quiet_until, time.monotonic() + asked_s)
        return asked_s + wait

    async def _pause(self) -> None:
        """Holds a request back while the endpoint has asked for quiet."""
        while (left := self._quiet_until - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def _status(self, error: APIStatusError) -> _NoAnswerError:
        """What a status of 400 or more means for this request.

        Raises:
            ModelError: it means the same for every request.
        """
        status, code = error.status_code, (error.code or "")
        message = cleaned(f"status {status}: {error.message}", self._secret)
        if (end := fatal(self._endpoint, status, code, message, answered=self._answered)) is not None:
            # No other request need be sent to hear the same; those that are sent may still be answered.
            self._ended = end
            raise end
        slug = refusal_of(status, code, error.message)
        return _NoAnswerError(message, final=slug, wait_s=retry_after(error.response.headers, time.time()))


def backoff(first_s: float, retries: int) -> float:
    """Seconds before another try: full jitter below a ceiling that doubles with every try, up to 30 s."""
    return random.uniform(0.0, min(_MOST_BACKOFF_S, first_s * 2.0 ** min(retries, 30)))
