"""Defines `Prices`, the price list of an endpoint."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prefdata.spec import Spec
from prefdata.spec.marks import Harmless

__all__ = ["Prices"]

_Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(Spec):
    """Prices for a million tokens, as in a provider's price list. With `batch`, the prices of batches."""

    prompt: Annotated[_Price, Harmless]
    """Price of a million prompt tokens, in `currency`."""
    completion: Annotated[_Price, Harmless]
    """Price of a million answer tokens, reasoning included, in `currency`."""
    cached_prompt: Annotated[_Price | None, Harmless] = None
    """Price of a million prompt tokens that the provider had in its cache, in `currency`; None is the full price."""
    currency: Annotated[str, Harmless, Field(pattern=r"^\S{1,12}$")] = "USD"
    """Name of the currency, for messages; a build has one."""

    def cost(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """Computes the price of one or many requests.

        Args:
            prompt_tokens: all prompt tokens, those from the cache included.
            completion_tokens: tokens of the answers.
            cached_tokens: how many of the prompt tokens came from the cache.

        Returns:
            Money in `currency`.
        """
        cached = self.prompt if self.cached_prompt is None else self.cached_prompt
        fresh = prompt_tokens - cached_tokens
        return (fresh * self.prompt + cached_tokens * cached + completion_tokens * self.completion) / 1e6
