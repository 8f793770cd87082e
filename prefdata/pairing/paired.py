"""`Paired`: what a rule makes of candidates; `Proposal`: what it picks before pairs are numbered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefdata.lazy import pl

__all__ = ["Paired", "Proposal"]


@dataclass(frozen=True, slots=True)
class Paired:
    """What became of every prompt and every candidate."""

    pairs: pl.DataFrame
    """One row for each pair, sorted by `prompt_id` and `pair_index`: `prefdata.tables.schemas.pairs_schema`. Made of
    facts without `response`, it has no `response_chosen` and `response_rejected`; made of facts with `at`, it has
    `at_chosen` and `at_rejected`, and where the rule's `identical` is `exact`, `white_space_only` (the answers differ
    in white space only)."""
    drops: pl.DataFrame
    """One row for each prompt without a pair, sorted by `prompt_id`: prompt_id, stage, reason, detail."""
    ineligible: pl.DataFrame
    """One row for each candidate that no rule saw: prompt_id, stage, reason, detail, source, index."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The pairs that a rule picks, and how far each prompt came."""

    pairs: pl.DataFrame
    """One row for each pair: `unit` (the number of the prompt), and for both sides `row_` (of the eligible candidates),
    `place_`, `n_tied_` and `decided_`."""
    chosen: pl.Series
    """Units with a chosen candidate."""
    lower: pl.Series
    """Units with a candidate that scores lower than a chosen one."""
    pool: pl.Series
    """Units with such a candidate that has another text."""
