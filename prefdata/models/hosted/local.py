"""Defines `Local`, a model on this machine, in vLLM if it is installed and in transformers otherwise."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from prefdata.errors import MissingExtraError, ModelError, closest
from prefdata.models.base import Decoding
from prefdata.models.hosted.base import HostedModel
from prefdata.models.hosted.transformers import Transformers
from prefdata.models.hosted.vllm import VLLM
from prefdata.records import Generation, Request
from prefdata.spec import JSON, Context, Operational
from prefdata.spec.marks import Harmless

__all__ = ["Local"]

_BACKENDS = ("vllm", "transformers")
_FORCED = "PREFDATA_LOCAL_BACKEND"


class Local(HostedModel):
    """A model on this machine, in whichever engine is installed.

    This is vLLM if it is installed, else transformers. The environment variable `PREFDATA_LOCAL_BACKEND` (`vllm` or
    `transformers`) overrides the choice. The two draw different texts from the same seed, so the choice is in the
    pins: a build that started with one continues with it.
    """

    kind: Literal["local"] = "local"
    concurrency: Annotated[int | None, Harmless, Operational, Field(ge=1)] = None
    """Number of answers computed at once; None takes the engine's default: 128 in vLLM, 16 in transformers."""

    def pins(self) -> dict[str, JSON]:
        """Returns the name of the engine, and the pins of the model."""
        return {"backend": _backend(), **super().pins()}

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        """Answers with the pinned engine; see `VLLM.generate` and `Transformers.generate`."""
        backend = context.pins.get("backend") or _backend()
        context.log(f"local model {self.model!r} runs in {backend}")
        yield from self._part(backend).generate(requests, decoding, context)

    def _part(self, backend: str) -> VLLM | Transformers:
        shared = {name: getattr(self, name) for name in HostedModel.model_fields}
        if backend == "vllm":
            return VLLM(**shared, **({} if self.concurrency is None else {"max_num_seqs": self.concurrency}))
        return Transformers(**shared, **({} if self.concurrency is None else {"batch_size": self.concurrency}))


def _backend() -> str:
    forced = os.environ.get(_FORCED)
    if forced is not None and forced not in _BACKENDS:
        raise ModelError(
            f"the environment variable {_FORCED} is {forced!r}, which is not the name of an engine",
            valid=closest(forced, _BACKENDS),
            hint=f"unset {_FORCED}",
        )
    if forced is not None:
        return forced
    for backend in _BACKENDS:
        if importlib.util.find_spec(backend) is not None:
            return backend
    raise MissingExtraError.of("the generator 'local'", "transformers", "transformers")
