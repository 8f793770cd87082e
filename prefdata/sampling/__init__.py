"""Sampling: where candidates come from, one part a way.

::

    from prefdata.sampling import Samples

    sampler = Samples(name="policy", generator=generator, n=5, temperature=0.7, top_p=0.95)
    for drawn in sampler.sample(tasks, context):
        ...  # the candidates and drops of one task, keyed by `SampleTask.key`
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from prefdata.own import Own
from prefdata.sampling.base import Sampler, SampleResult, SampleTask
from prefdata.sampling.existing import ExistingCompletions, SampleAnswers
from prefdata.sampling.published_pairs import PublishedPairs
from prefdata.sampling.python import PythonSampler
from prefdata.sampling.samples import Samples

__all__ = [
    "AnySampler",
    "SampleResult",
    "ExistingCompletions",
    "PublishedPairs",
    "PythonSampler",
    "SampleAnswers",
    "Sampler",
    "Samples",
    "SampleTask",
]

AnySampler: TypeAlias = Annotated[
    Samples | ExistingCompletions | PublishedPairs | SampleAnswers | PythonSampler,
    Field(discriminator="kind"),
    Own(Sampler, stand_in=PythonSampler),
]
"""What may stand in a recipe's list of samplers."""
