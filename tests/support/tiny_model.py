"""A chat model of 100,000 random parameters with a vocabulary of its own, and a dataset folder of pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = ["red", "green", "blue", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "cat"]
WORDS += ["dog", "bird", "tree", "house", "river", "stone"]


def sentence(seed: int, words: int) -> str:
    return " ".join(WORDS[(seed * 7 + place * (seed % 5 + 1)) % len(WORDS)] for place in range(words))


def pair_rows(count: int = 40, *, answer_words: int = 6) -> list[dict]:
    """Pairs of different lengths, with the three columns of a self-play rule."""
    rows = []
    for number in range(count):
        win = 0.9 - 0.3 * (number % 4) / 4
        rows.append(
            {
                "prompt_id": f"p{number:03d}",
                "prompt": [{"role": "user", "content": f"Say {sentence(number, 2 + number % 9)}"}],
                "chosen": [{"role": "assistant", "content": f"Sure: {sentence(number, answer_words + number % 7)}"}],
                "rejected": [{"role": "assistant", "content": sentence(number + 3, 2 + (number * 5) % 11) + " no"}],
                "chosen_probs": win,
                "chosen_probs_win": win - 0.1,
                "chosen_probs_lose": 1 - win,
            }
        )
    return rows


def write_dataset(folder: Path, rows: list[dict], test: list[dict] | None = None) -> Path:
    (folder / "data").mkdir(parents=True)
    for name, part in (("train", rows), ("test", test or [])):
        if part or name == "train":
            table = pa.Table.from_pylist(part)
            pq.write_table(table, folder / "data" / f"{name}-00000-of-00001.parquet")
    return folder


def write_model(folder: Path, *, seed: int = 0, template: str = TEMPLATE, layers: int = 2) -> Path:
    """Saves the model and its tokenizer; another seed gives other weights under the same names."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<|im_start|>", "<|im_end|>", "<pad>"]
    texts = [json.dumps(row) for row in pair_rows(60)]
    bpe.train_from_iterator(texts, vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token="<s>", eos_token="<|im_end|>", pad_token="<pad>"
    )
    tokenizer.chat_template = template
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
