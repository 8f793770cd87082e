"""Streams the requests of a judge into its model, and collects the replies by prompt."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from prefdata.errors import ConservationError
from prefdata.models import Decoding, Generator, generate
from prefdata.records import Candidate, Generation, Message, Request, Scored
from prefdata.spec import Context, canonical_json

__all__ = ["Questions", "ask", "key_of", "one_turn"]


@dataclass(frozen=True, slots=True)
class Questions:
    """A judge's requests about one prompt, and a function that reads the replies."""

    prompt_id: str
    requests: tuple[Request, ...]
    """May be empty: then the model is not asked about this prompt."""
    read: Callable[[Sequence[Generation]], Scored]
    """Takes the replies in the order of the requests."""


def ask(questions: Iterable[Questions], generator: Generator, decoding: Decoding, context: Context) -> Iterator[Scored]:
    """Sends all requests, and yields each prompt when its last reply has come.

    Questions are pulled when the model has room for them. Without any request, no model is started.

    Args:
        questions: one for each prompt.
        generator: the judge's model, in its field `generator`.
        decoding: how replies are drawn.
        context: the judge's.

    Raises:
        ConservationError: a prompt came twice; or the generator answered a request that it was not sent, or left one
            out.
    """
    waiting: dict[str, _Replies] = {}
    without_requests: deque[Scored] = deque()

    def requests() -> Iterator[Request]:
        for one in questions:
            if not one.requests:
                without_requests.append(one.read(()))
                continue
            replies = _Replies(one)
            for request in one.requests:
                if waiting.setdefault(request.key, replies) is not replies:
                    raise ConservationError(f"prompt {one.prompt_id!r} came to the judge twice")
            yield from one.requests

    stream = requests()
    # The first request is made before the generator starts, so that without requests no engine is started.
    if (first := next(stream, None)) is not None:
        for reply in generate(generator, chain([first], stream), decoding, context.child("generator")):
            while without_requests:
                yield without_requests.popleft()
            replies = waiting.pop(reply.key, None)
            if replies is None:
                raise ConservationError(f"the judge's model answered {reply.key!r}, which was not asked")
            replies.by_key[reply.key] = generator.split(reply)
            if replies.complete:
                yield replies.scored()
    yield from without_requests
    if waiting:
        raise ConservationError(f"the judge's model left out {len(waiting)} requests, {min(waiting)!r} among them")


class _Replies:
    """The replies to one prompt's requests, so far."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self.by_key: dict[str, Generation] = {}

    @property
    def complete(self) -> bool:
        return len(self.by_key) == len(self._questions.requests)

    def scored(self) -> Scored:
        return self._questions.read([self.by_key[request.key] for request in self._questions.requests])


def one_turn(text: str) -> tuple[Message, ...]:
    """Returns a request as one user turn: some chat templates have no system role, others put their own text there."""
    return (Message(role="user", content=text),)


def key_of(*shown: Candidate) -> str:
    """Returns the key of the request that shows these candidates of one prompt, in this order."""
    names = [part for candidate in shown for part in (candidate.source, candidate.index)]
    return f"{shown[0].prompt_id} {canonical_json(names)}"
