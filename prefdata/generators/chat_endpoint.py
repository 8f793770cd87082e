"""`ChatEndpoint`: a model behind an OpenAI-compatible chat endpoint, at a provider or on a server of one's own."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from prefdata.errors import MissingExtraError, ModelError, RecipeError, UserError
from prefdata.generators._chat_client import ChatClient, Outcome, Policy
from prefdata.generators.base import Decoding, Generator
from prefdata.records import Generation, Request
from prefdata.spec import JSON, Context, Operational

__all__ = ["ChatEndpoint", "can_be_strict"]

_PROVIDER_URL = "https://api.openai.com/v1"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OURS = {
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "response_format",
    "seed",
    "stop",
    "stream",
} | {
    "temperature",
    "top_p",
}
_AHEAD = 4
"""Requests pulled beyond the concurrency, so that a free slot never waits for the caller."""


class ChatEndpoint(Generator):
    """An OpenAI-compatible chat endpoint.

    `model` and `base_url` are both part of the identity: the same model name at another provider may be another
    quantisation, template or version. How fast and how patiently it is asked is operational.
    """

    kind: Literal["chat_endpoint"] = "chat_endpoint"
    model: Annotated[str, Field(min_length=1)]
    """The model's name at the provider."""
    base_url: str | None = None
    """Address up to and without `/chat/completions`; None is OpenAI's."""
    api_key_env: Annotated[str, Operational, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key. A `base_url` on this machine needs none."""
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    """How a JSON answer is asked for: models older than structured outputs (gpt-4-turbo) take `json_object` only."""
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls its token limit: OpenAI's reasoning models take `max_completion_tokens` only."""
    leave_out: tuple[Literal["seed", "temperature", "top_p", "stop"], ...] = ()
    """Parameters that the endpoint refuses and that are therefore not sent."""
    extra_body: dict[str, JSON] = Field(default_factory=dict)
    """Further keys of the request body: options of this provider."""
    concurrency: Annotated[int, Operational, Field(ge=1)] = 16
    """Requests under way at once."""
    timeout_s: Annotated[float, Operational, Field(gt=0)] = 120.0
    """Seconds until one try is given up."""
    max_retries: Annotated[int, Operational, Field(ge=0)] = 6
    """Further tries after a time-out, a lost connection, an unreadable answer, or status 408, 409, 429 or 5xx."""
    backoff_s: Annotated[float, Operational, Field(ge=0)] = 0.5
    """Upper end of the first random wait in seconds; doubles with every try, up to 30 s."""
    max_wait_s: Annotated[float, Operational, Field(ge=0)] = 300.0
    """Longest `Retry-After` in seconds that is waited for; a longer one fails the request."""
    give_up_after: Annotated[int, Operational, Field(ge=1)] = 64
    """Requests in a row that fail after all their retries, or that are refused before any is answered, until the
    whole run is given up."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if taken := sorted(_OURS & self.extra_body.keys()):
            raise ValueError(f"extra_body may not hold {', '.join(taken)}: prefdata sets them from the recipe's fields")
        if self.base_url is not None:
            parts = urlsplit(self.base_url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"base_url {self.base_url!r} is no http or https address")
            if parts.username or parts.password:
                # Not a ValueError: pydantic would print the whole address in its message.
                raise RecipeError(
                    f"the base_url of {self.model!r} at {parts.hostname!r} holds a user name or password",
                    valid="an address without them; the key comes from the variable that api_key_env names",
                    hint="take it out of the recipe, and change that password if the recipe was shared",
                )
        return self

    def pins(self) -> dict[str, JSON]:
        """The model's name: a provider shows no more of what it serves."""
        return {**super().pins(), "model": self.model}

    def problems(self) -> list[UserError]:
        """A missing package, or a key that is not set."""
        found = [*super().problems(), *MissingExtraError.all_of("a chat endpoint", "api", "openai")]
        try:
            self._secret()
        except ModelError as error:
            found.append(error)
        return found

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        """Answers as they finish; see `Generator.generate`.

        Requests are pulled in the caller's thread, at most a few more than `concurrency` ahead of what was yielded;
        they are sent from an event loop in a thread of its own. Closing the iterator cancels what is under way.
        Counts `retries`.

        Raises:
            ModelError: the endpoint can't be reached, refuses the key, does not know the model, or stopped answering.
            MissingExtraError: the package `openai` is not installed.
        """
        with _running_loop() as loop:
            client = asyncio.run_coroutine_threadsafe(self._connect(), loop).result()
            done: queue.SimpleQueue[asyncio.Task[Outcome]] = queue.SimpleQueue()
            waiting = iter(requests)
            health = _Health(self)
            under_way, exhausted = 0, False
            try:
                while under_way or not exhausted:
                    if not exhausted and under_way < self.concurrency + _AHEAD:
                        request = next(waiting, None)
                        if request is None:
                            exhausted = True
                        else:
                            body = self.body(request, decoding)
                            loop.call_soon_threadsafe(client.start, request.key, body, done.put)
                            under_way += 1
                        if not under_way or done.empty():
                            continue
                    outcome = done.get().result()
                    under_way -= 1
                    if outcome.retries:
                        context.counted("retries", outcome.retries)
                    health.note(outcome)
                    yield outcome.generation
            finally:
                asyncio.run_coroutine_threadsafe(client.close(), loop).result()

    def body(self, request: Request, decoding: Decoding) -> dict[str, JSON]:
        """The parameters of the chat completion that asks for one answer."""
        wanted: dict[str, JSON] = {
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": request.seed,
            "stop": list(decoding.stop) or None,
        }
        body = {name: value for name, value in wanted.items() if value is not None and name not in self.leave_out}
        body |= {"model": self.model, "messages": list(request.messages), self.token_limit: decoding.max_tokens}
        if request.json_schema is not None and self.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif request.json_schema is not None and self.structured == "json_schema":
            schema = {"name": "answer", "schema": request.json_schema, "strict": can_be_strict(request.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self.extra_body:
            body["extra_body"] = dict(self.extra_body)
        return body

    async def _connect(self) -> ChatClient:
        try:
            from openai import AsyncOpenAI
        except ImportError:
            raise MissingExtraError.of("a chat endpoint", "openai", "api") from None
        secret = self._secret()
        client = AsyncOpenAI(api_key=secret or "none", base_url=self._url, max_retries=0, timeout=self.timeout_s)
        policy = Policy(self.concurrency, self.timeout_s, self.max_retries, self.backoff_s, self.max_wait_s)
        return ChatClient(client, self.where, secret, policy)

    @property
    def _url(self) -> str:
        # Given to the client always: left out, it would take an address from the environment that no lock knows of.
        return self.base_url or _PROVIDER_URL

    @property
    def where(self) -> str:
        """What messages call this endpoint."""
        return f"the endpoint {self._url!r} (model {self.model!r})"

    def _secret(self) -> str:
        secret = os.environ.get(self.api_key_env, "").strip()
        if not secret and urlsplit(self._url).hostname not in _LOOPBACK:
            raise ModelError(
                f"the environment variable {self.api_key_env!r}, which should hold the key for {self._url!r}, is empty",
                valid="an API key; for a server of your own that asks for none, any word",
                hint=f"export {self.api_key_env}=...",
            )
        if not (secret.isascii() and secret.isprintable()):
            raise ModelError(
                f"the environment variable {self.api_key_env!r} holds characters that no API key can have",
                valid="printable ASCII",
                hint=f"export {self.api_key_env}=... again",
            )
        return secret


class _Health:
    """Tells a bad request from a bad endpoint: a build must not end with all its prompts dropped one by one."""

    def __init__(self, part: ChatEndpoint) -> None:
        self._part = part
        self._answered = False
        self._in_a_row = 0

    def note(self, outcome: Outcome) -> None:
        """Takes one outcome.

        Raises:
            ModelError: the endpoint can't be reached, stopped answering, or has refused every request so far.
        """
        where, detail = self._part.where, outcome.generation.detail
        if outcome.lost == "connection":
            raise ModelError(
                f"{where} can't be reached: {detail}",
                valid="an address at which an OpenAI-compatible server listens",
                hint="check `base_url`, the network, and that the server has started",
            )
        refused = outcome.generation.failure == "refused_by_endpoint"
        if not outcome.lost and not refused:
            self._answered = True
        self._in_a_row = self._in_a_row + 1 if outcome.lost or (refused and not self._answered) else 0
        if self._in_a_row < self._part.give_up_after:
            return
        failed = f"{self._in_a_row} requests in a row failed, the last with: {detail}"
        if self._answered or outcome.lost:
            raise ModelError(f"{where} stopped answering: {failed}", hint="run again later: finished answers are kept")
        raise ModelError(
            f"{where} refuses every request: {failed}",
            hint="say what it does not take with `leave_out`, `token_limit`, `structured` or `extra_body`",
        )


def can_be_strict(schema: JSON) -> bool:
    """Whether OpenAI's strict mode takes a JSON schema: every object closed, every property required."""
    if isinstance(schema, list):
        return all(map(can_be_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        closed = schema.get("additionalProperties") is False
        if not closed or sorted(schema.get("required", [])) != sorted(properties):
            return False
    return all(map(can_be_strict, schema.values()))


@contextmanager
def _running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="prefdata-chat-endpoint", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
