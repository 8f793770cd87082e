"""WPO for Gemma-2-9b-it: the dataset behind the model gemma-2-9b-it-WPO-HB.

Like `wpo_hybrid_v2`, but ArmoRM scores each answer by itself; the best is chosen, the worst rejected. Ties are rare
with such scores, so that no backfill is needed. Sources: arXiv 2406.11827 and the model's card.
"""

from prefdata.dataset import TRLPairs
from prefdata.models import VLLM, ChatEndpoint, Prices
from prefdata.pairing import BestVsWorst
from prefdata.prompts import HubPrompts
from prefdata.recipe import Recipe, profiles
from prefdata.sampling import Samples
from prefdata.scoring import ArmoRM, BaselineScorer
from prefdata.training import WPOTraining

POLICY = "google/gemma-2-9b-it"
# OpenAI's list prices, in dollars for a million tokens; `prefdata check` shows what the recipe costs.
gpt4 = ChatEndpoint(model="gpt-4-turbo", prices=Prices(prompt=10.0, completion=30.0))

recipe = Recipe(
    name="wpo_gemma2_armorm",
    description="On-policy answers of Gemma-2-9b-it and answers of GPT-4-turbo to UltraFeedback prompts, scored by "
    "ArmoRM; best against worst.",
    seed=1,
    prompts=HubPrompts(dataset="HuggingFaceH4/ultrafeedback_binarized", split="train_prefs"),
    candidates=(
        # Temperature and top-p are the paper's for its other models; no source has them for this one.
        Samples(name="policy", generator=VLLM(model=POLICY), n=5, temperature=0.7, top_p=0.95, max_tokens=2048),
        Samples(name="teacher", generator=gpt4, n=1, temperature=0.7, top_p=0.95, max_tokens=2048),
    ),
    scores=ArmoRM(model="RLHFlow/ArmoRM-Llama3-8B-v0.1"),
    pairs=BestVsWorst(),
    # The published set has about 59,600 train and 2,000 test rows.
    dataset=TRLPairs(test_size=2000),
    # By the card: like Llama-3, but 1 pair a device and 16 forward passes a step. ZeRO-3 as in the repository.
    training=WPOTraining(model=POLICY, per_device_batch_size=1, gradient_accumulation_steps=16, strategy="zero3"),
    profiles={"cpu": profiles.cpu(scores=BaselineScorer())},
)
