"""TRL's own trainers take a step on the layouts of a real build, loaded by name and without mapping code.

The trainers have a process of their own: their import takes seconds and changes global state.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest

from prefdata.training import GPOTraining, SPPOSingleTraining, SPPOTraining
from prefdata.training.rows import split_files

PAIRS, HELD_OUT = 12, 3
NUMBERS = ("chosen_probs", "chosen_probs_win", "chosen_probs_lose")

RECIPE = f"""
from prefdata.dataset import KTO, Axolotl, FullConversation, LlamaFactory, TRLPairs
from prefdata.pairing import SPPO
from prefdata.prompts import FilePrompts
from prefdata.recipe import Recipe
from prefdata.sampling import ExistingCompletions
from prefdata.scoring import BaselineScorer

recipe = Recipe(
    name="tiny",
    prompts=FilePrompts(path="prompts.jsonl"),
    candidates=(ExistingCompletions(name="past", path="answers.jsonl"),),
    scores=BaselineScorer(comparisons=True),
    pairs=SPPO(),
    dataset=TRLPairs(test_size={HELD_OUT}),
    also=(KTO(), FullConversation(), LlamaFactory(), Axolotl()),
)
"""

TRAIN = """
import json, sys
import torch
from datasets import load_dataset
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

torch.manual_seed(0)
torch.set_num_threads(1)
names = ("kto", "full_conversation", "llamafactory", "axolotl", None)
data = {name or "default": load_dataset(sys.argv[1], name, cache_dir="cache") for name in names}

turns = [turn for name in ("prompt", "completion") for cell in data["kto"]["train"][name] for turn in cell]
bpe = ByteLevelBPETokenizer()
bpe.train_from_iterator(
    [turn["content"] for turn in turns], vocab_size=400, special_tokens=["<|im_start|>", "<|im_end|>", "<pad>"]
)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<|im_end|>", pad_token="<pad>")
tokenizer.chat_template = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\\n{{ m['content'] }}<|im_end|>\\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}"
)
config = LlamaConfig(
    vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id, num_labels=1,
    bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
)
LlamaForCausalLM(config).save_pretrained("policy")
LlamaForSequenceClassification(config).save_pretrained("reward")
tokenizer.save_pretrained("policy")
tokenizer.save_pretrained("reward")


def trained(trainer_class, config_class, model, rows):
    arguments = config_class(
        output_dir=model + "-trained", max_steps=1, use_cpu=True, bf16=False, report_to="none", logging_steps=1,
        save_strategy="no", gradient_checkpointing=False, disable_tqdm=True, per_device_train_batch_size=4,
        learning_rate=1e-2, warmup_steps=0, max_length=256,
    )
    trainer = trainer_class(
        model=model, args=arguments, train_dataset=rows["train"], eval_dataset=rows["test"], processing_class=tokenizer
    )
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    changed = sum(bool((weight != before[name]).any()) for name, weight in trainer.model.named_parameters())
    loss = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    return trainer, {
        "kept": len(trainer.train_dataset), "steps": trainer.state.global_step, "loss": loss, "changed": changed,
        "eval_loss": trainer.evaluate()["eval_loss"],
    }


def decoded(ids):
    return [tokenizer.decode(row) for row in ids]


