"""GPO for Llama-3-8B-Instruct, three iterations: the data behind the model GPO-Llama-3-8B-Instruct-GPM-2B.

Like `sppo_llama3`, but the general preference model GPM-Gemma-2B compares, and pairs have its preference scores, for
GPO's loss. Sources: run_gpo_llama-3_table_gp.sh and the scripts that it calls in github.com/general-preference/
general-preference-model, the model's card, and arXiv 2410.02197.

`prefdata run gpo_gpm_llama3` carries out the iterations; `prefdata build` makes the first one's dataset alone.
"""

from prefdata.dataset import FullConversation, TRLPairs
from prefdata.models import VLLM
from prefdata.pairing import GPO
from prefdata.prompts import HubPrompts
from prefdata.recipe import Iterations, Recipe, profiles
from prefdata.sampling import Samples
from prefdata.scoring import GPM, BaselineScorer
from prefdata.training import GPOTraining

START = "meta-llama/Meta-Llama-3-8B-Instruct"


PROMPTS = tuple(HubPrompts(dataset=f"UCLA-AGI/data-mistral-7b-instruct-sppo-iter{number}") for number in (1, 2, 3))

recipe = Recipe(
    name="gpo_gpm_llama3",
    description="On-policy answers of Llama-3-8B-Instruct, compared by GPM-Gemma-2B, with the preference scores that "
    "GPO takes.",
    seed=1,
    prompts=PROMPTS[0],
    # The generation script is SPPO's: 0.7 and 0.9, five passes.
    candidates=(Samples(name="policy", generator=VLLM(model=START), n=5, temperature=0.7, top_p=0.9, max_tokens=2048),),
    scores=GPM(model="general-preference/GPM-Gemma-2B", tau=0.1),
    # The paper has s/tau once, the code twice: doubled=True.
    pairs=GPO(preferences="pairwise", doubled=False),
    dataset=TRLPairs(test_size=500),
    # The published trainer reads whole conversations, with the three columns of numbers.
    also=(FullConversation(),),
    # The card plans 6 epochs and stops after 1; the script plans 1.
    training=GPOTraining(model=START, epochs=6, stop_after=1),
    iterations=Iterations(count=3, prompts=PROMPTS),
    profiles={"cpu": profiles.cpu(top_p=0.9, teacher=False, scores=BaselineScorer(comparisons=True), iterations=3)},
)
