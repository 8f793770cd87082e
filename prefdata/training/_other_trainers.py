"""TRL's CPO and KTO trainers on our tokens. Run in the training process only."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from trl import KTOTrainer
from trl.experimental.cpo import CPOTrainer

from prefdata.training._trainer import grouped_sampler
from prefdata.training.base import Training

__all__ = ["AnswerTrainer", "ReferenceFreeTrainer"]


class ReferenceFreeTrainer(CPOTrainer):  # type: ignore[misc]  # TRL has no types
    """Trains on files of tokens by CPO or SimPO: the public `tokenize_row` hands on the ids that are there."""

    def __init__(self, *, training: Training, **arguments: Any) -> None:
        self.training = training
        texts = {name: [""] * len(arguments["train_dataset"]) for name in ("prompt", "chosen", "rejected")}
        # TRL looks for texts in every row before it asks `tokenize_row`.
        for name, column in texts.items():
            arguments["train_dataset"] = arguments["train_dataset"].add_column(name, column)
            if arguments["eval_dataset"] is not None:
                empty = [""] * len(arguments["eval_dataset"])
                arguments["eval_dataset"] = arguments["eval_dataset"].add_column(name, empty)
        super().__init__(**arguments)

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        prompt = feature["prompt_ids"]
        batch: dict[str, Any] = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
        for side in ("chosen", "rejected"):
            ids = prompt + feature[f"{side}_ids"]
            batch[f"{side}_input_ids"] = ids
            batch[f"{side}_attention_mask"] = [1] * len(ids)
            batch[f"{side}_labels"] = [-100] * len(prompt) + feature[f"{side}_ids"]
        return batch

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self.training.group_by_length:
            return super()._get_train_sampler(train_dataset)
        return grouped_sampler(self)


class AnswerTrainer(KTOTrainer):  # type: ignore[misc]  # TRL has no types
    """Trains on files of tokens by KTO."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        def rotated(rows: dict[str, Any]) -> dict[str, Any]:
            return {"KL_completion_ids": [rows["completion_ids"][-1], *rows["completion_ids"][:-1]]}

        # As TRL does it: within a batch, each prompt gets the answer of the row before.
        return dataset.map(rotated, batched=True, batch_size=args.per_device_train_batch_size)
