"""SPPO for Llama-3-8B-Instruct, three iterations: the data behind UCLA-AGI/Llama-3-Instruct-8B-SPPO-Iter1 to -Iter3.

Like `snorkel_pairrm` (and on its prompts), but pairs have win probabilities, for SPPO's loss. Sources: scripts/ and
README of github.com/uclaml/SPPO, and arXiv 2405.00675.

`prefdata run sppo_llama3` carries out the iterations; `prefdata build` makes the first one's dataset alone.
"""

from prefdata.dataset import FullConversation, TRLPairs
from prefdata.models import VLLM
from prefdata.pairing import SPPO
from prefdata.prompts import HubPrompts
from prefdata.recipe import Iterations, Recipe, profiles
from prefdata.sampling import Samples
from prefdata.scoring import BaselineScorer, PairRM
from prefdata.training import SPPOTraining

START = "meta-llama/Meta-Llama-3-8B-Instruct"


PROMPTS = tuple(HubPrompts(dataset=f"UCLA-AGI/data-mistral-7b-instruct-sppo-iter{number}") for number in (1, 2, 3))

recipe = Recipe(
    name="sppo_llama3",
    description="On-policy answers of Llama-3-8B-Instruct, ranked by PairRM, with the win probabilities of SPPO.",
    seed=1,
    prompts=PROMPTS[0],
    # generate.py has 0.7 and 0.9, the paper 1.0 and 1.0; five passes with seeds 0, 50, 100, 150 and 200.
    candidates=(Samples(name="policy", generator=VLLM(model=START), n=5, temperature=0.7, top_p=0.9, max_tokens=2048),),
    # rank.py gives PairRM the prompt in the policy's chat template; here it reads the prompt itself.
    scores=PairRM(model="llm-blender/PairRM-hf"),
    # Probabilities of aggregated scores, as in the code; "pairwise" is the definition of the paper.
    pairs=SPPO(probabilities="aggregated"),
    # The code tests on 500 rows that it also trains on; here they are held out.
    dataset=TRLPairs(test_size=500),
    # The published trainer reads whole conversations, with the three columns of numbers.
    also=(FullConversation(),),
    # The reference of an iteration is the model that it starts from.
    training=SPPOTraining(model=START),
    iterations=Iterations(count=3, prompts=PROMPTS),
    profiles={"cpu": profiles.cpu(top_p=0.9, teacher=False, scores=BaselineScorer(comparisons=True), iterations=3)},
)
