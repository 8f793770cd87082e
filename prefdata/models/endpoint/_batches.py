"""Sends the requests of `chat_endpoint` in batches: in files, whose answers are joined to the requests by id.

Nothing about a batch is kept on this machine. Every batch has a mark in its metadata, and every request a name that
follows from its content, so the run after a killed one finds its batches at the provider.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import IO, Any

from prefdata.errors import ModelError
from prefdata.models.endpoint._batch_api import URL, BatchAPI, MissingError
from prefdata.models.endpoint._budget import Budget
from prefdata.models.endpoint._chat_answer import fatal, one_line, read_completion, refusal_of, usage_of
from prefdata.models.endpoint._chat_client import ChatRequest, Lost, Outcome
from prefdata.models.endpoint.batch import Batch
from prefdata.models.endpoint.spending import Spent
from prefdata.records import Generation
from prefdata.spec import JSON

__all__ = ["Batches"]

_ENDED = frozenset({"completed", "expired", "cancelled", "failed"})
_FULL_QUEUE = "token_limit_exceeded"


class _File:
    """A JSON-lines file that is being filled; on disk, since it may have 200 MB."""

    def __init__(self) -> None:
        self.content: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self.requests: dict[str, ChatRequest] = {}
        """The requests in the file, by name."""
        self.size = 0
        """Bytes."""

    def add(self, request: ChatRequest, line: bytes) -> None:
        self.content.write(line)
        self.size += len(line)
        self.requests[request.name] = request

    def close(self) -> None:
        self.content.close()


class _Earlier:
    """The batches of earlier runs: answers by request name, in files, and names that are still under way."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[IO[bytes], int]] = {}
        """Request name → file, and where the answer's line begins in it, in bytes."""
        self.under_way: dict[str, str] = {}
        """Request name → id of the batch."""

    def line(self, name: str) -> JSON | None:
        """Takes and returns the answer to a request; None if there is none."""
        if name not in self.answers:
            return None
        file, offset = self.answers.pop(name)
        file.seek(offset)
        return json.loads(file.readline())


