"""SimPO's on-policy data for Llama-3-8B-Instruct: the dataset princeton-nlp/llama3-ultrafeedback-armorm.

Like `wpo_gemma2_armorm`, without a teacher, at another temperature, and trained by SimPO. Sources: on_policy_data_gen/
(decode.py, post_process.py, reward_model_annotate.py), training_configs/ and README of github.com/princeton-nlp/SimPO.
"""

from prefdata.dataset import TRLPairs
from prefdata.models import VLLM
from prefdata.pairing import BestVsWorst
from prefdata.prompts import HubPrompts
from prefdata.recipe import Recipe, profiles
from prefdata.sampling import Samples
from prefdata.scoring import ArmoRM, BaselineScorer
from prefdata.training import SimPOTraining

POLICY = "meta-llama/Meta-Llama-3-8B-Instruct"

recipe = Recipe(
    name="simpo_llama3_armorm",
    description="On-policy answers of Llama-3-8B-Instruct to UltraFeedback prompts, scored by ArmoRM; best against "
    "worst.",
    seed=1,
    prompts=HubPrompts(dataset="HuggingFaceH4/ultrafeedback_binarized", split="train_prefs"),
    # decode.py runs five times, with seeds 13, 21, 42, 79 and 100, one answer a prompt each.
    candidates=(
        Samples(name="policy", generator=VLLM(model=POLICY), n=5, temperature=0.8, top_p=0.95, max_tokens=4096),
    ),
    scores=ArmoRM(model="RLHFlow/ArmoRM-Llama3-8B-v0.1"),
    # post_process.py drops prompts whose answers are all one text; here such a prompt has only equal scores.
    pairs=BestVsWorst(),
    # The published set has about 59,900 train and 1,960 test rows; the selection of the test rows is not published.
    dataset=TRLPairs(test_size=1960),
    # For DPO on the same data the README names DPOTraining(model=POLICY, beta=0.01, learning_rate=3e-7).
    # ZeRO-3, as published: one GPU can't hold the whole training of 8B parameters.
    training=SimPOTraining(model=POLICY, strategy="zero3"),
    profiles={"cpu": profiles.cpu(temperature=0.8, teacher=False, scores=BaselineScorer())},
)
