"""Calls an OpenAI-compatible batch API, and retries after failures that may pass."""

from __future__ import annotations

import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar

from prefdata.errors import ModelError
from prefdata.models.endpoint._bounded import MOST_BYTES, TooLargeError, check_encoding
from prefdata.models.endpoint._chat_answer import fatal, one_line, refusal_of, retry_after
from prefdata.models.endpoint._chat_client import Policy, backoff

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

__all__ = ["URL", "BatchAPI", "MissingError"]

URL = "/v1/chat/completions"
_KEPT_S = 32 * 24 * 3600.0
"""Seconds. Providers delete files after 30 days, so the results of older batches are gone."""

_MOST_FILE = 16 << 30
"""Bytes of a file of the provider: its 50,000 answers of 64,000 tokens take less."""

_T = TypeVar("_T")


class MissingError(ModelError):
    """Reports an address that the endpoint does not have, or no longer has."""


class _CutOffError(Exception):
    """Reports a download that broke off."""


class BatchAPI:
    """Files and batches of one account.

    Args:
        client: an `openai.OpenAI` whose own retries are off.
        where: name of the endpoint in messages.
        secret: the API key, removed from every text that leaves this object.
        policy: how often a call is retried, and after which waits.

    Every method raises `ModelError` if the endpoint refuses the call or does not answer.
    """

    def __init__(self, client: OpenAI, where: str, secret: str, policy: Policy) -> None:
        self._client, self._where, self._secret, self._policy = client, where, secret, policy

    def make(self, content: IO[bytes], window: str, mark: str) -> Any:
        """Uploads a JSON-lines file and makes a batch of it.

        Args:
            content: the file.
            window: time that the provider may take, for example `24h`.
            mark: written into the batch's metadata, where `marked` looks for it.
        """

        def upload() -> Any:
            content.seek(0)
            return self._client.files.create(file=("prefdata.jsonl", content), purpose="batch")

        uploaded = self._call(upload)
        name = uuid.uuid4().hex

        def create() -> Any:
            return self._client.batches.create(
                input_file_id=uploaded.id,
                endpoint=URL,
                completion_window=window,  # type: ignore[arg-type,unused-ignore]  # it knows one provider's only
                metadata={"prefdata_key": mark, "prefdata_file": name},
                extra_headers={"Idempotency-Key": f"prefdata-{name}"},
            )

        def created_before() -> Any:
            # The answer to an earlier try may have been lost on its way here.
            return next((batch for batch in self._marked(mark) if batch.metadata.get("prefdata_file") == name), None)

        return self._call(create, created_before)

    def retrieve(self, batch_id: str) -> Any:
        """Returns a batch as it is now."""
        return self._call(partial(self._client.batches.retrieve, batch_id))

    def marked(self, mark: str) -> list[Any]:
        """Lists all batches with a mark whose files may still exist, the newest first."""
        return self._call(lambda: list(self._marked(mark)))

    def download(self, file_id: str) -> IO[bytes]:
        """Downloads a file of the provider to a temporary file, at its beginning. The caller closes it.

        Raises:
            MissingError: the file was deleted.
        """

        def fetch() -> IO[bytes]:
            with contextlib.ExitStack() as failed:
                file = failed.enter_context(tempfile.TemporaryFile())
                with self._client.files.with_streaming_response.content(file_id) as response:
                    check_encoding(response.headers)
                    size, line, chunks = 0, 0, response.iter_bytes()
                    while chunk := _next(chunks):
                        size, line = size + len(chunk), _line_after(chunk, line)
                        if size > _MOST_FILE:
                            raise TooLargeError(f"a file of more than {_MOST_FILE >> 30} GB")
                        file.write(chunk)
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
        """Makes a call, with retries; `done` returns the result of an earlier try whose answer was lost, or None."""
        import openai

        tries = 0
        while True:
            try:
                return (done() if tries else None) or call()
            except openai.APIStatusError as error:
                problem, wait = self._problem(error), retry_after(error.response.headers, time.time())
            except (openai.APIConnectionError, _CutOffError, TooLargeError) as error:
                too_large = error if isinstance(error, TooLargeError) else error.__cause__
                if isinstance(too_large, TooLargeError):
                    raise ModelError(
                        f"the batch API of {self._where} sends {too_large}",
                        hint="check its address; leave `batch` out to send the requests one by one",
                    ) from None
                problem, wait = f"connection failed ({type(error).__name__})", None
            if tries == self._policy.max_retries or (wait or 0) > self._policy.max_wait_s:
                raise ModelError(
                    f"the batch API of {self._where} does not answer: {problem} (after {tries} retries)",
                    hint="run again later: finished answers are kept, and the next run finds the batches under way",
                )
            time.sleep((wait or 0) + backoff(self._policy.backoff_s, tries))
            tries += 1

    def _problem(self, error: APIStatusError) -> str:
        """Returns the message of a status of 400 or more after which another try may help.

        Raises:
            ModelError: no other try helps.
        """
        status, code = error.status_code, error.code or ""
        problem = one_line(f"status {status}: {error.message}", self._secret)
        if status == 404:
            raise MissingError(
                f"{self._where} has no batch API ({problem})",
                valid="an endpoint with /files and /batches, like OpenAI's",
                hint="leave `batch` out: requests are then sent one by one",
            ) from None
        if (fatal_error := fatal(self._where, status, code, problem, answered=False)) is not None:
            raise fatal_error from None
        if refusal_of(status, code, error.message):
            hint = "fix `batch`, or leave it out"
            raise ModelError(f"{self._where} refuses the batch: {problem}", hint=hint) from None
        return problem


def _line_after(chunk: bytes, begun: int) -> int:
    """Returns how many bytes the last line has after a chunk.

    Args:
        chunk: the bytes.
        begun: bytes of the line that the chunk continues.

    Raises:
        TooLargeError: a line is longer than any answer.
    """
    *ended, last = chunk.split(b"\n")
    longest = max(map(len, (*ended, last)))
    if longest > MOST_BYTES or begun + len(ended[0] if ended else last) > MOST_BYTES:
        raise TooLargeError(f"a line of more than {MOST_BYTES >> 20} MB")
    return len(last) if ended else begun + len(last)


def _next(chunks: Iterator[bytes]) -> bytes:
    """Returns the next chunk of a download; empty at its end."""
    try:
        return next(chunks, b"")
    except Exception as error:
        # The class of the exception depends on the HTTP library of the client's version.
        raise _CutOffError(f"{type(error).__name__}: {error}") from error
