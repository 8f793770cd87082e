"""Snorkel's three iterations: the dataset snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset.

Five answers of the iteration's policy to 20,000 UltraFeedback prompts that no other iteration has, ranked by PairRM,
best against worst, DPO; the trained model is the policy of the next iteration. Source: cards of dataset and model. They
omit how the prompts were drawn, temperature, top-p, token limit and the hyper-parameters of DPO.

The recipe without a profile is the first iteration; `--profile iteration_2` and `--profile iteration_3` are the others,
and sample from the folders named below, which must contain the model of the previous iteration.
"""

from typing import Any, Literal

from prefdata.dataset import SnorkelLayout
from prefdata.models import VLLM
from prefdata.pairing import SnorkelPairRM
from prefdata.prompts import HubPrompts, SamplePrompts, SnorkelThreeWay
from prefdata.recipe import Profile, Recipe, profiles
from prefdata.sampling import Samples
from prefdata.scoring import BaselineScorer, PairRM
from prefdata.training import DPOTraining

START = "mistralai/Mistral-7B-Instruct-v0.2"
ultrafeedback = HubPrompts(
    dataset="HuggingFaceH4/ultrafeedback_binarized", split="train_prefs+test_prefs", prompt_id_column="prompt_id"
)


def iteration(number: Literal[1, 2, 3], policy: str) -> dict[str, Any]:
    """Returns the fields that differ between the iterations."""
    return {
        # Without the published ids: split="seeded", with sizes that fit three times into the source.
        "prompts": SnorkelThreeWay(source=ultrafeedback, iteration=number, split="published"),
        # Temperature and top-p are those of the similar recipes, the token limit is ours.
        "candidates": (
            Samples(name="policy", generator=VLLM(model=policy), n=5, temperature=0.7, top_p=0.95, max_tokens=2048),
        ),
        "dataset": SnorkelLayout(iteration=number),
        # Zephyr's hyper-parameters; Snorkel's are not published.
        "training": DPOTraining(model=policy),
    }


recipe = Recipe(
    name="snorkel_pairrm",
    description="On-policy answers of Mistral-7B-Instruct-v0.2 to UltraFeedback prompts, ranked by PairRM; best "
    "against worst, in three iterations.",
    seed=1,
    **iteration(1, START),
    scores=PairRM(model="llm-blender/PairRM-hf"),
    pairs=SnorkelPairRM(),
    profiles={
        "iteration_2": Profile(**iteration(2, "models/snorkel_pairrm/iteration_1")),
        "iteration_3": Profile(**iteration(3, "models/snorkel_pairrm/iteration_2")),
        "cpu": profiles.cpu(
            teacher=False,
            scores=BaselineScorer(comparisons=True),
            prompts=SnorkelThreeWay(source=SamplePrompts(), iteration=1, split="seeded", train_size=80, test_size=6),
            dataset=SnorkelLayout(iteration=1),
        ),
    },
)
