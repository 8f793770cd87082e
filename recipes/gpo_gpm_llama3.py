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
    # rank_gp.py reads answers in another way than GPM was trained. Here they are read as in training; each departure,
    # with the option of GPM that takes it back:
    # - an end-of-text token takes the place of the last token: last_token="template"
    # - the user's turn is the prompt itself, not the text of the policy's chat template: prompt_form="...{prompt}..."
    # - the BOS tokens of training are there: bos="none"
    # - texts are cut at 4,096 tokens: max_length=8192, all that the model has positions for
    # - float32, where the scripts compute in bfloat16, heads and rotation included: dtype="bfloat16" (heads in float32)
    scores=GPM(model="general-preference/GPM-Gemma-2B", tau=0.1),
    # - the paper has s/tau once, the code twice: doubled=True
    # - ties fall to the total order, not to the first index, and no pair has one text or one score
    # - prompts are whole; the scripts cut them at the first word "None"
    pairs=GPO(preferences="pairwise", doubled=False),
    # - the code tests on 500 rows that it also trains on; here they are held out
    dataset=TRLPairs(test_size=500),
    # The published trainer reads whole conversations, with the three columns of numbers.
    also=(FullConversation(),),
    # The card plans 6 epochs and stops after 1; the script plans 1.
    training=GPOTraining(model=START, epochs=6, stop_after=1),
    iterations=Iterations(count=3, prompts=PROMPTS),
    profiles={"cpu": profiles.cpu(top_p=0.9, teacher=False, scores=BaselineScorer(comparisons=True), iterations=3)},
)
