"""`ExactDuplicates`: of prompts that say the same to the letter, the first."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

from prefdata.prompts.base import PromptFilter
from prefdata.records import Drop, Prompt
from prefdata.spec import Context

__all__ = ["ExactDuplicates"]

# Punctuation inside a word or a number (don't, 3.5, f(x)) is part of it, and operators (-, *, /) are none.
_MARKS = re.escape(".,;:!?…\"'“”„‘’‚«»‹›()[]{}¿¡。，、；：！？（）「」『』【】")
_PUNCTUATION = re.compile(rf"(?<!\w)[{_MARKS}]+|[{_MARKS}]+(?!\w)")


class ExactDuplicates(PromptFilter):
    """Drops `exact_duplicate` prompts: those whose messages are an earlier prompt's, once both are normalised.

    Roles count, and so does which message says what. Prompts of one `prompt_id` are merged before any filter.
    """

    kind: Literal["exact_duplicates"] = "exact_duplicates"
    nfkc: bool = True
    """Compatible characters are alike: full width and half width, ligatures, superscripts and digits."""
    case: bool = True
    """Capitals and small letters are alike."""
    white_space: bool = True
    """Any run of white space is one space, and none at the ends."""
    punctuation: bool = True
    """Punctuation at the ends of words is nothing; `3.5`, `don't` and operators stay."""

    def filter(self, prompts: Sequence[Prompt], context: Context) -> Iterator[Prompt | Drop]:
        """The first of each kind, in the order given; see `PromptFilter.filter`."""
        first: dict[tuple[tuple[str, str], ...], Prompt] = {}
        for prompt in prompts:
            key = tuple((message["role"], self._normalised(message["content"])) for message in prompt.messages)
            earlier = first.setdefault(key, prompt)
            if earlier is prompt:
                yield prompt
            else:
                yield Drop(prompt.prompt_id, "prompts", "exact_duplicate", f"says what {earlier.prompt_id} says")

    def _normalised(self, text: str) -> str:
        given = text
        if self.nfkc:
            text = unicodedata.normalize("NFKC", text)
        if self.case:
            text = text.casefold()
        if self.punctuation:
            text = _PUNCTUATION.sub("", text)
        if self.white_space:
            text = " ".join(text.split())
        # Prompts that are nothing but marks must not all become one.
        return text if text.strip() else given
