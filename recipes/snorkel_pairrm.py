"""Snorkel's three iterations: the dataset snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset.

Five answers of the iteration's policy to 20,000 UltraFeedback prompts that no other iteration has, ranked by PairRM,
best against worst, DPO; the trained model is the policy of the next iteration. Source: cards of dataset and model. They
omit how the prompts were drawn, temperature, top-p, token limit and the hyper-parameters of DPO.

`prefdata run snorkel_pairrm` carries out the iterations; `prefdata build` makes the first one's dataset alone.
"""

from prefdata.dataset import SnorkelLayout
from prefdata.models import VLLM
from prefdata.pairing import SnorkelPairRM
from prefdata.prompts import HubPrompts, SamplePrompts, SnorkelThreeWay
from prefdata.recipe import Iterations, Recipe, profiles
from prefdata.sampling import Samples
from prefdata.scoring import BaselineScorer, PairRM
from prefdata.training import DPOTraining

START = "mistralai/Mistral-7B-Instruct-v0.2"
ultrafeedback = HubPrompts(
    dataset="HuggingFaceH4/ultrafeedback_binarized", split="train_prefs+test_prefs", prompt_id_column="prompt_id"
)

recipe = Recipe(
    name="snorkel_pairrm",
    description="On-policy answers of Mistral-7B-Instruct-v0.2 to UltraFeedback prompts, ranked by PairRM; best "
    "against worst, in three iterations.",
    seed=1,
    # Without the published ids: split="seeded", with sizes that fit three times into the source. Each iteration takes
    # its own part of the three, and names its splits so.
    prompts=SnorkelThreeWay(source=ultrafeedback, iteration=1, split="published"),
    # Temperature and top-p are those of the similar recipes, the token limit is ours.
    candidates=(
        Samples(name="policy", generator=VLLM(model=START), n=5, temperature=0.7, top_p=0.95, max_tokens=2048),
    ),
    scores=PairRM(model="llm-blender/PairRM-hf"),
    pairs=SnorkelPairRM(),
    dataset=SnorkelLayout(iteration=1),
    # Zephyr's hyper-parameters, ZeRO-3 among them; Snorkel's are not published.
    training=DPOTraining(model=START, strategy="zero3"),
    iterations=Iterations(count=3),
    profiles={
        "cpu": profiles.cpu(
            teacher=False,
            iterations=3,
            scores=BaselineScorer(comparisons=True),
            prompts=SnorkelThreeWay(source=SamplePrompts(), iteration=1, split="seeded", train_size=80, test_size=6),
            dataset=SnorkelLayout(iteration=1),
        ),
    },
)
