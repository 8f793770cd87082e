"""How every judge asks: requests streamed into one model, replies put together by prompt."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from prefdata.errors import ConservationError
from prefdata.models import Decoding, Generator
from prefdata.records import Candidate, Generation, Message, Request, Scored
from prefdata.spec import Context, canonical_json

__all__ = ["Questions", "ask", "key_of", "one_turn"]


@dataclass(frozen=True, slots=True)
class Questions:
    """What a judge asks about one prompt, and how it reads the replies."""

    prompt_id: str
    requests: tuple[Request, ...]
    """May be empty: then nobody is asked."""
    read: Callable[[Sequence[Generation]], Scored]
    """Takes the replies in the order of the requests."""


def ask(questions: Iterable[Questions], generator: Generator, decoding: Decoding, context: Context) -> Iterator[Scored]:
    """Asks everything and yields each prompt once its last reply is there.

    Questions are pulled as the model has room for them. With nothing to ask, no model is started.

    Args:
        questions: one for each prompt.
        generator: the judge's model, in its field `generator`.
        decoding: how replies are drawn.
        context: the judge's.

    Raises:
        ConservationError: a prompt came twice; or the generator answered something that was not asked, or left
            something out.
    """
    waiting: dict[str, _Replies] = {}
    unasked: deque[Scored] = deque()

    def requests() -> Iterator[Request]:
        for asked in questions:
            if not asked.requests:
                unasked.append(asked.read(()))
                continue
            replies = _Replies(asked)
            for request in asked.requests:
                if waiting.setdefault(request.key, replies) is not replies:
                    raise ConservationError(f"prompt {asked.prompt_id!r} came to the judge twice")
            yield from asked.requests

    pulled = requests()
    # The first request is made before the engine is: with nothing to ask, none is started.
    if (first := next(pulled, None)) is not None:
        for reply in generator.generate(chain([first], pulled), decoding, context.child("generator")):
            while unasked:
                yield unasked.popleft()
            found = waiting.pop(reply.key, None)
            if found is None:
                raise ConservationError(f"the judge's model answered {reply.key!r}, which was not asked")
            found.by_key[reply.key] = reply
            if found.complete:
                yield found.scored()
    yield from unasked
    if waiting:
        raise ConservationError(f"the judge's model left out {len(waiting)} requests, {min(waiting)!r} among them")


class _Replies:
    """The replies to one prompt's requests, so far."""

    def __init__(self, asked: Questions) -> None:
        self.asked = asked
        self.by_key: dict[str, Generation] = {}

    @property
    def complete(self) -> bool:
        return len(self.by_key) == len(self.asked.requests)

    def scored(self) -> Scored:
        return self.asked.read([self.by_key[request.key] for request in self.asked.requests])


def one_turn(text: str) -> tuple[Message, ...]:
    """A request as one user turn: some chat templates have no system role, others put their own text there."""
    return (Message(role="user", content=text),)


def key_of(*shown: Candidate) -> str:
    """The key of the request that shows these candidates of one prompt, in this order."""
    names = [part for candidate in shown for part in (candidate.source, candidate.index)]
    return f"{shown[0].prompt_id} {canonical_json(names)}"
