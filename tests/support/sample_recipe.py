"""A recipe that builds pairs in a moment: the scored sample of the package, without a model."""

from __future__ import annotations

from prefdata import Recipe
from prefdata.pairing import BestVsWorst
from prefdata.prompts import SamplePrompts
from prefdata.sampling import SampleAnswers
from prefdata.scoring import BaselineScorer


def sample_recipe(name: str, *, comparisons: bool = False, **options: object) -> Recipe:
    """The recipe; `options` are further fields of it."""
    return Recipe(
        name=name,
        prompts=SamplePrompts(scored=True),
        candidates=(SampleAnswers(name="a", scored=True),),
        scores=BaselineScorer(comparisons=comparisons),
        pairs=BestVsWorst(),
        **options,
    )
