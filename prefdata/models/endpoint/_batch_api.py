"""The calls of an OpenAI-compatible batch API, each tried again after what may pass."""

from __future__ import annotations

import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar

from prefdata.errors import ModelError
from prefdata.models.endpoint._chat_answer import cleaned, fatal, refusal_of, retry_after
from prefdata.models.endpoint._chat_client import Policy, backoff

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

__all__ = ["URL", "BatchAPI", "MissingError"]

URL = "/v1/chat/completions"
_KEPT_S = 32 * 24 * 3600.0
"""Providers delete files after 30 days: older batches have nothing to give."""

_T = TypeVar("_T")


class MissingError(ModelError):
    """The endpoint has no such address, or no longer."""


class _CutOffError(Exception):
    """A download that ended before its end."""


class BatchAPI:
    """Files and batches of one account.

    Args:
        client: an `openai.OpenAI` whose own retries are off.
        where: what messages call the endpoint.
        secret: the API key, cut out of every text that leaves this object.
        policy: how often and how patiently a call is made again.

    Every method raises `ModelError` where the endpoint refuses the call, or does not answer.
    """

    def __init__(self, client: OpenAI, where: str, secret: str, policy: Policy) -> None:
        self._client, self._where, self._secret, self._policy = client, where, secret, policy

    def make(self, content: IO[bytes], window: str, mark: str) -> Any:
        """Uploads a JSON-lines file and makes a batch of it, which is marked."""

        def upload() -> Any:
            content.seek(0)
            return self._client.files.create(file=("prefdata.jsonl", content), purpose="batch")

        uploaded = self._call(upload)
        name = uuid.uuid4().hex

        def create() -> Any:
            return self._client.batches.create(
                input_file_id=uploaded.id,
                endpoint=URL,
                # The type of the client knows one provider's window only.
                completion_window=window,  # type: ignore[arg-type,unused-ignore]
                metadata={"prefdata_key": mark, "prefdata_file": name},
                extra_headers={"Idempotency-Key": f"prefdata-{name}"},
            )

        def made_after_all() -> Any:
            # The answer to an earlier try may have been lost on its way here.
            return next((batch for batch in self._marked(mark) if batch.metadata.get("prefdata_file") == name), None)

        return self._call(create, made_after_all)

    def look(self, batch_id: str) -> Any:
        """A batch as it is now."""
        return self._call(partial(self._client.batches.retrieve, batch_id))

    def marked(self, mark: str) -> list[Any]:
        """All batches with a mark that may still have something to give, the newest first."""
        return self._call(lambda: list(self._marked(mark)))

    def fetched(self, file_id: str) -> IO[bytes]:
        """A file of the provider as a temporary file, at its beginning; whoever reads it closes it.

        Raises:
            MissingError: it was deleted.
        """

        def fetch() -> IO[bytes]:
            with contextlib.ExitStack() as failed:
                file = failed.enter_context(tempfile.TemporaryFile())
                with self._client.files.with_streaming_response.content(file_id) as response:
                    pieces = response.iter_bytes()
                    while piece := _next(pieces):
                        file.write(piece)
                file.seek(0)
                failed.pop_all()
            return file

        return self._call(fetch)

    def _marked(self, mark: str) -> Iterator[Any]:
        oldest = time.time() - _KEPT_S
        for batch in self._client.batches.list(limit=100):
            if (batch.created_at or 0) < oldest:
                return
            if (batch.metadata or {}).get("prefdata_key") == mark:
                yield batch

    def _call(self, call: Callable[[], _T], done: Callable[[], _T | None] = lambda: None) -> _T:
        """One call, tried again after what may pass; `done` tells if an earlier try went through unheard."""
        import openai

        tries = 0
        while True:
            try:
                return (done() if tries else None) or call()
            except openai.APIStatusError as error:
                what, wait = self._refused(error), retry_after(error.response.headers, time.time())
            except (openai.APIConnectionError, _CutOffError) as error:
                what, wait = f"connection failed ({type(error).__name__})", None
            if tries == self._policy.max_retries or (wait or 0) > self._policy.max_wait_s:
                raise ModelError(
                    f"the batch API of {self._where} does not answer: {what} (after {tries} retries)",
                    hint="run again later: finished answers are kept, and batches under way are found again",
                )
            time.sleep((wait or 0) + backoff(self._policy.backoff_s, tries))
            tries += 1

    def _refused(self, error: APIStatusError) -> str:
        """What a status of 400 or more says, where another try may help.

        Raises:
            ModelError: no other try helps.
        """
        status, code = error.status_code, error.code or ""
        what = cleaned(f"status {status}: {error.message}", self._secret)
        if status == 404:
            raise MissingError(
                f"{self._where} has no batch API ({what})",
                valid="an endpoint with /files and /batches, as OpenAI's has",
                hint="leave `batch` out: requests then go one by one",
            ) from None
        if (end := fatal(self._where, status, code, what, answered=False)) is not None:
            raise end from None
        if refusal_of(status, code, error.message):
            hint = "mend `batch`, or leave it out"
            raise ModelError(f"{self._where} refuses the batch: {what}", hint=hint) from None
        return what


def _next(pieces: Iterator[bytes]) -> bytes:
    """The next piece of a download; empty at its end."""
    try:
        return next(pieces, b"")
    except Exception as error:
        # Which exception it is depends on the HTTP library of the client's version.
        raise _CutOffError(f"{type(error).__name__}: {error}") from error
