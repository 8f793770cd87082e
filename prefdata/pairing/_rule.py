"""`Rule`: what deciding asks of a pair rule; `prefdata.pairing.base.PairRule` is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from prefdata.lazy import pl
    from prefdata.pairing.paired import Proposal

__all__ = ["Rule"]


class Rule(Protocol):
    """A pair rule; its methods are documented where it is defined."""

    @property
    def length(self) -> str:
        """See `PairRule.length`."""

    @property
    def admit(self) -> tuple[str, ...]:
        """See `PairRule.admit`."""

    @property
    def identical(self) -> str:
        """See `PairRule.identical`."""

    def dump(self) -> dict[str, Any]:
        """See `Spec.dump`."""

    def rescored(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """See `PairRule.rescored`."""

    def needs_comparisons(self) -> bool:
        """See `PairRule.needs_comparisons`."""

    def needs_quantiles(self) -> bool:
        """See `PairRule.needs_quantiles`."""

    def scores_of(self, comparisons: pl.DataFrame) -> pl.DataFrame | None:
        """See `PairRule.scores_of`."""

    def proposal(self, eligible: pl.DataFrame) -> Proposal:
        """See `PairRule.proposal`."""

    def extra_columns(self) -> tuple[str, ...]:
        """See `PairRule.extra_columns`."""

    def with_extras(self, pairs: pl.DataFrame, eligible: pl.DataFrame) -> pl.DataFrame:
        """See `PairRule.with_extras`."""
