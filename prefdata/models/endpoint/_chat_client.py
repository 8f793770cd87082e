"""Sends the requests of `chat_endpoint` one by one, asynchronously, and retries them.

Retries are done here and not in the client library, so that they are counted and are the same for every version of
it, and so that a `Retry-After` holds back every request to the endpoint and not only the one that received it.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from prefdata.errors import ModelError
from prefdata.models.endpoint._bounded import TooLargeError, certificate_problem
from prefdata.models.endpoint._budget import Bound, Budget
from prefdata.models.endpoint._chat_answer import (
    fatal,
    one_line,
    read_answer,
    refusal_of,
    retry_after,
    untrusted,
)
from prefdata.models.endpoint._limit import AdaptiveLimit
from prefdata.models.endpoint.spending import Spent
from prefdata.records import Generation
from prefdata.spec import JSON

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from openai import APIStatusError, AsyncOpenAI

__all__ = ["ChatClient", "ChatRequest", "Lost", "Outcome", "Policy", "backoff"]

_MOST_BACKOFF_S = 30.0
_OVERLOADED = frozenset({429, 503})

Lost = Literal["", "connection", "other", "budget"]
"""Why no try gave an answer: the server was never reached, another failure, or the budget; empty with an answer."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How requests are sent and retried, by the fields of `ChatEndpoint` of the same names. Times are in seconds."""

    concurrency: int
    timeout_s: float
    deadline_s: float
    max_retries: int
    backoff_s: float
    max_wait_s: float


class ChatRequest(NamedTuple):
    """One request as it is sent to an endpoint."""

    key: str
    body: Mapping[str, JSON]
    name: str
    """The same on every try and in every run, and different for every other request: its idempotency key."""
    bound: Bound


class Outcome(NamedTuple):
    """The result of one request, over all its tries."""

    generation: Generation
    retries: int = 0
    lost: Lost = ""
    paid: Spent = Spent()


