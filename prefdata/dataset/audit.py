"""`Audit`: the limits a recipe sets to the biases of its dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import model_validator

from prefdata.errors import AuditError
from prefdata.spec import JSON, Spec

__all__ = ["Audit", "Limit", "Measure"]

Measure = Literal[
    "chosen_longer",
    "length_difference",
    "score_length_correlation",
    "score_index_correlation",
    "score_place_correlation",
    "source_bias_chosen",
    "source_bias_rejected",
    "tied_chosen",
    "tied_rejected",
    "tied_top",
    "tied_bottom",
    "all_tied",
    "repeated_texts",
    "unscored",
]
"""The numbers of an audit that a limit can be set to; `docs/audit.md` defines each."""


class Limit(Spec):
    """A bound of one measure, and what happens when it is crossed. A measure without a value crosses nothing."""

    measure: Measure
    """Which number is bounded."""
    at_most: float | None = None
    """The greatest value that is in order."""
    at_least: float | None = None
    """The least value that is in order."""
    then: Literal["warn", "fail"] = "warn"
    """`warn` says so on stderr and on the card; `fail` stops the build before a dataset is written."""

    @model_validator(mode="after")
    def _has_a_bound(self) -> Limit:
        if self.at_most is None and self.at_least is None:
            raise ValueError("a limit needs `at_most` or `at_least`")
        if self.at_most is not None and self.at_least is not None and self.at_least > self.at_most:
            raise ValueError(f"nothing is both at least {self.at_least:g} and at most {self.at_most:g}")
        return self

    def holds(self, value: float | None) -> bool:
        """Whether a value is in order."""
        if value is None:
            return True
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    def words(self) -> str:
        """The bounds in words."""
        bounds = [("at least", self.at_least), ("at most", self.at_most)]
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


class Audit(Spec):
    """What the audit of a build is held against. The numbers are computed for every build, with limits or without."""

    limits: tuple[Limit, ...] = ()
    """Bounds of measures. They change no stage: a recipe whose limits are mended goes on where the build stopped."""

    def judged(self, audit: Mapping[str, JSON]) -> dict[str, JSON]:
        """The audit with the outcome of every limit under `limits`."""
        measures = audit["measures"]
        outcomes = [
            {**limit.dump(), "value": measures[limit.measure], "holds": limit.holds(measures[limit.measure])}
            for limit in self.limits
        ]
        return {**audit, "limits": outcomes}

    def crossed(self, audit: Mapping[str, JSON]) -> list[str]:
        """A sentence for each crossed limit that only warns.

        Raises:
            AuditError: a limit that fails the build is crossed.
        """
        found: dict[str, list[str]] = {"warn": [], "fail": []}
        for limit in self.limits:
            value = audit["measures"][limit.measure]
            if not limit.holds(value):
                found[limit.then].append(f"{limit.measure} is {value:g}, the recipe's limit is {limit.words()}")
        if found["fail"]:
            raise AuditError(
                "the audit stops this build: " + "; ".join(found["fail"]),
                valid="a dataset within the limits of the recipe's `audit`",
                hint="change the pair rule, the scorer or the limit and build again: all answers and scores are kept",
            )
        return found["warn"]
