"""TRL's `DPOTrainer` trains on a folder that prefdata built, as it is: no mapping code between.

The trainer has a process of its own: its import takes seconds, changes global state and warns about other packages.
"""

from __future__ import annotations

import json
import math

import pytest

from prefdata.training import WPOTraining

RECIPE = """
from prefdata.dataset import TRLPairs
from prefdata.pairing import WPOHybridV2
from prefdata.prompts import FilePrompts
from prefdata.recipe import Recipe
from prefdata.sampling import ExistingCompletions
from prefdata.scoring import GivenScores
from prefdata.training import WPOTraining

recipe = Recipe(
    name="tiny",
    prompts=FilePrompts(path="prompts.jsonl"),
    candidates=(ExistingCompletions(name="past", path="answers.jsonl", score_column="score"),),
    scores=GivenScores(),
    pairs=WPOHybridV2(),
    dataset=TRLPairs(test_size=4),
    training=WPOTraining(model="model", learning_rate=1e-3, max_length=256, gradient_accumulation_steps=2),
)
"""

TRAIN = """
import json, sys
import torch
from datasets import load_dataset
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer
from prefdata.recipe import load_recipe

torch.manual_seed(0)
torch.set_num_threads(1)
data = load_dataset(sys.argv[1], cache_dir="cache")

texts = [turn["content"] for row in data["train"] for name in ("prompt", "chosen", "rejected") for turn in row[name]]
bpe = ByteLevelBPETokenizer()
bpe.train_from_iterator(texts, vocab_size=512, special_tokens=["<|im_start|>", "<|im_end|>", "<pad>"])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<|im_end|>", pad_token="<pad>")
tokenizer.chat_template = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\\n{{ m['content'] }}<|im_end|>\\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}"
)
config = LlamaConfig(
    vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id,
    bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
)
LlamaForCausalLM(config).save_pretrained("model")
tokenizer.save_pretrained("model")
before = {name: weight.clone() for name, weight in LlamaForCausalLM.from_pretrained("model").state_dict().items()}

training = load_recipe("recipe.py").training
overrides = dict(
    output_dir="trained", max_steps=2, use_cpu=True, bf16=False, report_to="none", logging_steps=1, save_strategy="no",
    gradient_checkpointing=False, disable_tqdm=True, eval_strategy="steps", eval_steps=2, warmup_steps=0,
)
trainer = DPOTrainer(
    model=training.model,
    args=DPOConfig(**training.trl_arguments() | overrides),
    train_dataset=data["train"],
    eval_dataset=data["test"],
    processing_class=tokenizer,
)
kept = len(trainer.train_dataset)
trainer.train()
after = trainer.model.state_dict()
report = {
    "rows": {name: len(rows) for name, rows in data.items()},
    "kept": kept,
    "columns": data["train"].column_names,
    "prompt": data["train"][0]["prompt"],
    "log": [entry for entry in trainer.state.log_history],
    "changed": sum(bool((after[name] != weight).any()) for name, weight in before.items()),
    "weights": len(before),
    "weighting": trainer.args.use_weighting,
    "steps": trainer.state.global_step,
}
print("\\n" + json.dumps(report))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with a build of 28 pairs, one prompt of several turns among them."""
    folder = tmp_path_factory.mktemp("train")
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    talk += [{"role": "assistant", "content": "Hello, what is it?"}, {"role": "user", "content": "Count to ten."}]
    prompts = [talk, *(f"What is {number} plus {number}?" for number in range(27))]
    answers = [
        {"prompt": prompt, "response": f"{text} {place}", "score": score}
        for place, prompt in enumerate(prompts)
        for text, score in (("It is surely", 5), ("I don't know about", 2), ("No", 1))
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    (folder / "recipe.py").write_text(RECIPE)
    return folder


def test_trl_takes_two_steps_on_a_build(fresh, built):
    said = fresh("build", "recipe.py", "--out", "build", cwd=built)
    assert said.code == 0, said.err
    done = fresh(built / "build" / "dataset", code=TRAIN, cwd=built, HF_HOME=str(built / "hf"), HF_HUB_OFFLINE="1")
    assert done.code == 0, done.err
    report = json.loads(done.out.splitlines()[-1])
    assert report["rows"] == {"train": 24, "test": 4}
    assert report["kept"] == 24, "TRL drops pairs that are too long without a word"
    assert report["columns"][:4] == ["prompt_id", "prompt", "chosen", "rejected"]
    assert {turn["role"] for turn in report["prompt"]} <= {"system", "user", "assistant"}
    assert report["steps"] == 2
    losses = [entry["loss"] for entry in report["log"] if "loss" in entry]
    assert len(losses) == 2
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert all(math.isfinite(entry["eval_loss"]) for entry in report["log"] if "eval_loss" in entry)
    assert any("eval_loss" in entry for entry in report["log"])
    assert report["changed"] == report["weights"]
    assert report["weighting"] is True


def test_the_published_hyper_parameters_are_the_defaults():
    """Model card of Llama3-Instruct-8B-WPO-HB-v2: rate 1e-6, beta 0.01, 2 epochs, batch 128, cosine, warm-up 0.1."""
    training = WPOTraining(model="m")
    arguments = training.trl_arguments()
    assert (arguments["learning_rate"], arguments["beta"], arguments["num_train_epochs"]) == (1e-6, 0.01, 2)
    assert (arguments["lr_scheduler_type"], arguments["warmup_steps"], arguments["use_weighting"]) == (
        "cosine",
        0.1,
        True,
    )
    batch = training.per_device_batch_size * training.gradient_accumulation_steps * training.devices
    assert batch == 128
    assert json.loads(json.dumps(arguments)) == arguments
