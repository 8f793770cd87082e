"""Draws candidates from models, or reads them from tables; each sampler is one part.

::

    from prefdata.sampling import Samples

    sampler = Samples(name="policy", generator=generator, n=5, temperature=0.7, top_p=0.95)
    for result in sampler.sample(tasks, context):
        ...  # a SampleResult: the candidates and drops of one task, keyed by `SampleTask.key`
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from prefdata.sampling.base import Sampler, SampleResult, SampleTask
from prefdata.sampling.existing import ExistingCompletions, SampleAnswers
from prefdata.sampling.published_pairs import PublishedPairs
from prefdata.sampling.python import PythonSampler
from prefdata.sampling.samples import Samples
from prefdata.spec.own import Own

__all__ = [
    "AnySampler",
    "ExistingCompletions",
    "PublishedPairs",
    "PythonSampler",
    "SampleAnswers",
    "SampleResult",
    "SampleTask",
    "Sampler",
    "Samples",
]

AnySampler: TypeAlias = Annotated[
    Samples | ExistingCompletions | PublishedPairs | SampleAnswers | PythonSampler,
    Field(discriminator="kind"),
    Own(Sampler, stand_in=PythonSampler),
]
"""Every sampler that a recipe can name; the field `kind` says which one it is."""
