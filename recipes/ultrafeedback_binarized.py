"""UltraFeedback, binarized: the dataset HuggingFaceH4/ultrafeedback_binarized behind Zephyr.

Without sampling and scoring: UltraFeedback has four answers to each prompt, with GPT-4's overall scores. The best one
is chosen, a random other one rejected. Source: create_dataset.py and README of the dataset.
"""

from prefdata.dataset import TRLPairs
from prefdata.pairing import UltraFeedbackBinarized
from prefdata.prompts import Decontaminate, HubPrompts
from prefdata.prompts.filters import TRUTHFUL_QA
from prefdata.recipe import Recipe, profiles
from prefdata.sampling import ExistingCompletions
from prefdata.scoring import GivenScores
from prefdata.training import DPOTraining

ULTRAFEEDBACK = "openbmb/UltraFeedback"
# The commit that create_dataset.py pins. Before 2023-12-29 2,628 answers had a wrong overall score of 10.
COMMIT = "40b436560ca83a8dba36114c22ab3c66e43f6d5e"

recipe = Recipe(
    name="ultrafeedback_binarized",
    description="The answers and overall scores of UltraFeedback, binarized: best against a random other one.",
    seed=42,
    prompts=HubPrompts(dataset=ULTRAFEEDBACK, revision=COMMIT, prompt_column="instruction", prompt_format="text"),
    # create_dataset.py drops the source truthful_qa, and instructions that are TruthfulQA's questions.
    filters=(Decontaminate(sets=(TRUTHFUL_QA,)),),
    candidates=(
        ExistingCompletions(
            name="ultrafeedback",
            dataset=ULTRAFEEDBACK,
            revision=COMMIT,
            prompt_column="instruction",
            prompt_format="text",
            completions_column="completions",
            model_column="model",
            # Not the mean of the four aspects, as in the first README.
            score_column="overall_score",
        ),
    ),
    scores=GivenScores(),
    pairs=UltraFeedbackBinarized(seed=42),
    dataset=TRLPairs(test_size=2000),
    # ZeRO-3, as published: one GPU can't hold the whole training of 7B parameters.
    training=DPOTraining(model="alignment-handbook/zephyr-7b-sft-full", strategy="zero3"),
    profiles={"cpu": profiles.cpu_answered("ultrafeedback")},
)