class Batches:
    """Sends requests through one endpoint's batch API.

    Args:
        api: makes the calls.
        batch: sizes and waits.
        where: name of the endpoint in messages.
        secret: the API key, removed from every text that leaves this object.
        max_retries: how often a request that came back unanswered is sent again.
        budget: reserves and records costs.
        log: takes lines for people to read.
    """

    def __init__(
        self,
        api: BatchAPI,
        batch: Batch,
        where: str,
        secret: str,
        max_retries: int,
        budget: Budget,
        log: Callable[[str], None],
    ) -> None:
        self._api, self._batch, self._where = api, batch, where
        self._secret, self._max_retries, self._budget, self._log = secret, max_retries, budget, log
        self._running: dict[str, dict[str, ChatRequest]] = {}
        """Id of each batch under way → its unanswered requests, by name."""
        self._resend: deque[ChatRequest] = deque()
        """Requests that came back unanswered and are sent again."""
        self._retries: dict[str, int] = {}
        """Name of a request that came back unanswered → how often."""
        self._paid: dict[str, Spent] = {}
        """Name of such a request → what it has cost so far."""
        self._crowded: set[str] = set()
        """Batches that were made while others were under way."""
        self._queue_full = False

    def outcomes(self, requests: Iterator[ChatRequest], mark: str) -> Generator[Outcome, None, None]:
        """Yields the outcome of each request; see `ChatEndpoint.generate`.

        Args:
            requests: pulled until as many files are filled as may be under way.
            mark: shared by the batches of this run and of earlier runs with the same account, decoding and seed.
        """
        with contextlib.ExitStack() as files:
            earlier = self._find_earlier(mark, files)
            file = _File()
            waiting: ChatRequest | None = None
            exhausted = False
            try:
                while True:
                    under_way = sum(map(bool, self._running.values()))
                    room = under_way < self._batch.max_batches and not self._queue_full
                    if waiting is None and room:
                        waiting = self._resend.popleft() if self._resend else next(requests, None)
                        exhausted = waiting is None
                    if waiting is not None and (outcomes := self._from_earlier(waiting, earlier)) is not None:
                        waiting = None
                        yield from outcomes
                        continue
                    if waiting is not None and self._put(file, waiting):
                        waiting = None
                        continue
                    # A file with room is not sent before the last request.
                    if file.requests and room and (waiting is not None or exhausted):
                        self._submit(file, mark)
                        file = _File()
                        continue
                    if not under_way:
                        if waiting is not None:
                            raise self._budget.error(waiting.bound)
                        if exhausted and not self._resend:
                            return
                        self._queue_full = False
                        continue
                    yield from self._poll()
            finally:
                file.close()

    def _from_earlier(self, request: ChatRequest, earlier: _Earlier) -> list[Outcome] | None:
        """Looks a request up in the batches of earlier runs.

        Returns:
            `[outcome]` if an earlier batch has answered, `[]` while that batch is still running (or if its answer can't
            be used, and the request is sent again), None if the request must be sent.
        """
        if (line := earlier.line(request.name)) is not None:
            outcome = self._read(request, line)
            return [] if outcome is None else [outcome]
        batch = earlier.under_way.pop(request.name, None)
        if batch is None or batch not in self._running:
            return None
        self._budget.reserve(request.key, request.bound, always=True)
        self._running[batch][request.name] = request
        return []

    def _put(self, file: _File, request: ChatRequest) -> bool:
        """Adds a request to the file; returns False if the file is full or the budget does not allow the request."""
        body = {**request.body, **request.body.get("extra_body", {})}
        body.pop("extra_body", None)
        row = {"custom_id": request.name, "method": "POST", "url": URL, "body": body}
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        full = len(file.requests) >= self._batch.max_requests or file.size + len(line) > self._batch.max_bytes
        if (file.requests and full) or not self._budget.reserve(request.key, request.bound):
            return False
        file.add(request, line)
        return True

    def _submit(self, file: _File, mark: str) -> None:
        """Makes a batch of a file, and closes the file."""
        batch = self._api.make(file.content, self._batch.completion_window, mark)
        file.close()
        if any(self._running.values()):
            self._crowded.add(batch.id)
        self._running[batch.id] = file.requests
        self._log(f"batch {batch.id}: {len(file.requests):,} requests")

    def _poll(self) -> Generator[Outcome, None, None]:
        """Waits, then yields the outcomes of batches that have ended; skips batches without requests of this run."""
        time.sleep(self._batch.poll_s)
        for batch_id in [name for name, requests in self._running.items() if requests]:
            batch = self._api.retrieve(batch_id)
            if batch.status in _ENDED:
                yield from self._finish(batch)

    def _finish(self, batch: Any) -> Generator[Outcome, None, None]:
        """Yields the outcomes of a batch that has ended; requests that it left unanswered are sent again."""
        requests = self._running[batch.id]
        errors = ", ".join(_errors(batch))
        self._log(f"batch {batch.id}: {batch.status}")
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            with self._api.download(file_id) as file:
                for line in filter(None, map(_json, file)):
                    request = requests.pop(line.get("custom_id"), None)
                    if request is not None and (outcome := self._read(request, line)) is not None:
                        yield outcome
        del self._running[batch.id]
        for request in requests.values():
            self._budget.settle(request.key)
        if batch.status == "failed" and _FULL_QUEUE in errors and batch.id in self._crowded:
            # The provider takes no more batches until others have ended; these requests themselves have not failed.
            self._resend.extend(requests.values())
            self._queue_full = any(self._running.values())
            return
        self._queue_full = False
        if batch.status in ("failed", "cancelled"):
            reason = one_line(errors, self._secret) or "the provider gives no reason"
            raise ModelError(
                f"the batch {batch.id!r} of {self._where} has {batch.status}: {reason}",
                hint="remove that cause and run again: finished answers are kept",
            )
        for request in requests.values():
            slug = "timed_out" if batch.status == "expired" else "request_failed"
            yield from self._unanswered(request, slug, f"the batch {batch.id} has {batch.status} without an answer")

    def _read(self, request: ChatRequest, line: JSON) -> Outcome | None:
        """Returns the outcome in one line of a batch's output; None if the request is sent again."""
        self._budget.settle(request.key)
        status, body = _response(line)
        if status == 200:
            paid = self._budget.pay(request.bound, usage_of(body))
            self._paid[request.name] = self._paid.get(request.name, Spent()) + paid
            try:
                return self._outcome(request, read_completion(request.key, body), "")
            except ValueError as unreadable:
                return next(self._unanswered(request, "request_failed", f"{unreadable}: {body}"), None)
        error = body.get("error") if isinstance(body, dict) else line.get("error")
        error = error if isinstance(error, dict) else {}
        code, message = str(error.get("code") or ""), str(error.get("message") or "")
        if not isinstance(status, int):
            slug = "timed_out" if "expired" in code else "request_failed"
            return next(self._unanswered(request, slug, f"{code}: {message}"), None)
        problem = one_line(f"status {status}: {message}", self._secret)
        if (fatal_error := fatal(self._where, status, code, problem, answered=True)) is not None:
            raise fatal_error
        if slug := refusal_of(status, code, message):
            return self._failed(request, slug, problem, lost=False)
        return next(self._unanswered(request, "request_failed", problem), None)

    def _unanswered(self, request: ChatRequest, slug: str, problem: str) -> Iterator[Outcome]:
        """Schedules a request to be sent again; yields its failure instead if the retries are used up."""
        retries = self._retries.get(request.name, 0)
        if retries < self._max_retries:
            self._retries[request.name] = retries + 1
            self._resend.append(request)
        else:
            yield self._failed(request, slug, problem, lost=True)

    def _failed(self, request: ChatRequest, slug: str, problem: str, *, lost: bool) -> Outcome:
        retries = self._retries.get(request.name, 0)
        detail = one_line(problem, self._secret) + (f" (after {retries} retries)" if retries else "")
        generation = Generation(key=request.key, text=None, failure=slug, detail=detail)
        return self._outcome(request, generation, "other" if lost else "")

    def _outcome(self, request: ChatRequest, generation: Generation, lost: Lost) -> Outcome:
        return Outcome(generation, self._retries.pop(request.name, 0), lost, self._paid.pop(request.name, Spent()))

    def _find_earlier(self, mark: str, files: contextlib.ExitStack) -> _Earlier:
        """Finds the batches of earlier runs that are paid for or under way."""
        earlier = _Earlier()
        for batch in self._api.marked(mark):
            if batch.status not in _ENDED:
                self._running[batch.id] = {}
                self._log(f"batch {batch.id} of an earlier run is {batch.status}")
                # The file that the batch was made of names its requests.
                with self._api.download(batch.input_file_id) as file:
                    for line in filter(None, map(_json, file)):
                        earlier.under_way[line["custom_id"]] = batch.id
            elif batch.output_file_id:
                try:
                    file = files.enter_context(self._api.download(batch.output_file_id))
                except MissingError:
                    self._log(f"the provider no longer has the output of batch {batch.id} of an earlier run")
                    continue
                offset = 0
                for text in file:
                    line = _json(text)
                    if line is not None and _response(line)[0] == 200:
                        earlier.answers[line["custom_id"]] = (file, offset)
                    offset += len(text)
        return earlier


def _response(line: dict[str, JSON]) -> tuple[JSON, JSON]:
    """Returns status and body of the response in a line; None for each that is missing."""
    response = line.get("response")
    return (response.get("status_code"), response.get("body")) if isinstance(response, dict) else (None, None)


def _errors(batch: Any) -> Iterator[str]:
    for error in (batch.errors.data if batch.errors else None) or ():
        yield f"{error.code}: {error.message}"


def _json(text: bytes) -> JSON | None:
    """Parses a line of a file; returns None for a damaged one, whose request then counts as unanswered."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("custom_id"), str) else None
