"""Whether scores that were freed of the effect of length are: the line through them is the one that was left."""

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
"""How far a score may lie from what the fit made it, as a share of the largest one or of 1."""
_DIGITS = 2e-6
"""How far two correlations may differ that are rounded to six decimals."""


@dataclass
class FitCheck:
    """Fits the line again. A single score that was changed moves it; many together could leave it where it is."""

    scorer: LengthDebiased
    report: Report
    largest: float = 1.0
    sums: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Of each prompt; see `LengthDebiased.sums`."""

    def add(self, answers: Answers, scores: Sequence[Score]) -> None:
        """Takes one prompt in."""
        try:
            self.sums.append(self.scorer.sums(answers, scores))
        except (InputError, OverflowError, ValueError) as error:
            self.report.add("score", "candidates/", prompt_id=answers.prompt.prompt_id, found=str(error))
        else:
            self.largest = max(self.largest, *(abs(score.score or 0.0) for score in scores))

    def check(self, found: JSON) -> None:
        """Compares the line with the facts that `scoring.json` tells."""
        slope = found.get("slope") if isinstance(found, dict) else None
        if not isinstance(slope, float | int) or not math.isfinite(slope):
            self._tell("slope", "a number", slope)
            return
        expected = self.scorer.recompute_fit(self.sums, slope)
        answers, xx = expected["answers"], math.fsum(one[1] for one in self.sums)
        # By Cauchy and Schwarz: the sum of xy moves by at most sqrt(n xx) times what each y moves.
        near = {"slope": _ROUNDING * self.largest * math.sqrt(answers / xx) if xx else 0.0}
        for name, right in expected.items():
            wrong = found.get(name)
            if right is None or wrong is None:
                # Whether a correlation is defined can hang on the last bits of what the line leaves over.
                same = name == "correlation_after" or right is wrong
            elif name == "answers":
                same = right == wrong
            else:
                same = isinstance(wrong, float | int) and abs(right - wrong) <= near.get(name, _DIGITS)
            if not same:
                self._tell(name, right, wrong)

    def _tell(self, name: str, expected: object, found: object) -> None:
        self.report.add("scoring", "scoring.json", field=f"scores.fitted.{name}", expected=expected, found=found)
