"""Language models behind one method: `Generator.generate`. Samplers draw from them, judges ask them.

`VLLM`, `Transformers` and `Local` run a model on this machine; `ChatEndpoint` asks one elsewhere.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prefdata.generators.base import Decoding, Generator
from prefdata.generators.batch import Batch
from prefdata.generators.chat_endpoint import ChatEndpoint
from prefdata.generators.local import Local
from prefdata.generators.prices import Prices
from prefdata.generators.transformers import Transformers
from prefdata.generators.vllm import VLLM

__all__ = ["AnyGenerator", "Batch", "ChatEndpoint", "Decoding", "Generator", "Local", "Prices", "Transformers", "VLLM"]

AnyGenerator = Annotated[VLLM | Transformers | Local | ChatEndpoint, Field(discriminator="kind")]
"""What a recipe can name as a generator, told apart by `kind`."""
