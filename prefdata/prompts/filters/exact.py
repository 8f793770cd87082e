"""Defines `ExactDuplicates`, which keeps the first of prompts with the same normalised text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from prefdata.prompts.base import PromptFilter
from prefdata.records import Drop, Prompt
from prefdata.spec import Context
from prefdata.spec.marks import Harmless

__all__ = ["ExactDuplicates"]

# Punctuation inside a word or a number (don't, 3.5, f(x)) is part of it; operators (-, *, /) are not punctuation.
_MARKS = re.escape(".,;:!?…\"'“”„‘’‚«»‹›()[]{}¿¡。，、；：！？（）「」『』【】")
_PUNCTUATION = re.compile(rf"(?<!\w)[{_MARKS}]+|[{_MARKS}]+(?!\w)")


class ExactDuplicates(PromptFilter):
    """Drops `exact_duplicate` prompts: those whose messages equal an earlier prompt's after normalisation.

    Roles and the division into messages count. Prompts with the same `prompt_id` are merged before any filter.
    """

    kind: Literal["exact_duplicates"] = "exact_duplicates"
    nfkc: Annotated[bool, Harmless] = True
    """Treats compatible characters as equal: full width and half width, ligatures, superscripts and digits."""
    case: Annotated[bool, Harmless] = True
    """Treats capitals and small letters as equal."""
    white_space: Annotated[bool, Harmless] = True
    """Replaces any run of white space by one space, and removes it at the ends."""
    punctuation: Annotated[bool, Harmless] = True
    """Ignores punctuation at the ends of words; `3.5`, `don't` and operators are kept."""

    def filter(self, prompts: Sequence[Prompt], context: Context) -> Iterator[Prompt | Drop]:
        """Keeps the first prompt of each normalised text; see `PromptFilter.filter`."""
        first: dict[tuple[tuple[str, str], ...], Prompt] = {}
        for prompt in prompts:
            key = tuple((message["role"], self._normalised(message["content"])) for message in prompt.messages)
            earlier = first.setdefault(key, prompt)
            if earlier is prompt:
                yield prompt
            else:
                yield Drop(prompt.prompt_id, "prompts", "exact_duplicate", f"says what {earlier.prompt_id} says")

    def _normalised(self, text: str) -> str:
        original = text
        if self.nfkc:
            text = unicodedata.normalize("NFKC", text)
        if self.case:
            text = text.casefold()
        if self.punctuation:
            text = _PUNCTUATION.sub("", text)
        if self.white_space:
            text = " ".join(text.split())
        # Different prompts that consist of punctuation alone must not become equal.
        return text if text.strip() else original
