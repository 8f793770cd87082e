"""Checks length-debiased scores: refitting the regression must give the slope that debiasing leaves behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from prefdata.errors import InputError
from prefdata.records import Answers, Score
from prefdata.scoring import LengthDebiased
from prefdata.spec import JSON
from prefdata.verification.report import Report

_ROUNDING = 1e-11
"""Tolerated error of a debiased score, as a share of the largest one or of 1."""
_DIGITS = 2e-6
"""Tolerated difference of two correlations that are rounded to six decimals."""


@dataclass
class FitCheck:
    """Recomputes the regression. One changed score moves its slope; changes of many scores can cancel out."""

    scorer: LengthDebiased
    report: Report
    largest: float = 1.0
    sums: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Sums of each prompt; see `LengthDebiased.sums`."""

    def add(self, answers: Answers, scores: Sequence[Score]) -> None:
        """Adds one prompt."""
        try:
            self.sums.append(self.scorer.sums(answers, scores))
        except (InputError, OverflowError, ValueError) as error:
            self.report.add("score", "candidates/", prompt_id=answers.prompt.prompt_id, found=str(error))
        else:
            self.largest = max(self.largest, *(abs(score.score or 0.0) for score in scores))

    def check(self, fitted: JSON) -> None:
        """Compares the regression with the numbers in `scoring.json`."""
        slope = fitted.get("slope") if isinstance(fitted, dict) else None
        if not isinstance(slope, float | int) or not math.isfinite(slope):
            self._mismatch("slope", "a number", slope)
            return
        expected = self.scorer.recompute_fit(self.sums, slope)
        answers, xx = expected["answers"], math.fsum(one[1] for one in self.sums)
        # By Cauchy and Schwarz: the sum of xy moves by at most sqrt(n xx) times what each y moves.
        near = {"slope": _ROUNDING * self.largest * math.sqrt(answers / xx) if xx else 0.0}
        for name, value in expected.items():
            published = fitted.get(name)
            if value is None or published is None:
                # Whether a correlation is defined can depend on the last bits of the residuals.
                same = name == "correlation_after" or value is published
            elif name == "answers":
                same = value == published
            else:
                same = isinstance(published, float | int) and abs(value - published) <= near.get(name, _DIGITS)
            if not same:
                self._mismatch(name, value, published)

    def _mismatch(self, name: str, expected: object, published: object) -> None:
        self.report.add("scoring", "scoring.json", field=f"scores.fitted.{name}", expected=expected, found=published)
