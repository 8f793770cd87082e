"""`PythonPrompts`: a function of the user's own that yields prompts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import ClassVar

from prefdata.errors import InputError
from prefdata.prompts.base import PromptSource
from prefdata.records import Drop, Prompt, prompt_id_of
from prefdata.spec import Context
from prefdata.spec.own import OwnPart, Raised, attempt
from prefdata.tables.cells import Unusable, read_conversation

__all__ = ["PythonPrompts"]

_END = object()


class PythonPrompts(OwnPart, PromptSource):
    """Reads the prompts that `def prompts()` yields: texts, or lists of messages with `role` and `content`.

    Anything else that it yields is dropped with the reason that a row of a table would have. It must yield the same
    prompts whenever it is called.
    """

    takes_functions: ClassVar[bool] = True

    def read(self, context: Context) -> Iterator[Prompt | Drop]:
        """Reads every prompt; see `PromptSource.read`.

        Raises:
            InputError: the function raises, or returns nothing that can be iterated over.
        """
        function = self.function()
        rows = attempt(lambda: iter(function()))
        for number in count(1):
            row = rows if isinstance(rows, Raised) else attempt(next, rows, _END)
            if isinstance(row, Raised):
                raise InputError(
                    f"the prompt source {self.path!r} failed after {number - 1} prompts: {row.detail}",
                    valid="a function that yields texts, or lists of messages with 'role' and 'content'",
                    hint="fix the function; nothing has been sampled yet",
                )
            if row is _END:
                return
            origin = f"{self.path}, prompt {number}"
            messages = read_conversation(row, "text" if isinstance(row, str) else "messages")
            if isinstance(messages, Unusable):
                detail = ": ".join(filter(None, [origin, messages.detail]))
                yield Drop(f"row:{number}", "prompts", messages.reason, detail)
            else:
                yield Prompt(prompt_id_of(messages), messages, origin)
