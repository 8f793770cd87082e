"""Defines `NearDuplicates`, which keeps the first of prompts that are nearly the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from prefdata.prompts.base import PromptFilter
from prefdata.prompts.filters._text import Scope, text_of
from prefdata.records import Drop, Prompt
from prefdata.spec import Context
from prefdata.spec.marks import Harmless

__all__ = ["NearDuplicates"]


class NearDuplicates(PromptFilter):
    """Drops `near_duplicate` prompts: those whose Jaccard similarity to an earlier, kept one reaches `threshold`.

    The similarity of two prompts is the number of shingles (runs of `n` words) that both have, divided by the number
    that either has. It is computed exactly, for every pair that could reach the threshold, so no pair is missed and
    nothing depends on a seed. Words are compared without case and punctuation; signs of mathematics and code count as
    words. A prompt of fewer than `n` words is one shingle, so it is near only to prompts of the same words.

    Method: prefix filtering (Bayardo, Ma and Srikant, WWW 2007).
    """

    kind: Literal["near_duplicates"] = "near_duplicates"
    threshold: Annotated[float, Harmless, Field(ge=0.3, le=1)] = 0.8
    """Least Jaccard similarity, from 0.3 to 1, at which the later prompt is dropped."""
    n: Annotated[int, Harmless, Field(ge=1)] = 3
    """Number of words in a shingle."""
    of: Annotated[Scope, Harmless] = "conversation"
    """Text that is compared: all messages of each prompt, or its last user message."""

    def filter(self, prompts: Sequence[Prompt], context: Context) -> Iterator[Prompt | Drop]:
        """Keeps the first of similar prompts; see `PromptFilter.filter`."""
        # Its module imports xxhash and computes with numpy, which loading a recipe must not load.
        from prefdata.prompts.filters._shingles import Shingles

        shingles = Shingles([text_of(prompt, self.of) for prompt in prompts], self.n)
        for prompt, match in zip(prompts, shingles.near_earlier(self.threshold), strict=True):
            if match is None:
                yield prompt
            else:
                earlier, similarity = match
                detail = f"similarity {similarity:.3f} to {prompts[earlier].prompt_id}"
                yield Drop(prompt.prompt_id, "prompts", "near_duplicate", detail)
