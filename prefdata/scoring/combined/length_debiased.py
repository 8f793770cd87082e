"""`LengthDebiased`: another scorer's scores without what length alone explains of them."""

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

if TYPE_CHECKING:
    from prefdata.scoring import AnyScorer

__all__ = ["LengthDebiased"]

_DIGITS = 6
_DECIMALS = 12
_LARGEST = 1e140
_NOISE = 1e-12
"""What is left of a sum of squares when a line goes through every point: last bits."""


class LengthDebiased(CompositeScorer):
    """Takes the linear effect of length within prompts out of a scorer's scores.

    Score - strength x slope x (length - mean length of the prompt's scored answers). The slope is that of the least
    squares line of score on length with a level of its own for each prompt (fixed effects), over all scored answers of
    the dataset: easy prompts that get both long answers and high scores don't enter it. With strength 1 score and
    length are uncorrelated within prompts. Length-controlled AlpacaEval (Dubois et al., 2024, arXiv:2404.04475)
    controls for length by regression; this is the linear form within prompts.

    Blank answers neither enter the fit nor are changed. The scorer's comparisons are left out, as they know nothing of
    the correction.
    """

    kind: Literal["length_debiased"] = "length_debiased"
    scorer: AnyScorer
    """Whose scores are corrected."""
    unit: Literal["characters", "words"] = "characters"
    """What is counted: Unicode code points, or words between white space."""
    of: Literal["log", "length"] = "log"
    """Regresses on the logarithm of the length, so that a doubling counts the same for short and long answers; or on
    the length itself."""
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0
    """How much of the effect is taken out."""

    def members(self) -> Mapping[str, Scorer]:
        """The scorer, as `scorer`."""
        return {"scorer": self.scorer}

    def fit(self, given: Callable[[], Iterable[MemberScores]]) -> JSON:
        """The slope and what it does; see `CompositeScorer.fit`.

        Returns:
            `slope`, 0 where no prompt has answers of several lengths; `answers`, how many entered; and
            `correlation_before` and `correlation_after`, of score and length within prompts, null where one of the two
            does not vary.

        Raises:
            InputError: the scores are so large that their squares overflow.
        """
        sums = [self.sums(one, said["scorer"].scores) for one, said in given()]
        return self._facts(*(math.fsum(column) for column in zip((0, 0, 0, 0), *sums, strict=True)))

    def sums(self, answers: Answers, scores: Sequence[Score]) -> tuple[float, float, float, float]:
        """Of one prompt: how many answers enter the fit, and their sums of xx, xy and yy from the prompt's means.

        Raises:
            InputError: the scores are so large that their squares overflow.
        """
        points = list(self._points(answers.candidates, scores).values())
        return (float(len(points)), *_squares(points))

    def recompute_fit(self, sums: Iterable[tuple[float, float, float, float]], slope: float) -> dict[str, JSON]:
        """What `fit` made of a dataset, from `sums` of the corrected scores: the slope follows where it fits them.

        Args:
            sums: of every prompt.
            slope: that was taken out, as far as `strength` says.
        """
        n, xx, xy, yy = (math.fsum(column) for column in zip((0, 0, 0, 0), *sums, strict=True))
        taken = self.strength * slope
        return self._facts(n, xx, xy + taken * xx, yy + 2 * taken * xy + taken * taken * xx)

    def _facts(self, answers: float, xx: float, xy: float, yy: float) -> dict[str, JSON]:
        slope = xy / xx if xx else 0.0
        taken = self.strength * slope
        # The sums of score - taken x length.
        after_xy, after_yy = xy - taken * xx, yy - 2 * taken * xy + taken * taken * xx
        return {
            "slope": slope,
            "answers": int(answers),
            "correlation_before": _correlation(xx, xy, yy, 0.0),
            "correlation_after": _correlation(xx, after_xy, after_yy, _NOISE * yy),
        }

    def combine(self, given: MemberScores, fitted: JSON) -> Scored:
        """The corrected scores. What the scorer left unscored stays so, under its reason."""
        answers, said = given
        points = self._points(answers.candidates, said["scorer"].scores)
        mean = math.fsum(x for x, _ in points.values()) / max(len(points), 1)

        def corrected(score: Score) -> Score:
            if (point := points.get((score.source, score.index))) is None:
                return score
            taken = self.strength * float(fitted["slope"]) * (point[0] - mean)
            return replace(score, score=round(point[1] - taken, _DECIMALS))

        return Scored(answers.prompt.prompt_id, tuple(map(corrected, said["scorer"].scores)))

    def _points(
        self, candidates: Sequence[Candidate], scores: Sequence[Score]
    ) -> dict[tuple[str, int], tuple[float, float]]:
        """Length, as it is regressed on, and score of each scored answer that is not blank."""
        scored = {(score.source, score.index): score.score for score in scores}
        return {
            (one.source, one.index): (self._length(one.response), score)
            for one in candidates
            if one.response.strip() and (score := scored[one.source, one.index]) is not None
        }

    def _length(self, text: str) -> float:
        length = len(text) if self.unit == "characters" else len(text.split())
        return math.log(length) if self.of == "log" else float(length)


def _squares(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Sums of xx, xy and yy over one prompt's points, from their means."""
    if not points:
        return 0.0, 0.0, 0.0
    if (largest := max(abs(y) for _, y in points)) > _LARGEST:
        raise InputError(f"the score {largest!r} is too large for a line through it", valid=f"scores up to {_LARGEST}")
    # From the first point, so that lengths which are all the same have a sum of exactly 0.
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
