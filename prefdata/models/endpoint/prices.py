"""`Prices`: what an endpoint asks for its tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prefdata.spec import Spec

__all__ = ["Prices"]

_Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(Spec):
    """Money for a million tokens, as a provider's price list has it. For `batch`, the prices of batches."""

    prompt: _Price
    """For a million tokens of prompts."""
    completion: _Price
    """For a million tokens of answers, reasoning included."""
    cached_prompt: _Price | None = None
    """For a million prompt tokens that the provider had in its cache; None is the full price."""
    currency: Annotated[str, Field(pattern=r"^\S{1,12}$")] = "USD"
    """What the money is, for messages."""

    def cost(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """The price of one or many requests.

        Args:
            prompt_tokens: all of them, those from the cache included.
            completion_tokens: tokens of the answers.
            cached_tokens: how many of the prompt tokens came from the cache.
        """
        cached = self.prompt if self.cached_prompt is None else self.cached_prompt
        fresh = prompt_tokens - cached_tokens
        return (fresh * self.prompt + cached_tokens * cached + completion_tokens * self.completion) / 1e6