kto, of_kto = trained(KTOTrainer, KTOConfig, "policy", data["kto"])
dpo, of_dpo = trained(DPOTrainer, DPOConfig, "policy", data["full_conversation"])
same, of_same = trained(DPOTrainer, DPOConfig, "policy", data["default"])
reward, of_reward = trained(RewardTrainer, RewardConfig, "reward", data["full_conversation"])
tokens = ("prompt_ids", "chosen_ids", "rejected_ids")
report = {
    "rows": {name: {split: len(rows) for split, rows in parts.items()} for name, parts in data.items()},
    "columns": {name: parts["train"].column_names for name, parts in data.items()},
    "prompts": {name: {split: sorted(set(rows["prompt_id"])) for split, rows in parts.items()}
                for name, parts in data.items()},
    "numbers": {name: {column: list(data[name]["train"][column]) for column in sys.argv[2:]}
                for name in ("full_conversation", "default")},
    "label": str(data["kto"]["train"].features["label"].dtype),
    "labels": data["kto"]["train"]["label"][:],
    "trained": {"kto": of_kto, "dpo": of_dpo, "same": of_same, "reward": of_reward},
    "kto_texts": decoded(kto.train_dataset["completion_ids"][:4]),
    "kto_other_texts": decoded(kto.train_dataset["KL_completion_ids"][:4]),
    "completions": [row[-1]["content"] for row in data["kto"]["train"]["completion"][:4]],
    "alike": [dpo.train_dataset[name][:] == same.train_dataset[name][:] for name in tokens],
    "reward_text": decoded(reward.train_dataset["chosen_ids"][:1]),
    "dpo_text": decoded([[*dpo.train_dataset["prompt_ids"][0], *dpo.train_dataset["chosen_ids"][0]]]),
}
print("\\n" + json.dumps(report))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """What the trainers made of a build with a prompt of several turns among them."""
    pytest.importorskip("trl")
    folder = tmp_path_factory.mktemp("layouts")
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    talk += [{"role": "assistant", "content": "Hello, what is it?"}, {"role": "user", "content": "Count to ten."}]
    prompts = [talk, *(f"What is {number} plus {number}?" for number in range(PAIRS - 1))]
    answers = [
        {"prompt": prompt, "response": f"{text} {place}", "score": score}
        for place, prompt in enumerate(prompts)
        for text, score in (("It is surely", 5), ("I don't know about", 2), ("No", 1))
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    (folder / "recipe.py").write_text(RECIPE)

    def ran(*arguments):
        environment = {**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ran("-m", "prefdata", "build", "recipe.py", "--out", "build")
    dataset = folder / "build" / "dataset"
    return dataset, json.loads(ran("-c", TRAIN, dataset, *NUMBERS).splitlines()[-1])


@pytest.fixture(scope="module")
def report(built):
    return built[1]


def test_each_configuration_is_loaded_by_its_name_with_the_same_prompts_in_each_split(report):
    train = PAIRS - HELD_OUT
    one, two = {"train": train, "test": HELD_OUT}, {"train": 2 * train, "test": 2 * HELD_OUT}
    assert report["rows"] == {
        "kto": two, "full_conversation": one, "llamafactory": one, "axolotl": one, "default": one
    }  # fmt: skip
    assert all(trained == report["prompts"]["default"] for trained in report["prompts"].values())
    assert report["columns"]["kto"] == ["prompt_id", "prompt", "completion", "label"]
    assert (report["label"], report["labels"]) == ("bool", [True, False] * train)


@pytest.mark.parametrize("trainer", ["kto", "dpo", "reward"])
def test_a_trainer_of_trl_keeps_every_row_and_takes_a_step(report, trainer):
    trained = report["trained"][trainer]
    assert trained["kept"] == (PAIRS - HELD_OUT) * (2 if trainer == "kto" else 1), "TRL drops long rows without a word"
    assert trained["steps"] == 1
    assert trained["changed"] > 0
    assert math.isfinite(trained["loss"])
    assert math.isfinite(trained["eval_loss"])


def test_whole_conversations_give_dpo_the_very_tokens_that_the_explicit_layout_gives(report):
    assert report["alike"] == [True, True, True]
    assert report["trained"]["dpo"]["loss"] == pytest.approx(report["trained"]["same"]["loss"])
    assert report["reward_text"] == report["dpo_text"]


def test_the_trainers_of_sppo_and_gpo_find_their_numbers_in_whole_conversations(built, tmp_path):
    dataset, report = built
    numbers = report["numbers"]["full_conversation"]
    assert numbers == report["numbers"]["default"]
    assert {*SPPOTraining.columns, *SPPOSingleTraining.columns, *GPOTraining.columns} == set(NUMBERS) == set(numbers)
    assert all(0 < value < 1 for column in numbers.values() for value in column)
    # A reader that knows a folder of pairs, as the published trainers do, is given this layout alone.
    (tmp_path / "data").symlink_to(dataset / "full_conversation")
    whole, explicit = (split_files(folder)["train"] for folder in (tmp_path, dataset))
    for objective in ("sppo", "sppo_single", "gpo"):
        whole.check(NUMBERS, kind=objective, paired=True)
    assert "prompt" not in whole.schema.names
    assert list(whole.read(NUMBERS)) == list(explicit.read(NUMBERS))
    assert len(list(whole.read(NUMBERS))) == PAIRS - HELD_OUT


def test_kto_reads_the_answers_alone_and_its_neighbour_is_the_other_answer_unless_shuffled(report):
    assert [text.split("<|im_end|>")[0] for text in report["kto_texts"]] == report["completions"]
    # What the layout's docstring warns of: the second row's mismatched answer is that of its own prompt.
    assert report["kto_other_texts"][1] == report["kto_texts"][0]
