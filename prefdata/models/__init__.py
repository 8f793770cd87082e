"""Runs language models behind one function, `generate`: samplers draw from them, judges ask them.

`VLLM`, `Transformers` and `Local` run a model on this machine; `ChatEndpoint` asks one elsewhere.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prefdata.models.base import Decoding, Generator
from prefdata.models.endpoint.batch import Batch
from prefdata.models.endpoint.chat_endpoint import ChatEndpoint
from prefdata.models.endpoint.prices import Prices
from prefdata.models.hosted.local import Local
from prefdata.models.hosted.transformers import Transformers
from prefdata.models.hosted.vllm import VLLM
from prefdata.models.reuse import generate

__all__ = [
    "AnyGenerator",
    "Batch",
    "ChatEndpoint",
    "Decoding",
    "Generator",
    "Local",
    "Prices",
    "Transformers",
    "VLLM",
    "generate",
]

AnyGenerator = Annotated[VLLM | Transformers | Local | ChatEndpoint, Field(discriminator="kind")]
"""Every generator that a recipe can name; the field `kind` says which one it is."""
