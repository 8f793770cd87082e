"""Defines `LengthDebiased`, which removes the linear effect of answer length from another scorer's scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from prefdata.errors import InputError
from prefdata.records import Answers, Candidate, Score, Scored
from prefdata.scoring.base import CompositeScorer, MemberScores, Scorer
from prefdata.spec import JSON
from prefdata.spec.marks import Harmless
from prefdata.tables.reasoning import answer_length, answer_of

if TYPE_CHECKING:
    from prefdata.scoring import AnyScorer

__all__ = ["LengthDebiased"]

_DIGITS = 6
_DECIMALS = 12
_LARGEST = 1e140
_NOISE = 1e-12
"""Rounding error of a sum of squares, relative to the sum: what is left of it if a line goes through every point."""


class LengthDebiased(CompositeScorer):
    """Removes the linear effect of length within prompts from a scorer's scores.

    Score - strength x slope x (length - mean length of the prompt's scored answers). The slope is that of the least
    squares line of score on length with a level of its own for each prompt (fixed effects), over all scored answers of
    the dataset, so differences between prompts do not enter it: an easy prompt may get both long answers and high
    scores. With strength 1 score and length are uncorrelated within prompts. Length-controlled AlpacaEval (Dubois et
    al., 2024, arXiv:2404.04475) controls for length by regression; this is the linear form within prompts.

    Blank answers neither enter the fit nor are changed. The scorer's comparisons are left out, because they are not
    corrected.
    """

    kind: Literal["length_debiased"] = "length_debiased"
    scorer: Annotated[AnyScorer, Harmless]
    """The scorer whose scores are corrected."""
    unit: Annotated[Literal["characters", "words"], Harmless] = "characters"
    """Unit of length: `characters` (Unicode code points) or `words` (runs of non-white-space)."""
    of: Annotated[Literal["log", "length"], Harmless] = "log"
    """`log`: regresses on the logarithm of the length, so a doubling counts the same for short and long answers.
    `length`: regresses on the length itself."""
    strength: Annotated[float, Harmless, Field(ge=0, le=1)] = 1.0
    """Share of the effect that is removed, from 0 to 1."""

    def members(self) -> Mapping[str, Scorer]:
        """Returns the scorer, as `scorer`."""
        return {"scorer": self.scorer}

    def fit(self, read_all: Callable[[], Iterable[MemberScores]]) -> JSON:
        """Fits the slope; see `CompositeScorer.fit`.

        Returns:
            `slope`, 0 if no prompt has answers of several lengths; `answers`, the number of answers in the fit; and
            `correlation_before` and `correlation_after`, of score and length within prompts, null if one of the two
            does not vary.

        Raises:
            InputError: the scores are so large that their squares overflow.
        """
        sums = [self.sums(answers, scored["scorer"].scores) for answers, scored in read_all()]
        return self._facts(*(math.fsum(column) for column in zip((0, 0, 0, 0), *sums, strict=True)))

    def sums(self, answers: Answers, scores: Sequence[Score]) -> tuple[float, float, float, float]:
        """Computes, for one prompt, the number of answers in the fit, and the sums of xx, xy and yy about the means.

        x is the length (or its logarithm), y the score, each minus its mean over the prompt.

        Raises:
            InputError: the scores are so large that their squares overflow.
        """
        points = list(self._points(answers.candidates, scores).values())
        return (float(len(points)), *_squares(points))

    def recompute_fit(self, sums: Iterable[tuple[float, float, float, float]], slope: float) -> dict[str, JSON]:
        """Recomputes the result of `fit` from the corrected scores; equals it if these were corrected with `slope`.

        Args:
            sums: results of `sums` for every prompt, with the corrected scores.
            slope: of which `strength` was removed from the scores.
        """
        n, xx, xy, yy = (math.fsum(column) for column in zip((0, 0, 0, 0), *sums, strict=True))
        removed = self.strength * slope
        return self._facts(n, xx, xy + removed * xx, yy + 2 * removed * xy + removed * removed * xx)

    def _facts(self, answers: float, xx: float, xy: float, yy: float) -> dict[str, JSON]:
        slope = xy / xx if xx else 0.0
        removed = self.strength * slope
        # The sums of score - removed x length.
        after_xy, after_yy = xy - removed * xx, yy - 2 * removed * xy + removed * removed * xx
        return {
            "slope": slope,
            "answers": int(answers),
            "correlation_before": _correlation(xx, xy, yy, 0.0),
            "correlation_after": _correlation(xx, after_xy, after_yy, _NOISE * yy),
        }

    def combine(self, member_scores: MemberScores, fitted: JSON) -> Scored:
        """Corrects one prompt's scores. An unscored candidate stays unscored, with its reason."""
        answers, scored = member_scores
        points = self._points(answers.candidates, scored["scorer"].scores)
        mean = math.fsum(x for x, _ in points.values()) / max(len(points), 1)

        def corrected(score: Score) -> Score:
            if (point := points.get((score.source, score.index))) is None:
                return score
            removed = self.strength * float(fitted["slope"]) * (point[0] - mean)
            return replace(score, score=round(point[1] - removed, _DECIMALS))

        return Scored(answers.prompt.prompt_id, tuple(map(corrected, scored["scorer"].scores)))

    def _points(
        self, candidates: Sequence[Candidate], scores: Sequence[Score]
    ) -> dict[tuple[str, int], tuple[float, float]]:
        """Returns length (or its logarithm) and score of each scored answer that is not blank, by candidate."""
        by_candidate = {(score.source, score.index): score.score for score in scores}
        return {
            (one.source, one.index): (self._length(one.response), score)
            for one in candidates
            if answer_of(one.response).strip() and (score := by_candidate[one.source, one.index]) is not None
        }

    def _length(self, text: str) -> float:
        length = answer_length(text, self.unit)
        return math.log(length) if self.of == "log" else float(length)


def _squares(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Sums xx, xy and yy over one prompt's points, about their means."""
    if not points:
        return 0.0, 0.0, 0.0
    if (largest := max(abs(y) for _, y in points)) > _LARGEST:
        raise InputError(f"the score {largest!r} is too large for a line through it", valid=f"scores up to {_LARGEST}")
    # Relative to the first point, so that equal lengths have a sum of exactly 0.
    xs, ys = [x - points[0][0] for x, _ in points], [y - points[0][1] for _, y in points]
    mean_x, mean_y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    xs, ys = [x - mean_x for x in xs], [y - mean_y for y in ys]
    return (
        math.fsum(x * x for x in xs),
        math.fsum(x * y for x, y in zip(xs, ys, strict=True)),
        math.fsum(y * y for y in ys),
    )


def _correlation(xx: float, xy: float, yy: float, noise: float) -> float | None:
    return round(xy / math.sqrt(xx * yy), _DIGITS) if xx and yy > noise else None
