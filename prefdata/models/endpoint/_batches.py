"""The batch half of `chat_endpoint`: requests go out in files and come back in files, joined by id.

Nothing about a batch is kept on this machine. Every batch bears a mark in its metadata and every request a name that
follows from its content, so that a run that was killed finds its batches at the provider, whatever was lost here.
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
from prefdata.models.endpoint._budget import Purse
from prefdata.models.endpoint._chat_answer import cleaned, fatal, read_completion, refusal_of, usage_of
from prefdata.models.endpoint._chat_client import Ask, Lost, Outcome
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
        # Closed by `close`, in another method than the one that opens it.
        self.content: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.asks: dict[str, Ask] = {}
        self.size = 0

    def add(self, ask: Ask, line: bytes) -> None:
        self.content.write(line)
        self.size += len(line)
        self.asks[ask.name] = ask

    def close(self) -> None:
        self.content.close()


class _Earlier:
    """What batches of earlier runs hold: answers by request name, in files, and names that are still under way."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[IO[bytes], int]] = {}
        self.under_way: dict[str, str] = {}
        """Request name → id of the batch."""

    def line(self, name: str) -> JSON | None:
        if name not in self.answers:
            return None
        file, place = self.answers.pop(name)
        file.seek(place)
        return json.loads(file.readline())


