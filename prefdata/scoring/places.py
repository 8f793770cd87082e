"""Where a scorer's model saw each answer, among those that it saw together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prefdata.lazy import pl
from prefdata.records import Answers
from prefdata.scoring.base import Scorer
from prefdata.spec import Context
from prefdata.tables.schemas import CANDIDATE_KEY

__all__ = ["with_places"]


def with_places(
    frame: pl.DataFrame, scorer: Scorer, prompts: Callable[[], Iterable[Answers]], context: Context
) -> pl.DataFrame:
    """Adds `place`, the position at which a model saw each answer; returns the frame as it is if it saw each by itself.

    Args:
        frame: the answers, with the columns of `CANDIDATE_KEY`.
        scorer: of these answers.
        prompts: reads them as the scorer had them. Few scorers see answers together, and no others need such records.
        context: the seed and pins that the scorer had.
    """
    if type(scorer).shown_order is Scorer.shown_order:
        return frame
    places = [
        (each.prompt_id, each.source, each.index, place)
        for answers in prompts()
        for place, each in enumerate(scorer.shown_order(answers, context) or ())
    ]
    if not places:
        return frame
    return frame.join(pl.DataFrame(places, [*CANDIDATE_KEY, "place"], orient="row"), on=CANDIDATE_KEY, how="left")
