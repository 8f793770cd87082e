"""`Audit`: limits that a recipe sets to the biases of its dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import model_validator

from prefdata.errors import AuditError
from prefdata.spec import JSON, Spec
from prefdata.spec.marks import Harmless

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
    "reasoning_on_one_side",
    "unscored",
    "white_space_only",
]
"""Numbers of an audit that can have a limit; `docs/audit.md` defines each."""


class Limit(Spec):
    """A bound of one measure, and what happens when it is crossed. A measure without a value crosses no bound."""

    measure: Annotated[Measure, Harmless]
    """Which number is bounded."""
    at_most: Annotated[float | None, Harmless] = None
    """The greatest allowed value."""
    at_least: Annotated[float | None, Harmless] = None
    """The least allowed value."""
    then: Annotated[Literal["warn", "fail"], Harmless] = "warn"
    """`warn` says so on stderr and on the card; `fail` stops the build before a dataset is written."""

    @model_validator(mode="after")
    def _has_a_bound(self) -> Limit:
        if self.at_most is None and self.at_least is None:
            raise ValueError("a limit needs `at_most` or `at_least`")
        if self.at_most is not None and self.at_least is not None and self.at_least > self.at_most:
            raise ValueError(f"`at_least` {self.at_least:g} is greater than `at_most` {self.at_most:g}")
        return self

    def holds(self, value: float | None) -> bool:
        """Checks whether a value is within the bounds; None always is."""
        if value is None:
            return True
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    def words(self) -> str:
        """Writes the bounds in words."""
        bounds = [("at least", self.at_least), ("at most", self.at_most)]
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


class Audit(Spec):
    """Limits of the audit of a build. Its numbers are computed for every build, also without limits."""

    limits: Annotated[tuple[Limit, ...], Harmless] = ()
    """Bounds of measures. They change no stage: after a change of limits the build continues where it stopped."""

    def with_outcomes(self, audit: Mapping[str, JSON]) -> dict[str, JSON]:
        """Adds the outcome of every limit to an audit, under `limits`."""
        measures = audit["measures"]
        outcomes = [
            {**limit.dump(), "value": value, "holds": limit.holds(value)}
            for limit in self.limits
            for value in [measures.get(limit.measure, 0.0)]
        ]
        return {**audit, "limits": outcomes}

    def warnings(self, audit: Mapping[str, JSON]) -> list[str]:
        """Writes a sentence for each crossed limit that only warns.

        Raises:
            AuditError: a limit that fails the build is crossed.
        """
        sentences: dict[str, list[str]] = {"warn": [], "fail": []}
        for limit in self.limits:
            value = audit["measures"].get(limit.measure, 0.0)
            if not limit.holds(value):
                sentences[limit.then].append(f"{limit.measure} is {value:g}, the recipe's limit is {limit.words()}")
        if sentences["fail"]:
            raise AuditError(
                "the audit stops this build: " + "; ".join(sentences["fail"]),
                valid="a dataset within the limits of the recipe's `audit`",
                hint="change the pair rule, the scorer or the limit and build again: all answers and scores are kept",
            )
        return sentences["warn"]
