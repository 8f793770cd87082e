"""Defines `Generator`, a language model that answers messages, for samplers and judges."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from prefdata.records import Generation, Request
from prefdata.spec import Context, Operational, Part, Spec
from prefdata.spec.marks import Harmless
from prefdata.tables.reasoning import set_apart

__all__ = ["Decoding", "Generator"]


class Decoding(Spec):
    """How tokens are drawn."""

    temperature: Annotated[float, Harmless, Field(ge=0, le=2)] = 1.0
    """Divides the logits before tokens are drawn; 0 takes the most likely token every time."""
    top_p: Annotated[float, Harmless, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling: draws from the smallest set of tokens whose probability reaches this; 1 draws from all."""
    max_tokens: Annotated[int, Harmless, Field(ge=1)] = 2048
    """Token limit of one answer; an answer that reaches it ends with finish reason `length`."""
    stop: Annotated[tuple[str, ...], Harmless] = ()
    """Texts that end an answer and are not part of it."""
    top_k: Annotated[Annotated[int, Field(ge=1)] | None, Harmless, Field(exclude_if=lambda k: k is None)] = None
    """Draws from this many of the most likely tokens only, before `top_p` acts; None draws from all."""
    presence_penalty: Annotated[float, Harmless, Field(ge=-2, le=2, exclude_if=lambda size: size == 0)] = 0.0
    """Subtracted from the logit of each token that the answer already holds."""
    frequency_penalty: Annotated[float, Harmless, Field(ge=-2, le=2, exclude_if=lambda size: size == 0)] = 0.0
    """Subtracted from the logit of a token once for each time that the answer already holds it."""


class Generator(Part):
    """A language model behind one method."""

    thinking: Annotated[Literal["keep", "cut", "refuse"], Harmless, Field(exclude_if=lambda how: how == "keep")] = (
        "keep"
    )
    """What becomes of the reasoning before an answer (`<think>...</think>`, harmony, an endpoint's
    `reasoning_content`), which is never a part of the answer. `keep` stores it in the build beside the answer, `cut`
    stores the answer alone, `refuse` refuses answers with reasoning (`has_reasoning`)."""
    thinking_marks: Annotated[tuple[str, str] | None, Harmless, Field(exclude_if=lambda marks: marks is None)] = None
    """What the model writes before and after its reasoning, besides the usual marks; None for the usual ones alone."""
    tokens_per_second: Annotated[float | None, Harmless, Operational, Field(gt=0, allow_inf_nan=False)] = None
    """Answer tokens a second, over all requests under way, from which `prefdata check` estimates hours; None gives no
    estimate of time."""

    @model_validator(mode="after")
    def _marks_are_texts(self) -> Self:
        if self.thinking_marks is not None and not all(mark.strip() for mark in self.thinking_marks):
            raise ValueError("`thinking_marks` are two texts that are not blank")
        return self

    def split(self, generation: Generation) -> Generation:
        """Takes the reasoning of an answer out of its text, as `thinking` says.

        An answer that is nothing but reasoning keeps a text that begins with an opening mark and has no closing one,
        which every reader of answers knows (`only_reasoning`).
        """
        if generation.text is None:
            return generation
        apart = set_apart(generation.text, self.thinking, self.thinking_marks, generation.reasoning)
        if apart.refused:
            return replace(generation, text=None, failure="has_reasoning", detail=apart.refused)
        return replace(generation, text=apart.text, reasoning=apart.reasoning)

    @abstractmethod
    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        """Answers each request exactly once, in the order in which answers finish.

        Requests are pulled when the engine has room for them, so a caller may stream any number. Each answer depends
        only on its own request, its seed and `decoding`, never on other requests, as far as the engine guarantees
        that. A request that can't be answered gives a `Generation` with `failure`; the others go on.

        Args:
            requests: conversations that end in a turn to be answered; `key` must be unique among them.
            decoding: how tokens are drawn.
            context: seed, pins and log of this part.

        Yields:
            One `Generation` for each request.

        Raises:
            ModelError: the model can't be found, started or reached at all.
            MissingExtraError: the engine's package is not installed.
        """