class _NoAnswerError(Exception):
    """Reports a try that gave no answer."""

    def __init__(
        self, problem: str, *, final: str = "", wait_s: float | None = None, reached: bool = True, late: bool = False
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.final = final
        """Failure slug; empty if another try may help."""
        self.wait_s = wait_s
        """Seconds that the server asks to wait."""
        self.reached = reached
        """False if no server was reached."""
        self.late = late
        """True for the time-out of one try."""


class _Tries:
    """One request under way: its tries and payments so far."""

    def __init__(self, request: ChatRequest) -> None:
        self.request = request
        self.retries = 0
        self.paid = Spent()
        self.last: _NoAnswerError | None = None

    def answered(self, generation: Generation) -> Outcome:
        return Outcome(generation, self.retries, "", self.paid)

    def failed(self, slug: str, problem: str, lost: Lost) -> Outcome:
        detail = f"{problem} (after {self.retries} retries)" if self.retries else problem
        generation = Generation(key=self.request.key, text=None, failure=slug, detail=detail)
        return Outcome(generation, self.retries, lost, self.paid)


class ChatClient:
    """Sends chat requests with bounded, adaptive concurrency. Used in one event loop.

    Args:
        client: an `openai.AsyncOpenAI` whose own retries are off.
        endpoint: name of the endpoint in messages.
        secret: the API key, removed from every text that leaves this object.
        policy: concurrency, time-outs and retries.
        budget: records costs.
    """

    def __init__(self, client: AsyncOpenAI, endpoint: str, secret: str, policy: Policy, budget: Budget) -> None:
        self._client = client
        self._endpoint = endpoint
        self._secret = secret
        self._policy = policy
        self._budget = budget
        self._limit = AdaptiveLimit(policy.concurrency)
        self._quiet_until = 0.0
        self._reached = False
        self._answered = False
        self._fatal: ModelError | None = None
        """The error that every further request would get."""
        self._tasks: set[asyncio.Task[Outcome]] = set()

    def start(self, request: ChatRequest, done: Callable[[asyncio.Task[Outcome]], None]) -> None:
        """Starts to answer one request; calls `done` with the finished task, whose name is the request's key.

        Must be called in the loop's thread.
        """
        task = asyncio.create_task(self.answer(request), name=request.key)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(done)

    async def answer(self, request: ChatRequest) -> Outcome:
        """Sends a request until it is answered or refused, no retry is left, or its deadline has passed.

        Raises:
            ModelError: the endpoint refuses the key, the model or the account, so every request would fail.
        """
        tries = _Tries(request)
        try:
            # The deadline is set when the request is first sent: before that, it only waits for others.
            async with asyncio.timeout(None) as deadline:
                return await self._try_until_done(tries, deadline)
        except TimeoutError:
            return self._too_late(tries)

    async def close(self) -> None:
        """Cancels the requests under way and closes the connections."""
        # Only the tasks that were started here: each cancels what it waits for, in the right order.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def _try_until_done(self, tries: _Tries, deadline: asyncio.Timeout) -> Outcome:
        while True:
            try:
                return tries.answered(await self._try(tries, deadline))
            except _NoAnswerError as error:
                tries.last = no_answer = error
            if no_answer.final:
                return tries.failed(no_answer.final, no_answer.problem, "")
            wait = self._wait(tries.retries, no_answer.wait_s)
            if tries.retries == self._policy.max_retries or wait > self._policy.max_wait_s:
                slug = "timed_out" if no_answer.late else "request_failed"
                return tries.failed(slug, no_answer.problem, "other" if no_answer.reached else "connection")
            if not self._budget.within_limit():
                # Paying for a try without an answer has used up the money that was reserved for the request.
                return tries.failed("request_failed", no_answer.problem, "budget")
            if (end := deadline.when()) is not None and asyncio.get_running_loop().time() + wait >= end:
                return self._too_late(tries)
            await asyncio.sleep(wait)
            tries.retries += 1

    async def _try(self, tries: _Tries, deadline: asyncio.Timeout) -> Generation:
        await self._limit.enter()
        try:
            await self._pause()
            if self._fatal is not None:
                raise self._fatal
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

        request = tries.request
        try:
            async with asyncio.timeout(self._policy.timeout_s):
                create = self._client.chat.completions.with_raw_response.create
                raw = await create(**request.body, extra_headers={"Idempotency-Key": request.name})
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
            if isinstance(error.__cause__, TooLargeError):
                raise self._unread(tries, error.__cause__) from None
            if (problem := certificate_problem(error)) is not None:
                self._fatal = untrusted(self._endpoint, problem)
                raise self._fatal from None
            cause = type(error.__cause__).__name__ if error.__cause__ else "connection error"
            raise _NoAnswerError(f"connection failed ({cause})", reached=self._reached) from None
        except TooLargeError as error:
            raise self._unread(tries, error) from None
        self._reached = True
        try:
            generation, usage = read_answer(request.key, text)
        except ValueError as error:
            # It came with status 200: an answer that can't be read was computed all the same.
            tries.paid += self._budget.pay(request.bound, None)
            raise _NoAnswerError(one_line(f"{error}: {text}", self._secret)) from None
        tries.paid += self._budget.pay(request.bound, usage)
        return generation

    def _unread(self, tries: _Tries, error: TooLargeError) -> _NoAnswerError:
        """Pays for an answer that is not read, since it was computed all the same."""
        self._reached = True
        tries.paid += self._budget.pay(tries.request.bound, None)
        return _NoAnswerError(str(error))

    def _too_late(self, tries: _Tries) -> Outcome:
        last = f"; the last try: {tries.last.problem}" if tries.last else ""
        lost: Lost = "other" if self._reached or tries.last is None or tries.last.reached else "connection"
        return tries.failed("timed_out", f"no answer within the deadline of {self._policy.deadline_s:g} s{last}", lost)

    def _wait(self, retries: int, server_s: float | None) -> float:
        """Returns the seconds to wait: a random back-off, added to the time that the server asks for."""
        wait = backoff(self._policy.backoff_s, retries)
        if server_s is None:
            return wait
        if server_s <= self._policy.max_wait_s:
            self._quiet_until = max(self._quiet_until, time.monotonic() + server_s)
        return server_s + wait

    async def _pause(self) -> None:
        """Holds a request back until the time that the endpoint last asked to wait is over."""
        while (left := self._quiet_until - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def _status(self, error: APIStatusError) -> _NoAnswerError:
        """Converts a status of 300 or more to the error of this try.

        Raises:
            ModelError: every request would get this status.
        """
        status, code = error.status_code, (error.code or "")
        message = one_line(f"status {status}: {error.message}", self._secret)
        if (fatal_error := fatal(self._endpoint, status, code, message, answered=self._answered)) is not None:
            # No further request is sent, as it would fail too; requests under way may still be answered.
            self._fatal = fatal_error
            raise fatal_error
        slug = refusal_of(status, code, error.message)
        return _NoAnswerError(message, final=slug, wait_s=retry_after(error.response.headers, time.time()))


def backoff(first_s: float, retries: int) -> float:
    """Draws the seconds before another try: full jitter below a ceiling that doubles with every try, up to 30 s."""
    return random.uniform(0.0, min(_MOST_BACKOFF_S, first_s * 2.0 ** min(retries, 30)))
