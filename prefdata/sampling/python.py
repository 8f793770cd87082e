"""`PythonSampler`: a function of the user's own that answers a prompt."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field

from prefdata.records import Candidate, Drop
from prefdata.sampling.base import Sampler, SampleResult, SampleTask
from prefdata.spec import JSON, Context, derive_seed
from prefdata.spec.marks import Harmless
from prefdata.spec.own import OwnPart, PromptText, Raised, attempt, storable

__all__ = ["PythonSampler"]


class PythonSampler(OwnPart, Sampler):
    """Takes what `def answer(prompt) -> str` returns as an answer; the function is given a text.

    A function that has a parameter `seed` is given one, which differs for every answer and is the same in every run.
    There is no answer, with a reason, where the function raises (`python_error`), returns None (`no_answer`), or
    anything else than a text (`not_a_text`).
    """

    takes_functions: ClassVar[bool] = True

    n: Annotated[int, Harmless, Field(ge=1, exclude_if=lambda n: n == 1)] = 1
    """Answers for each prompt."""

    @classmethod
    def named_by(cls, function: Callable[..., Any]) -> dict[str, JSON]:
        """The name of a bare function names the sampler."""
        return {"name": getattr(function, "__name__", "").strip("_")}

    @property
    def tasks_per_prompt(self) -> int:
        """See `Sampler.tasks_per_prompt`."""
        return self.n

    def sample(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """See `Sampler.sample`."""
        function = self.function()
        seeded = "seed" in inspect.signature(function).parameters
        for task in tasks:
            prompt_id = task.prompt.prompt_id
            seed = derive_seed("python", context.seed, self.name, prompt_id, task.index) if seeded else None
            text = attempt(function, PromptText.of(task.prompt), **({"seed": seed} if seeded else {}))
            if isinstance(text, Raised):
                yield self._dropped(task, "python_error", text.detail)
            elif isinstance(text, str) and text == storable(text, most=None):
                made = Candidate(prompt_id, self.name, task.index, str(text), model=self.path, seed=seed)
                yield SampleResult(task.key, candidates=(made,))
            elif text is None:
                yield self._dropped(task, "no_answer", "")
            else:
                yield self._dropped(task, "not_a_text", storable(f"{type(text).__name__}: {text!r}"))

    def _dropped(self, task: SampleTask, reason: str, detail: str) -> SampleResult:
        drop = Drop(task.prompt.prompt_id, "candidates", reason, detail, source=self.name, index=task.index)
        return SampleResult(task.key, drops=(drop,))
