"""`Repetition`: tells answers that repeat themselves from others, whatever their score."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from prefdata.lazy import pl
from prefdata.spec import Spec
from prefdata.spec.marks import Harmless

__all__ = ["Repetition", "repeated_share"]


class Repetition(Spec):
    """When an answer is an automatic negative: too many of its n-grams have occurred in it before.

    Source of the idea: DNO, arXiv 2404.03715, where samples with heavily repeated n-grams are negatives. The paper says
    neither what `n` is nor what is heavy, so both have to be given.
    """

    n: Annotated[int, Harmless, Field(ge=1)]
    """Units of an n-gram."""
    share: Annotated[float, Harmless, Field(gt=0, lt=1)]
    """The least share of the answer's n-grams that repeat an earlier one: see `repeated_share`."""
    unit: Annotated[Literal["words", "characters"], Harmless] = "words"
    """Runs of non-white-space, or Unicode code points, for scripts without spaces."""
    score: Annotated[float, Harmless] = 0.0
    """The score that the rule gives such an answer, in place of its own."""

    def rescored(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """The candidates with `score` in place of the scores of those that repeat themselves; unscored ones stay so."""
        shares = candidates["response"].map_elements(
            lambda text: repeated_share(text, self.n, self.unit), return_dtype=pl.Float64
        )
        negative = pl.col("score").is_not_null() & (shares >= self.share).fill_null(value=False)
        return candidates.with_columns(score=pl.when(negative).then(self.score + 0.0).otherwise("score"))


def repeated_share(text: str, n: int, unit: Literal["words", "characters"] = "words") -> float:
    """The share of a text's n-grams that occurred in it before: (all - distinct) / all; 0 without any n-gram."""
    units = text.split() if unit == "words" else text
    grams = [tuple(units[start : start + n]) for start in range(len(units) - n + 1)]
    return (len(grams) - len(set(grams))) / len(grams) if grams else 0.0