class Batches:
    """Carries out requests through one endpoint's batch API.

    Args:
        api: the calls.
        batch: sizes and waits.
        where: what messages call the endpoint.
        secret: the API key, cut out of every text that leaves this object.
        max_retries: how often a request that came back unanswered is asked again.
        purse: pays for what comes back.
        log: takes lines for the person who watches.
    """

    def __init__(
        self,
        api: BatchAPI,
        batch: Batch,
        where: str,
        secret: str,
        max_retries: int,
        purse: Purse,
        log: Callable[[str], None],
    ) -> None:
        self._api, self._batch, self._where = api, batch, where
        self._secret, self._max_retries, self._purse, self._log = secret, max_retries, purse, log
        self._running: dict[str, dict[str, Ask]] = {}
        """Id of each batch under way → its requests that wait, by name."""
        self._again: deque[Ask] = deque()
        self._retries: dict[str, int] = {}
        """Name of a request that came back unanswered → how often."""
        self._paid: dict[str, Spent] = {}
        """Name of such a request → what it has cost so far."""
        self._crowded: set[str] = set()
        """Batches that were made while others were under way."""
        self._queue_full = False

    def outcomes(self, asks: Iterator[Ask], mark: str) -> Generator[Outcome, None, None]:
        """What becomes of each request; see `ChatEndpoint.generate`.

        Args:
            asks: pulled until as many files are filled as may be under way.
            mark: what the batches of this run and of earlier ones of the same kind bear.
        """
        with contextlib.ExitStack() as files:
            earlier = self._find_earlier(mark, files)
            file = _File()
            waiting: Ask | None = None
            exhausted = False
            try:
                while True:
                    under_way = sum(map(bool, self._running.values()))
                    room = under_way < self._batch.max_batches and not self._queue_full
                    if waiting is None and room:
                        waiting = self._again.popleft() if self._again else next(asks, None)
                        exhausted = waiting is None
                    if waiting is not None and (outcome := self._known(waiting, earlier)) is not None:
                        waiting = None
                        yield from outcome
                        continue
                    if waiting is not None and self._put(file, waiting):
                        waiting = None
                        continue
                    # A file that more may go into waits for it.
                    if file.asks and room and (waiting is not None or exhausted):
                        self._submit(file, mark)
                        file = _File()
                        continue
                    if not under_way:
                        if waiting is not None:
                            raise self._purse.error(waiting.bound)
                        if exhausted and not self._again:
                            return
                        self._queue_full = False
                        continue
                    yield from self._look()
            finally:
                file.close()

    def _known(self, ask: Ask, earlier: _Earlier) -> list[Outcome] | None:
        """The outcome, in a list that is empty where a batch of an earlier run will tell it; None: it must be asked."""
        if (line := earlier.line(ask.name)) is not None:
            outcome = self._read(ask, line)
            return [] if outcome is None else [outcome]
        batch = earlier.under_way.pop(ask.name, None)
        if batch is None or batch not in self._running:
            return None
        self._purse.reserve(ask.key, ask.bound, at_any_rate=True)
        self._running[batch][ask.name] = ask
        return []

    def _put(self, file: _File, ask: Ask) -> bool:
        """Puts a request into the file; False where the file is full or the budget does not allow it."""
        body = {**ask.body, **ask.body.get("extra_body", {})}
        body.pop("extra_body", None)
        request = {"custom_id": ask.name, "method": "POST", "url": URL, "body": body}
        line = json.dumps(request, ensure_ascii=False).encode() + b"\n"
        full = len(file.asks) >= self._batch.max_requests or file.size + len(line) > self._batch.max_bytes
        if (file.asks and full) or not self._purse.reserve(ask.key, ask.bound):
            return False
        file.add(ask, line)
        return True

    def _submit(self, file: _File, mark: str) -> None:
        """Makes a batch of a file."""
        batch = self._api.make(file.content, self._batch.completion_window, mark)
        file.close()
        if any(self._running.values()):
            self._crowded.add(batch.id)
        self._running[batch.id] = file.asks
        self._log(f"batch {batch.id}: {len(file.asks):,} requests")

    def _look(self) -> Generator[Outcome, None, None]:
        """Waits, then takes what ended. A batch of an earlier run that no request waits for is left alone."""
        time.sleep(self._batch.poll_s)
        for batch_id in [name for name, asks in self._running.items() if asks]:
            batch = self._api.look(batch_id)
            if batch.status in _ENDED:
                yield from self._take(batch)

    def _take(self, batch: Any) -> Generator[Outcome, None, None]:
        """The outcomes of a batch that has ended; what it left unanswered is asked again."""
        asks = self._running[batch.id]
        told = ", ".join(_errors(batch))
        self._log(f"batch {batch.id}: {batch.status}")
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            with self._api.fetched(file_id) as file:
                for line in filter(None, map(_json, file)):
                    ask = asks.pop(line.get("custom_id"), None)
                    if ask is not None and (outcome := self._read(ask, line)) is not None:
                        yield outcome
        del self._running[batch.id]
        for ask in asks.values():
            self._purse.settle(ask.key)
        if batch.status == "failed" and _FULL_QUEUE in told and batch.id in self._crowded:
            # The provider takes no more until others have ended; that is no failure of these requests.
            self._again.extend(asks.values())
            self._queue_full = any(self._running.values())
            return
        self._queue_full = False
        if batch.status in ("failed", "cancelled"):
            why = cleaned(told, self._secret) or "no reason told"
            raise ModelError(
                f"the batch {batch.id!r} of {self._where} has {batch.status}: {why}",
                hint="mend what it says and run again: finished answers are kept",
            )
        for ask in asks.values():
            reason = "timed_out" if batch.status == "expired" else "request_failed"
            yield from self._unanswered(ask, reason, f"the batch {batch.id} has {batch.status} without an answer")

    def _read(self, ask: Ask, line: JSON) -> Outcome | None:
        """What one line says; None where the request is asked again."""
        self._purse.settle(ask.key)
        status, body = _response(line)
        if status == 200:
            self._paid[ask.name] = self._paid.get(ask.name, Spent()) + self._purse.pay(ask.bound, usage_of(body))
            try:
                return self._outcome(ask, read_completion(ask.key, body), "")
            except ValueError as wrong:
                return next(self._unanswered(ask, "request_failed", f"{wrong}: {body}"), None)
        told = body.get("error") if isinstance(body, dict) else line.get("error")
        told = told if isinstance(told, dict) else {}
        code, message = str(told.get("code") or ""), str(told.get("message") or "")
        if not isinstance(status, int):
            reason = "timed_out" if "expired" in code else "request_failed"
            return next(self._unanswered(ask, reason, f"{code}: {message}"), None)
        what = cleaned(f"status {status}: {message}", self._secret)
        if (end := fatal(self._where, status, code, what, answered=True)) is not None:
            raise end
        if slug := refusal_of(status, code, message):
            return self._failed(ask, slug, what, lost=False)
        return next(self._unanswered(ask, "request_failed", what), None)

    def _unanswered(self, ask: Ask, reason: str, what: str) -> Iterator[Outcome]:
        """Has a request asked again, or gives its failure when the retries are used up."""
        retries = self._retries.get(ask.name, 0)
        if retries < self._max_retries:
            self._retries[ask.name] = retries + 1
            self._again.append(ask)
        else:
            yield self._failed(ask, reason, what, lost=True)

    def _failed(self, ask: Ask, reason: str, what: str, *, lost: bool) -> Outcome:
        retries = self._retries.get(ask.name, 0)
        detail = cleaned(what, self._secret) + (f" (after {retries} retries)" if retries else "")
        generation = Generation(key=ask.key, text=None, failure=reason, detail=detail)
        return self._outcome(ask, generation, "other" if lost else "")

    def _outcome(self, ask: Ask, generation: Generation, lost: Lost) -> Outcome:
        return Outcome(generation, self._retries.pop(ask.name, 0), lost, self._paid.pop(ask.name, Spent()))

    def _find_earlier(self, mark: str, files: contextlib.ExitStack) -> _Earlier:
        """Looks for the batches of earlier runs, which are paid for or under way."""
        earlier = _Earlier()
        for batch in self._api.marked(mark):
            if batch.status not in _ENDED:
                self._running[batch.id] = {}
                self._log(f"batch {batch.id} of an earlier run is {batch.status}")
                # Which requests it holds stands in the file that it was made of.
                with self._api.fetched(batch.input_file_id) as file:
                    for line in filter(None, map(_json, file)):
                        earlier.under_way[line["custom_id"]] = batch.id
            elif batch.output_file_id:
                try:
                    file = files.enter_context(self._api.fetched(batch.output_file_id))
                except MissingError:
                    self._log(f"the output of batch {batch.id} of an earlier run is no longer there")
                    continue
                place = 0
                for text in file:
                    line = _json(text)
                    if line is not None and _response(line)[0] == 200:
                        earlier.answers[line["custom_id"]] = (file, place)
                    place += len(text)
        return earlier


def _response(line: dict[str, JSON]) -> tuple[JSON, JSON]:
    """Status and body of the response in a line; None where there is none."""
    response = line.get("response")
    return (response.get("status_code"), response.get("body")) if isinstance(response, dict) else (None, None)


def _errors(batch: Any) -> Iterator[str]:
    for error in (batch.errors.data if batch.errors else None) or ():
        yield f"{error.code}: {error.message}"


def _json(text: bytes) -> JSON | None:
    """A line of a file; None for one that is torn, whose request counts as unanswered."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("custom_id"), str) else None
