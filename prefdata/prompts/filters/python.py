"""`PythonFilter`: a function of the user's own that keeps or drops a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from prefdata.prompts.base import PromptFilter
from prefdata.records import Drop, Prompt
from prefdata.spec import Context
from prefdata.spec.own import OwnPart, PromptText, Raised, attempt, is_slug, storable

__all__ = ["PythonFilter"]


class PythonFilter(OwnPart, PromptFilter):
    """Keeps each prompt for which `def keep(prompt) -> bool | str` returns True; it is given a text.

    A prompt is dropped as `python_filter` where the function returns False, and under a reason of its own where it
    returns a text: lower-case letters, digits and underscores. It is dropped as `python_error` where the function
    raises, and as `not_a_decision` where it returns anything else.
    """

    takes_functions: ClassVar[bool] = True

    def filter(self, prompts: Sequence[Prompt], context: Context) -> Iterator[Prompt | Drop]:
        """See `PromptFilter.filter`."""
        function = self.function()
        for prompt in prompts:
            said = attempt(function, PromptText.of(prompt))
            if isinstance(said, Raised):
                yield Drop(prompt.prompt_id, "prompts", "python_error", said.detail)
            elif said is True:
                yield prompt
            elif said is False:
                yield Drop(prompt.prompt_id, "prompts", "python_filter", self.path)
            elif isinstance(said, str) and is_slug(said):
                yield Drop(prompt.prompt_id, "prompts", said, self.path)
            else:
                detail = storable(f"{type(said).__name__}: {said!r}")
                yield Drop(prompt.prompt_id, "prompts", "not_a_decision", detail)
