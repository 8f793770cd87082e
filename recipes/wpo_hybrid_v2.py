"""WPO hybrid-v2 for Llama-3-8B-Instruct: the dataset behind the model Llama3-Instruct-8B-WPO-HB-v2.

Five answers of the policy and one of GPT-4-turbo to every UltraFeedback prompt, scored together by GPT-4-turbo;
highest score (shortest of tied) against lowest score (nearest length of tied). Prompts without a pair get
the UltraFeedback pair. Sources: arXiv 2406.11827, the model's card, and DNO (arXiv 2404.03715), the paper's source of
sampling and judge.
"""

from prefdata.dataset import TRLPairs
from prefdata.models import VLLM, ChatEndpoint, Prices
from prefdata.pairing import WPOHybridV2
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
    name="wpo_hybrid_v2",
    description="On-policy answers of Llama-3-8B-Instruct and answers of GPT-4-turbo to UltraFeedback prompts, paired "
    "by the WPO hybrid-v2 rule.",
    seed=1,
    prompts=HubPrompts(dataset=PROMPTS, split="train_prefs"),
    candidates=(
        # The token limit is ours: that of the authors is not published.
        Samples(name="policy", generator=VLLM(model=POLICY), n=5, temperature=0.7, top_p=0.95, max_tokens=2048),
        Samples(name="teacher", generator=gpt4, n=1, temperature=0.7, top_p=0.95, max_tokens=2048),
    ),
    scores=AdditiveJudge(generator=gpt4, justify=True, max_tokens=2048),
    pairs=WPOHybridV2(),
    # The third of the card's three types of data. Without this line prompts without a pair are left out.
    backfill=PublishedPairs(name="ultrafeedback", dataset=PROMPTS, split="train_prefs", prompt_id_column="prompt_id"),
    dataset=TRLPairs(test_size=2000),
    # ZeRO-3 as in the repository: one GPU can't hold the whole training of 8B parameters.
    training=WPOTraining(model=POLICY, strategy="zero3"),
    profiles={"cpu": profiles.cpu()},
)
