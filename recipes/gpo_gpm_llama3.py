"""GPO for Llama-3-8B-Instruct, three iterations: the data behind the model GPO-Llama-3-8B-Instruct-GPM-2B.

Like `sppo_llama3`, but the general preference model GPM-Gemma-2B compares, and pairs have its preference scores, for
GPO's loss. Sources: run_gpo_llama-3_table_gp.sh and the scripts that it calls in github.com/general-preference/
general-preference-model, the model's card, and arXiv 2410.02197.

The recipe without a profile is the first iteration; `--profile iteration_2` and `--profile iteration_3` are the others,
and sample from the folders named below, which must contain the model of the previous iteration.
"""

from typing import Any

from prefdata.dataset import FullConversation, TRLPairs
from prefdata.models import VLLM
from prefdata.pairing import GPO
from prefdata.prompts import HubPrompts
from prefdata.recipe import Profile, Recipe, profiles
from prefdata.sampling import Samples
from prefdata.scoring import GPM, BaselineScorer
from prefdata.training import GPOTraining

START = "meta-llama/Meta-Llama-3-8B-Instruct"


def iteration(number: int, policy: str) -> dict[str, Any]:
    """Returns the fields that differ between the iterations."""
    return {
        "prompts": HubPrompts(dataset=f"UCLA-AGI/data-mistral-7b-instruct-sppo-iter{number}"),
        # The generation script is SPPO's: 0.7 and 0.9, five passes.
        "candidates": (
            Samples(name="policy", generator=VLLM(model=policy), n=5, temperature=0.7, top_p=0.9, max_tokens=2048),
        ),
        # The card plans 6 epochs and stops after 1; the script plans 1.
        "training": GPOTraining(model=policy, epochs=6, stop_after=1),
    }


recipe = Recipe(
    name="gpo_gpm_llama3",
    description="On-policy answers of Llama-3-8B-Instruct, compared by GPM-Gemma-2B, with the preference scores that "
    "GPO takes.",
    seed=1,
    **iteration(1, START),
    scores=GPM(model="general-preference/GPM-Gemma-2B", tau=0.1),
    # The paper has s/tau once, the code twice: doubled=True.
    pairs=GPO(preferences="pairwise", doubled=False),
    dataset=TRLPairs(test_size=500),
    # The published trainer reads whole conversations, with the three columns of numbers.
    also=(FullConversation(),),
    profiles={
        "iteration_2": Profile(**iteration(2, "models/gpo_gpm_llama3/iteration_1")),
        "iteration_3": Profile(**iteration(3, "models/gpo_gpm_llama3/iteration_2")),
        "cpu": profiles.cpu(top_p=0.9, teacher=False, scores=BaselineScorer(comparisons=True)),
    },
)
