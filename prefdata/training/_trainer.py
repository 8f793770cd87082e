"""TRL's DPO trainer with our tokens, our reference and our losses. Runs in the training process only.

Only the public `compute_loss` is overridden to change an objective. TRL computes its metrics as ever, on a model that
remembers its output; its loss is replaced. Private names of TRL 1.16 that are overridden: `_prepare_dataset` (ours is
tokenised), `_precompute_ref_logps` (ours is cached under its own key), `_get_train_sampler` (of transformers).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import trl.trainer.dpo_trainer as stock
from accelerate.utils import broadcast_object_list, gather_object
from trl import DPOTrainer
from trl.models import prepare_deepspeed
from trl.trainer.dpo_trainer import DataCollatorForPreference

from prefdata.errors import ModelError
from prefdata.training.base import Training
from prefdata.training.batches import batches_by_length, grouped_order
from prefdata.training.objectives import PairLogProbs
from prefdata.training.reference import ReferenceCache

_CHUNK = 16
"""Batches of each process that are computed between two writes."""
_TOLERANCE = {"fp32": 2e-4, "bf16": 5e-2}
"""Nats a token by which one model may differ from itself, through batching and rounding."""


class PairCollator(DataCollatorForPreference):  # type: ignore[misc]  # torch, accelerate and TRL are not type-checked here
    """Pads pairs, and brings along the numbers that an objective reads. Counts computed and real tokens."""

    columns: tuple[str, ...] = ()
    computed = 0
    real = 0

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        for name in self.columns:
            batch[name] = torch.tensor([row[name] for row in examples], dtype=torch.float32)
        self.computed += batch["attention_mask"].numel()
        self.real += int(batch["attention_mask"].sum())
        return batch


class GroupedSampler(torch.utils.data.Sampler):  # type: ignore[misc]  # torch, accelerate and TRL are not type-checked here
    """Yields rows in the order of `grouped_order`, another one each epoch."""

    def __init__(self, lengths: list[int], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed, self._epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(grouped_order(self._lengths, self._batch, seed=self._seed, epoch=self._epoch))

    def __len__(self) -> int:
        return len(self._lengths)


class _Once:
    """The model, called as it is; keeps the output of the call that scored."""

    def __init__(self, model: Any) -> None:
        self.model, self.out = model, None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = self.model(*args, **kwargs)
        # With `return_outputs` TRL calls a second time, for logits.
        if kwargs.get("fused_lm_head"):
            self.out = out
        return out


class PairTrainer(DPOTrainer):  # type: ignore[misc]  # torch, accelerate and TRL are not type-checked here
    """Trains on files of tokens, by the objective of a `Training`.

    Args:
        training: the objective.
        references: split → cache of the reference's log-probabilities; empty computes them in every step.
        reference_tokens: most padded tokens of a batch of the reference's pass.
        check_start: whether policy and reference must agree in the first step.
        arguments: of TRL's trainer.
    """

    precompute_ref_logps: bool
    _precompute_engine: Any

    def __init__(
        self,
        *,
        training: Training,
        references: dict[str, ReferenceCache],
        reference_tokens: int,
        check_start: bool,
        **arguments: Any,
    ) -> None:
        self.training, self.references, self._reference_tokens = training, references, reference_tokens
        self._check = check_start and bool(references)
        self.reference_batches = 0
        # TRL hashes every weight for its own cache, which isn't used here.
        hashed, stock.hash_module = stock.hash_module, lambda _model: ""
        try:
            super().__init__(**arguments)
        finally:
            stock.hash_module = hashed

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        columns = {name: inputs.pop(name) for name in self.training.columns if name in inputs}
        self._check = self._check and self.state.global_step == 0
        if not self.training.own_loss and not (self._check and self.model.training):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        had = self.precompute_ref_logps
        if not had:
            # The reference now, so that TRL's loss doesn't run it again.
            reference = self.compute_ref_log_probs(self.ref_model or model, inputs)
            inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = reference
            self.precompute_ref_logps = True
        once = _Once(model)
        try:
            stock_loss = super().compute_loss(once, inputs, return_outputs, num_items_in_batch)
        finally:
            self.precompute_ref_logps = had
        if self._check and self.model.training:
            self._check_start(once.out, inputs)
        if not self.training.own_loss:
            return stock_loss
        loss = self.training.loss(self._pairs(model, once.out, inputs, columns))
        return (loss, stock_loss[1]) if return_outputs else loss

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
        return super().compute_ref_log_probs(
            model, {name: value for name, value in inputs.items() if name not in self.training.columns}
        )

    def _pairs(self, model: Any, out: Any, inputs: dict[str, Any], columns: dict[str, Any]) -> PairLogProbs:
        mask = inputs["completion_mask"][:, 1:]
        log_max = self._log_max(model, inputs) if self.training.needs_max_probability else None
        return PairLogProbs(
            log_probs=out.log_probs[:, -mask.size(1) :],
            mask=mask,
            reference=torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]]),
            log_sum_squares=None if out.log_sum_sq_probs is None else out.log_sum_sq_probs[:, -mask.size(1) :],
            log_max=log_max,
            columns=columns,
        )

    def _log_max(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        with torch.no_grad():
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
            logits = logits[:, :-1].float()
            return logits.amax(-1) - logits.logsumexp(-1)

    def _check_start(self, out: Any, inputs: dict[str, Any]) -> None:
        """Stops where the policy before its first update is not the reference.

        Every objective's loss then has a known value (ln 2 for the sigmoid, half the mean of squared targets for the
        squared loss), because all log-ratios are 0.
        """
        mask = inputs["completion_mask"][:, 1:].float()
        weights = mask if self.ld_alpha is None else _tail_weights(mask, self.ld_alpha)
        policy = (out.log_probs.detach()[:, -mask.size(1) :] * weights).sum(1)
        reference = torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]])
        apart = ((policy - reference).abs() / mask.sum(1).clamp(min=1)).max().item()
        allowed = _TOLERANCE["bf16" if self.args.bf16 else "fp32"]
        if not apart <= allowed:
            chosen, rejected = (policy - reference).chunk(2)
            loss = -torch.nn.functional.logsigmoid(self.beta * (chosen - rejected)).mean().item()
            raise ModelError(
                f"the reference's cached log-probabilities are not those of the model that training starts from: they "
                f"differ by {apart:.3g} nats a token, and the sigmoid loss of the first batch is {loss:.6f}",
                valid=f"at most {allowed:g} nats a token, and ln 2 = 0.693147",
                hint=f"remove {self.references['train'].key}.parquet from the cache of references, then run again",
            )

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self.training.group_by_length:
            return super()._get_train_sampler(train_dataset)
        return grouped_sampler(self)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        cache = self.references[name]
        # One process reads and all take its word: another machine may see another folder.
        state: list[Any] = [self.accelerator.is_main_process and cache.load(), cache.values]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(state)
        whole, cache.values = state
        if not whole:
            self._run_reference(cache, dataset)
        chosen, rejected = cache.columns()
        return dataset.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)

    def _run_reference(self, cache: ReferenceCache, dataset: Any) -> None:
        model = self.ref_model or self.model
        if self.ref_model is None and self.is_deepspeed_enabled:
            # The model is prepared for training later: here its parameters are sharded, or on the CPU.
            self._precompute_engine = self._precompute_engine or prepare_deepspeed(self.model, self.accelerator)
            model = self._precompute_engine
        batches = batches_by_length(cache.missing(), list(dataset["length"]), self._reference_tokens)
        ids = dataset.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])
        zeros = dict.fromkeys(self.training.columns, 0.0)
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        for start in range(0, len(batches), _CHUNK * processes):
            chunk = batches[start : start + _CHUNK * processes]
            computed: list[tuple[int, float, float]] = []
            # With sharded weights each process must make every call, so those without a batch repeat one.
            for place in range(rank, -(-len(chunk) // processes) * processes, processes):
                rows = chunk[min(place, len(chunk) - 1)]
                columns = ids[rows]
                examples = [
                    dict(zip(columns, values, strict=True), **zeros) for values in zip(*columns.values(), strict=True)
                ]
                batch = {key: value.to(self.accelerator.device) for key, value in self.data_collator(examples).items()}
                chosen, rejected = self.compute_ref_log_probs(model, batch)
                computed += zip(rows, chosen.float().tolist(), rejected.float().tolist(), strict=True)
                self.reference_batches += 1
            gathered = gather_object(computed) if processes > 1 else computed
            (cache.append if self.accelerator.is_main_process else cache.fill)(gathered)
        if self.accelerator.is_main_process:
            cache.finish()
        self.accelerator.wait_for_everyone()


def grouped_sampler(trainer: Any) -> GroupedSampler:
    """The sampler of a trainer whose dataset has a column `length`."""
    batch = trainer.args.per_device_train_batch_size * trainer.accelerator.num_processes
    return GroupedSampler(list(trainer.train_dataset["length"]), batch, trainer.args.seed)


def _tail_weights(mask: torch.Tensor, alpha: float) -> torch.Tensor:
    """1 for the tokens up to the shorter answer's length, alpha beyond: TRL's `ld_alpha`."""
    place, lengths = mask.cumsum(1), mask.sum(1)
    shared = torch.minimum(*lengths.chunk(2)).repeat(2).unsqueeze(1)
    return mask * torch.where(place <= shared, 1.0, alpha)
