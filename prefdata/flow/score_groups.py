"""Scoring by groups of prompts: which prompts make a group, and how its scores come to the shards.

A group is so many prompts in a row of all prompts of a build, so it is the same however they are cut into shards. What
stands of it in one shard is a piece: the unit that is asked, journalled and written. A piece is always scored with its
whole group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from prefdata.errors import ConservationError
from prefdata.flow.rows import check_scored, scored_of
from prefdata.records import Answers, Scored
from prefdata.scoring import GroupScorer
from prefdata.spec import JSON, Context

__all__ = ["Groups", "Piece", "check_piece", "dump_piece", "key_of_scores", "load_piece"]


@dataclass(frozen=True)
class Piece:
    """The prompts of one group that stand in one shard and have candidates; one at least."""

    group: int
    answers: tuple[Answers, ...]

    @property
    def key(self) -> str:
        """Unique among all pieces: prompts stand in the order of their ids."""
        return _key([one.prompt.prompt_id for one in self.answers])


@dataclass(frozen=True)
class Groups:
    """The groups of all prompts."""

    size: int
    """Prompts of a group, with or without candidates; the last group may have fewer."""
    shard_size: int
    """Prompts of a shard; the last shard may have fewer."""
    shards: range
    prompt_ids: Callable[[int], Sequence[str]]
    """The ids of a shard's prompts, in their order."""
    answers: Callable[[int], Sequence[Answers]]
    """The prompts of a shard that have candidates, in their order."""

    def pieces(self, shard: int) -> list[Piece]:
        """The pieces that stand in a shard, in order."""
        start = shard * self.shard_size
        group = {prompt_id: place // self.size for place, prompt_id in enumerate(self.prompt_ids(shard), start)}
        by_group = groupby(self.answers(shard), key=lambda one: group[one.prompt.prompt_id])
        return [Piece(number, tuple(found)) for number, found in by_group]

    def score(self, scorer: GroupScorer, pieces: Iterable[Piece], context: Context) -> Iterator[tuple[Scored, ...]]:
        """Scores pieces, each with its whole group; pieces of one group that follow each other, once together.

        Raises:
            ConservationError: the scorer gave a group back that is not one of those that it got.
        """
        waiting: dict[str, tuple[tuple[Answers, ...], tuple[Piece, ...]]] = {}

        def wholes() -> Iterator[tuple[Answers, ...]]:
            for number, found in groupby(pieces, key=lambda piece: piece.group):
                asked = tuple(found)
                whole = self._whole(number, asked)
                waiting[whole[0].prompt.prompt_id] = whole, asked
                yield whole

        for results in scorer.score_groups(wholes(), context):
            ids = [scored.prompt_id for scored in results]
            whole, asked = waiting.pop(ids[0] if ids else "", ((), ()))
            if not whole or ids != [one.prompt.prompt_id for one in whole]:
                raise ConservationError(f"scores: a group of prompts came back as {ids}")
            by_id = dict(zip(ids, results, strict=True))
            for piece in asked:
                yield tuple(by_id[one.prompt.prompt_id] for one in piece.answers)

    def _whole(self, number: int, asked: Sequence[Piece]) -> tuple[Answers, ...]:
        """All prompts of a group that have candidates, of which some pieces are at hand."""
        begins, ends = number * self.size, (number + 1) * self.size
        shards = range(begins // self.shard_size, min((ends - 1) // self.shard_size + 1, self.shards.stop))
        if len(shards) == 1:
            return asked[0].answers
        pieces = [piece for shard in shards for piece in self.pieces(shard) if piece.group == number]
        return tuple(one for piece in pieces for one in piece.answers)


def key_of_scores(results: Sequence[Scored]) -> str:
    """The key of the piece that these are the scores of."""
    return _key([scored.prompt_id for scored in results])


def check_piece(piece: Piece, results: Sequence[Scored]) -> None:
    """Whether the scores of a piece account for each of its prompts; see `prefdata.flow.rows.check_scored`."""
    for answers, scored in zip(piece.answers, results, strict=True):
        check_scored(answers, scored)


def dump_piece(results: Sequence[Scored]) -> JSON:
    """The scores of a piece, for a journal."""
    return {"scored": [asdict(scored) for scored in results]}


def load_piece(record: JSON) -> tuple[Scored, ...]:
    """What a journal holds of a piece's scores."""
    return tuple(map(scored_of, record["scored"]))


def _key(prompt_ids: Sequence[str]) -> str:
    return f"{prompt_ids[0]} to {prompt_ids[-1]}"
