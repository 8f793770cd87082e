"""The table of `benchmarks/training.py` on one GPU: a random Llama of 1.2 billion parameters in bfloat16.

    python benchmarks/training_gpu.py            # at most 6 minutes
    python benchmarks/training_gpu.py --tiny     # the same steps on a CPU with a tiny model, to try the script

Seconds are of the wall with all kernels done; tokens/s are real tokens of both answers, prompts counted twice, padding
not. Each design runs twice: in its first epoch the GPU meets each shape of a batch for the first time, which costs more
than the work itself where shapes are many. `16` and `64` pad to multiples of that many tokens: shapes are fewer.

It needs torch, transformers, trl, datasets, accelerate, pyarrow and pydantic, and no network.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from training import Setting, made_up_lengths, reference_pass, table, write_inputs

SECONDS = 300
"""After which no further design is started."""


def main() -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--batches", default="4,8")
    parser.add_argument("--seconds", type=int, default=SECONDS)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    import torch

    names = ("torch", "transformers", "trl", "accelerate", "datasets")
    print("card:", "none" if given.tiny else torch.cuda.get_device_name(), {name: version(name) for name in names})
    with tempfile.TemporaryDirectory() as folder:
        if given.tiny:
            torch.set_num_threads(1)
            setting = Setting(Path(folder), lengths=made_up_lengths(12))
        else:
            attention = "flash_attention_2" if _has_flash() else "sdpa"
            setting = Setting(
                Path(folder),
                device="cuda",
                dtype="bfloat16",
                vocabulary=128_256,
                hidden=2048,
                layers=16,
                inner=8192,
                heads=32,
                attention=attention,
                reference_tokens=65536,
                lengths=made_up_lengths(given.pairs),
            )
        setting.designs = (*setting.designs, "cached, grouped, 16", "cached, grouped, 64")
        print(f"attention: {setting.attention}, weights: {setting.dtype}, pairs: {len(setting.lengths)}", flush=True)
        write_inputs(setting)
        print(f"inputs written after {time.monotonic() - begun:.0f} s", flush=True)
        batches = [2] if given.tiny else [int(number) for number in given.batches.split(",")]
        numbers = table(setting, batches, 2, until=begun + given.seconds)
        ours, hand = reference_pass(setting)
        real = sum(2 * prompt + chosen + rejected for prompt, chosen, rejected in setting.lengths)
        print(f"\nreference pass: {ours:.2f} s ({real / ours:,.0f} real tokens/s), by hand {hand:.2f} s")
        print(f"whole run: {time.monotonic() - begun:.0f} s")
        if "OUT" in os.environ:
            (Path(os.environ["OUT"]) / "training_gpu.json").write_text(json.dumps(numbers))


def _has_flash() -> bool:
    from transformers.utils import is_flash_attn_2_available

    return bool(is_flash_attn_2_available())


if __name__ == "__main__":
    main()
