"""Defines `Transformers`, a model in plain transformers, for machines where vLLM can't be installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from prefdata.errors import MissingExtraError, UserError
from prefdata.models.base import Decoding
from prefdata.models.hosted.base import HostedModel, cpu_environment
from prefdata.records import Generation, Request
from prefdata.spec import Context, Operational
from prefdata.spec.marks import Harmless

__all__ = ["Transformers"]

_WORKER = "prefdata.models.hosted._transformers_worker"


class Transformers(HostedModel):
    """A model in plain transformers: the same contract as `VLLM`, several times slower.

    Answers come batch by batch. Every row of a batch draws from a random generator of its own, seeded by its request,
    so its answer depends on the other rows only through the last bits of the padded batch's numbers. Compute in
    float32 where these matter.

    A JSON schema is enforced by lm-format-enforcer, which enforces its structure but not bounds of numbers.
    """

    kind: Literal["transformers"] = "transformers"
    batch_size: Annotated[int, Harmless, Operational, Field(ge=1)] = 16
    """Number of answers that are computed at once."""

    def problems(self) -> list[UserError]:
        """Lists missing packages."""
        missing = MissingExtraError.all_of("the generator 'transformers'", "transformers", "torch", "transformers")
        return [*super().problems(), *missing]

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        """Yields answers when their batches finish; see `Generator.generate`.

        Up to two batches of requests are pulled ahead of the yielded answers. Failures: `prompt_too_long`,
        `control_tokens`, `template_failed`, and `request_failed` for a JSON schema that can't be enforced.
        """
        for problem in self.problems():
            raise problem
        yield from self._answer(
            requests,
            decoding,
            context,
            engine="transformers",
            module=_WORKER,
            options={"batch_size": self.batch_size},
            env=cpu_environment(),
            in_flight=2 * self.batch_size,
        )
