"""Computes the log-probabilities of pairs of answers under one model, in a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from prefdata.errors import ModelError
from prefdata.models.worker import open_channel
from prefdata.spec import JSON


def main() -> None:
    """Handles one batch of pairs after the other."""
    with open_channel() as channel:
        model = _load(channel.config)
        while items := channel.receive(at_most=1):
            channel.send({"rows": _log_probs(model, items[0]["rows"], channel.config)})


def _load(config: Mapping[str, JSON]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    arguments = dict(config["model_arguments"])
    arguments["dtype"] = getattr(torch, arguments["dtype"])
    try:
        model = AutoModelForCausalLM.from_pretrained(
            config["folder"], use_safetensors=True, local_files_only=True, **arguments
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"transformers can't load the model in {config['folder']!r}: {error}") from error
    if config["adapter"] is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, config["adapter"])
    return model.to(config["device"]).eval()


def _log_probs(model: Any, rows: list[list[JSON]], config: Mapping[str, JSON]) -> list[list[JSON]]:
    """Returns (row, chosen, rejected) of each row; the sums are over the tokens of the answers."""
    import torch

    sequences = [(prompt, answer) for _, prompt, *answers in rows for answer in answers]
    width = max(len(prompt) + len(answer) for prompt, answer in sequences)
    ids = torch.zeros((len(sequences), width), dtype=torch.long)
    attention, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for place, (prompt, answer) in enumerate(sequences):
        length = len(prompt) + len(answer)
        ids[place, :length] = torch.tensor(prompt + answer)
        attention[place, :length] = 1
        mask[place, len(prompt) : length] = 1
    device = config["device"]
    half = torch.autocast(device, dtype=torch.bfloat16) if config["precision"] == "bf16" else contextlib.nullcontext()
    with torch.inference_mode(), half:
        logits = model(input_ids=ids.to(device), attention_mask=attention.to(device)).logits[:, :-1]
    sums = torch.zeros(len(sequences), dtype=torch.float64)
    for place in range(len(sequences)):
        # One sequence at a time: in float32 the logits of a whole batch would not fit.
        log_probs = logits[place].float().log_softmax(-1).gather(1, ids[place, 1:, None].to(device))[:, 0].cpu()
        sums[place] = (log_probs.double() * mask[place, 1:]).sum()
    values = sums.tolist()
    return [[row[0], *values[2 * place : 2 * place + 2]] for place, row in enumerate(rows)]


if __name__ == "__main__":
    main()
