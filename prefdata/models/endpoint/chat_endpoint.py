"""Defines `ChatEndpoint`, a model behind an OpenAI-compatible chat endpoint, of a provider or on one's own server."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from prefdata.errors import MissingExtraError, ModelError, RecipeError, UserError
from prefdata.models.base import Decoding, Generator
from prefdata.models.endpoint._batch_api import BatchAPI
from prefdata.models.endpoint._batches import Batches
from prefdata.models.endpoint._bounded import bounded_client, bounded_sync_client
from prefdata.models.endpoint._budget import Budget, bound_of
from prefdata.models.endpoint._chat_client import ChatClient, ChatRequest, Outcome, Policy
from prefdata.models.endpoint._health import Health
from prefdata.models.endpoint.batch import Batch
from prefdata.models.endpoint.prices import Prices
from prefdata.models.endpoint.spending import Spending
from prefdata.models.template import TemplateArguments
from prefdata.records import Generation, Request
from prefdata.spec import JSON, Context, Operational, fingerprint
from prefdata.spec.marks import Acts, Harmless

__all__ = ["ChatEndpoint", "can_be_strict"]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OURS = frozenset(
    {"max_completion_tokens", "max_tokens", "messages", "model", "n", "response_format", "seed", "stop", "stream"}
    | {"logprobs", "temperature", "top_logprobs", "top_p"}
)
_PROVIDER_URL, _PROVIDER_KEY = "https://api.openai.com/v1", "OPENAI_API_KEY"
_ADDRESS = Acts("endpoint", "sends requests to this address, with the key in `api_key_env`", at_default=_PROVIDER_URL)
_KEY = Acts("keys", "sends this variable of your environment as a key", at_default=_PROVIDER_KEY)
_BODY = Acts(
    "body",
    "puts keys of its own into requests",
    harmless_keys=frozenset(
        {"enable_thinking", "frequency_penalty", "length_penalty", "min_p", "min_tokens"}
        | {"presence_penalty", "reasoning_effort", "repetition_penalty", "top_k", "verbosity"}
    ),
)
_AHEAD = 4
"""Requests pulled beyond the concurrency, so that a free slot never waits for the caller."""


class ChatEndpoint(Generator):
    """An OpenAI-compatible chat endpoint.

    `model` and `base_url` are both part of the identity: the same model name at another provider may be another
    quantisation, template or version. Fields about speed, retries, prices and batches are not.
    """

    kind: Literal["chat_endpoint"] = "chat_endpoint"
    model: Annotated[str, Harmless, Field(min_length=1)]
    """The model's name at the provider."""
    base_url: Annotated[str | None, _ADDRESS] = None
    """Address without `/chat/completions`, for example `https://api.example.com/v1`; None is OpenAI's."""
    api_key_env: Annotated[
        str,
        _KEY,
        Operational,
        Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
    ] = _PROVIDER_KEY
    """Name of the environment variable that holds the API key. A `base_url` on this machine needs no key."""
    structured: Annotated[Literal["json_schema", "json_object", "none"], Harmless] = "json_schema"
    """How a JSON answer is requested, as `response_format`: `json_schema` sends the schema, `json_object` asks for any
    JSON object (all that models older than structured outputs take, such as gpt-4-turbo), `none` sends nothing."""
    token_limit: Annotated[Literal["max_tokens", "max_completion_tokens"], Harmless] = "max_tokens"
    """Name of the token limit in the endpoint's API: OpenAI's reasoning models take `max_completion_tokens` only."""
    leave_out: Annotated[tuple[Literal["seed", "temperature", "top_p", "stop"], ...], Harmless] = ()
    """Parameters that the endpoint refuses and that are therefore not sent."""
    extra_body: Annotated[dict[str, JSON], _BODY] = Field(default_factory=dict)
    """Further keys of the request body, such as options of one provider."""
    chat_template_kwargs: TemplateArguments = Field(default_factory=dict)
    """Variables of the chat template, for servers that take them in the request body under this name: vLLM, SGLang, ...
    The server's own clock gives its template the date, unless a variable does (`date_string`)."""
    concurrency: Annotated[int, Harmless, Operational, Field(ge=1)] = 16
    """Most requests under way at once. The actual number begins at 4, grows while the endpoint keeps up, and is halved
    after status 429 or 503 or a time-out."""
    timeout_s: Annotated[float, Harmless, Operational, Field(gt=0)] = 120.0
    """Seconds until one try of a request is given up."""
    deadline_s: Annotated[float, Harmless, Operational, Field(gt=0)] = 1800.0
    """Seconds until a request is given up, over all its tries and the waits between them, from its first try."""
    max_retries: Annotated[int, Harmless, Operational, Field(ge=0)] = 6
    """Further tries after a time-out, a lost connection, an unreadable answer, or status 408, 409, 429 or 5xx."""
    backoff_s: Annotated[float, Harmless, Operational, Field(ge=0)] = 0.5
    """Upper bound of the first random wait, in seconds; it doubles with every try, up to 30 s."""
    max_wait_s: Annotated[float, Harmless, Operational, Field(ge=0)] = 300.0
    """Longest wait in seconds that a `Retry-After` header may ask for; a longer one fails the request."""
    give_up_after: Annotated[int, Harmless, Operational, Field(ge=1)] = 64
    """The run is given up after this many consecutive requests that fail after all their retries, or that are refused
    before any request is answered."""
    prices: Annotated[Prices | None, Harmless, Operational] = None
    """Prices of tokens, for the plan's estimate and the report of what was spent; None counts tokens only."""
    budget: Annotated[float | None, Harmless, Operational, Field(ge=0, allow_inf_nan=False)] = None
    """Most money, in the currency of `prices`, that this account (`base_url` and `model`) may be paid over all runs of
    a build. A request that could exceed it at its token limit is not sent. None sets no limit."""
    batch: Annotated[Batch | None, Harmless, Operational] = None
    """Sends the requests through the provider's batch API; None sends each request by itself."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if taken := sorted(_OURS & self.extra_body.keys()):
            raise ValueError(f"extra_body may not hold {', '.join(taken)}: prefdata sets them from the recipe's fields")
        if self.chat_template_kwargs and "chat_template_kwargs" in self.extra_body:
            raise ValueError("extra_body and chat_template_kwargs both name variables of the chat template")
        if self.budget is not None and self.prices is None:
            raise ValueError(
                f"a budget of {self.budget:g} needs `prices`: without them the cost of a request is unknown"
            )
        if self.base_url is not None:
            parts = urlsplit(self.base_url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"base_url {self.base_url!r} is not an http or https address")
            if "?" in self.base_url or "#" in self.base_url:
                # What is appended would become part of the query: the request would go to another path.
                raise ValueError(f"base_url {self.base_url!r} holds a query or a fragment")
            if parts.username or parts.password:
                # Not a ValueError: pydantic would print the whole address in its message.
                raise RecipeError(
                    f"the base_url of {self.model!r} at {parts.hostname!r} holds a user name or password",
                    valid="an address without them; the key comes from the variable that api_key_env names",
                    hint="take it out of the recipe, and change that password if the recipe was shared",
                )
        return self

    def pins(self) -> dict[str, JSON]:
        """Returns the model's name: a provider shows no more of what it serves."""
        return {**super().pins(), "model": self.model}

    def problems(self) -> list[UserError]:
        """Lists a missing package, or a key that is not set."""
        problems = [*super().problems(), *MissingExtraError.all_of("a chat endpoint", "api", "openai")]
        try:
            self._secret()
        except ModelError as error:
            problems.append(error)
        return problems

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        """Yields answers when they finish; see `Generator.generate`.

        Requests are pulled in the caller's thread, at most `concurrency` + 4 ahead of the yielded answers, and sent
        from an event loop in a thread of its own. Closing the iterator cancels the requests under way. With `batch`,
        files are filled before the first answer comes, and after closing the iterator the provider goes on with them.

        Counts `prompt_tokens`, `completion_tokens` and `retries`. Failures: `prompt_too_long`, `content_filter`,
        `refused`, `no_content`, `not_unicode`, `refused_by_endpoint`; once the retries are used up `timed_out` if the
        last try timed out, else `request_failed`.

        Raises:
            ModelError: the endpoint can't be reached, refuses the key, does not know the model, or stopped answering.
            BudgetError: the next request could exceed the budget. The answers under way are yielded first.
            MissingExtraError: the package `openai` is not installed.
        """
        budget = Budget(self.account, self.prices, self.budget, context.spending or Spending())
        health = Health(self.where, self.give_up_after)
        chat_requests = (self._chat_request(request, decoding) for request in requests)
        with contextlib.closing(self._outcomes(chat_requests, decoding, budget, context)) as outcomes:
            for outcome in outcomes:
                for name, count in (
                    ("prompt_tokens", outcome.paid.prompt_tokens),
                    ("completion_tokens", outcome.paid.completion_tokens),
                    ("retries", outcome.retries),
                ):
                    if count:
                        context.counted(name, count)
                if outcome.lost != "budget":
                    health.note(outcome)
                    yield outcome.generation

    def _outcomes(
        self, requests: Iterator[ChatRequest], decoding: Decoding, budget: Budget, context: Context
    ) -> collections.abc.Generator[Outcome, None, None]:
        if self.batch is None:
            return self._stream(requests, budget)
        return self._send_batches(requests, decoding, budget, context)

    def _send_batches(
        self, requests: Iterator[ChatRequest], decoding: Decoding, budget: Budget, context: Context
    ) -> collections.abc.Generator[Outcome, None, None]:
        """Yields outcomes when batches end."""
        assert self.batch is not None
        # Batches of another seed or decoding can't hold a request of this run: their marks differ.
        mark = fingerprint([self.account, decoding.dump(), context.seed])[:32]
        openai = _openai()
        with openai.OpenAI(**self._client, http_client=bounded_sync_client(openai, self.timeout_s)) as client:
            secret = self._secret()
            api = BatchAPI(client, self.where, secret, self._policy)
            batches = Batches(api, self.batch, self.where, secret, self.max_retries, budget, context.log)
            yield from batches.outcomes(requests, mark)

    def _stream(
        self, requests: Iterator[ChatRequest], budget: Budget
    ) -> collections.abc.Generator[Outcome, None, None]:
        """Yields outcomes when they come; a request lost to the budget is sent again once the budget has room."""
        with _running_loop() as loop:
            client = asyncio.run_coroutine_threadsafe(self._connect(budget), loop).result()
            done: queue.SimpleQueue[asyncio.Task[Outcome]] = queue.SimpleQueue()
            under_way: dict[str, ChatRequest] = {}
            waiting: deque[ChatRequest] = deque()
            exhausted, first_error = False, None
            try:
                while under_way or waiting or not exhausted:
                    if not waiting and not exhausted and len(under_way) < self.concurrency + _AHEAD:
                        request = next(requests, None)
                        exhausted = request is None
                        waiting.extend([] if request is None else [request])
                    if waiting and budget.reserve(waiting[0].key, waiting[0].bound):
                        request = waiting.popleft()
                        under_way[request.key] = request
                        loop.call_soon_threadsafe(client.start, request, done.put)
                        if done.empty() and not exhausted and len(under_way) < self.concurrency + _AHEAD:
                            continue
                    elif waiting and not under_way:
                        raise budget.error(waiting[0].bound)
                    if under_way:
                        task = done.get()
                        request = under_way.pop(task.get_name())
                        budget.settle(request.key)
                        try:
                            outcome = task.result()
                        except UserError as error:
                            # Requests under way are paid for: they are waited for, and no other is sent.
                            exhausted, first_error = True, first_error or error
                            waiting.clear()
                            continue
                        if outcome.lost == "budget" and first_error is None:
                            waiting.append(request)
                        yield outcome
                if first_error is not None:
                    raise first_error
            finally:
                asyncio.run_coroutine_threadsafe(client.close(), loop).result()

    def _chat_request(self, request: Request, decoding: Decoding) -> ChatRequest:
        body = self.body(request, decoding)
        sent = {**body, **body.get("extra_body", {})}
        sent.pop("extra_body", None)
        # Two answers to one prompt may have the same body: the key and the seed distinguish them.
        name = f"prefdata-{fingerprint([self.account, request.key, request.seed, sent])[:48]}"
        return ChatRequest(request.key, body, name, bound_of(sent, decoding.max_tokens))

    def body(self, request: Request, decoding: Decoding) -> dict[str, JSON]:
        """Returns the parameters of the chat completion that asks for one answer."""
        options: dict[str, JSON] = {
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": request.seed,
            "stop": list(decoding.stop) or None,
            "presence_penalty": decoding.presence_penalty or None,
            "frequency_penalty": decoding.frequency_penalty or None,
        }
        body = {name: value for name, value in options.items() if value is not None and name not in self.leave_out}
        body |= {"model": self.model, "messages": list(request.messages), self.token_limit: decoding.max_tokens}
        if request.json_schema is not None and self.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif request.json_schema is not None and self.structured == "json_schema":
            schema = {"name": "answer", "schema": request.json_schema, "strict": can_be_strict(request.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        variables = {"chat_template_kwargs": self.chat_template_kwargs} if self.chat_template_kwargs else {}
        # OpenAI's own API has no such option; servers of open models take it.
        top_k = {} if decoding.top_k is None else {"top_k": decoding.top_k}
        if further := {**top_k, **self.extra_body, **variables}:
            body["extra_body"] = further
        return body

    async def _connect(self, budget: Budget) -> ChatClient:
        package = _openai()
        client = package.AsyncOpenAI(**self._client, http_client=bounded_client(package, self.timeout_s))
        return ChatClient(client, self.where, self._secret(), self._policy, budget)

    @property
    def _url(self) -> str:
        # Always passed to the client: else it would read an address from the environment, which no lock records.
        return self.base_url or _PROVIDER_URL

    @property
    def _client(self) -> dict[str, Any]:
        """Arguments of a client of `openai`; its own retries are off."""
        timeouts = {"max_retries": 0, "timeout": self.timeout_s}
        return {"api_key": self._secret() or "none", "base_url": self._url, **timeouts}

    @property
    def _policy(self) -> Policy:
        return Policy(
            concurrency=self.concurrency,
            timeout_s=self.timeout_s,
            deadline_s=self.deadline_s,
            max_retries=self.max_retries,
            backoff_s=self.backoff_s,
            max_wait_s=self.max_wait_s,
        )

    @property
    def account(self) -> str:
        """Name of the account that is paid: parts with the same account share a budget."""
        return f"{self._url} {self.model}"

    @property
    def where(self) -> str:
        """Name of this endpoint in messages."""
        return f"the endpoint {self._url!r} (model {self.model!r})"

    def _secret(self) -> str:
        secret = os.environ.get(self.api_key_env, "").strip()
        if not secret and urlsplit(self._url).hostname not in _LOOPBACK:
            raise ModelError(
                f"the environment variable {self.api_key_env!r}, which should hold the key for {self._url!r}, is empty",
                valid="an API key; any word for a server of your own that needs no key",
                hint=f"export {self.api_key_env}=...",
            )
        if not (secret.isascii() and secret.isprintable()):
            raise ModelError(
                f"the environment variable {self.api_key_env!r} holds characters that an API key can't have",
                valid="printable ASCII",
                hint=f"export {self.api_key_env}=... again",
            )
        return secret


def _openai() -> Any:
    try:
        import openai
    except ImportError:
        raise MissingExtraError.of("a chat endpoint", "openai", "api") from None
    return openai


def can_be_strict(schema: JSON) -> bool:
    """Returns whether OpenAI's strict mode takes a JSON schema: every object closed, every property required."""
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
    """Runs an event loop in a thread of its own."""
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
