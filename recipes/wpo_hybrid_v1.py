"""WPO hybrid (the paper's) for Llama-3-8B-Instruct: the dataset behind the model Llama3-Instruct-8B-WPO-HB.

Like `wpo_hybrid_v2`, with another rule: a score of 5 or 6 is chosen, and a random answer that is lower by at least 1 is
rejected. Sources: arXiv 2406.11827 (sampling, scoring, rule, hyper-parameters) and DNO (arXiv 2404.03715), the
paper's source of sampling and judge.
"""

from prefdata.dataset import TRLPairs
from prefdata.models import VLLM, ChatEndpoint, Prices
from prefdata.pairing import WPOHybridV1
from prefdata.prompts import HubPrompts
from prefdata.recipe import Recipe, profiles
from prefdata.sampling import PublishedPairs, Samples
from prefdata.scoring import AdditiveJudge
from prefdata.training import WPOTraining

PROMPTS = "HuggingFaceH4/ultrafeedback_binarized"
POLICY = "meta-llama/Meta-Llama-3-8B-Instruct"
# OpenAI's list prices, in dollars for a million tokens; `prefdata check` shows what the recipe costs.
gpt4 = ChatEndpoint(model="gpt-4-turbo", structured="json_object", prices=Prices(prompt=10.0, completion=30.0))

recipe = Recipe(
    name="wpo_hybrid_v1",
    description="On-policy answers of Llama-3-8B-Instruct and answers of GPT-4-turbo to UltraFeedback prompts, paired "
    "by the rule of the WPO paper.",
    seed=1,
    prompts=HubPrompts(dataset=PROMPTS, split="train_prefs"),
    candidates=(
        # The token limit is ours: that of the authors is not published.
        Samples(name="policy", generator=VLLM(model=POLICY), n=5, temperature=0.7, top_p=0.95, max_tokens=2048),
        Samples(name="teacher", generator=gpt4, n=1, temperature=0.7, top_p=0.95, max_tokens=2048),
    ),
    scores=AdditiveJudge(generator=gpt4, justify=True, max_tokens=2048),
    pairs=WPOHybridV1(threshold=5, margin=1),
    # The paper's "+Ultrafeedback". Without this line it is the plain hybrid setting, without such prompts.
    backfill=PublishedPairs(name="ultrafeedback", dataset=PROMPTS, split="train_prefs", prompt_id_column="prompt_id"),
    dataset=TRLPairs(test_size=2000),
    # The paper has 2 epochs, rate 1e-6, beta 0.01 and batches of 128, like the later card; the repository's seed is 42.
    # ZeRO-3 as in the repository: one GPU can't hold the whole training of 8B parameters.
    training=WPOTraining(model=POLICY, seed=42, strategy="zero3"),
    profiles={"cpu": profiles.cpu()},
)
