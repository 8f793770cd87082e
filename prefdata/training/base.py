"""`Training`: an objective with its hyper-parameters, as data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from prefdata.errors import RecipeError
from prefdata.models.template import TEMPLATE_DATE, TemplateArguments, TemplateDate
from prefdata.spec import JSON, Operational, Spec
from prefdata.spec.marks import MODEL, REVISION, Acts, Harmless
from prefdata.training.options import Limits, LoRA

if TYPE_CHECKING:
    import torch

    from prefdata.training.objectives import PairLogProbs

__all__ = ["Strategy", "Training", "unless"]

Strategy = Literal["none", "zero2", "zero3", "zero3_offload", "fsdp2"]
"""How a model is spread over devices: DeepSpeed ZeRO stages (arXiv 1910.02054), PyTorch's FSDP2, or whole on each."""


_TRL = Acts(
    "trl",
    "sets arguments of the trainer beyond the optimiser and the loss",
    harmless_keys=frozenset(
        {"adam_beta1", "adam_beta2", "adam_epsilon", "data_seed", "disable_dropout", "discopop_tau"}
        | {"f_alpha_divergence_coef", "f_divergence_type", "gradient_checkpointing", "label_smoothing", "ld_alpha"}
        | {"logging_steps", "loss_type", "loss_weights", "max_grad_norm", "max_steps", "neftune_noise_alpha"}
        | {"padding_free", "ref_model_mixup_alpha", "ref_model_sync_steps", "save_steps", "sync_ref_model"}
        | {"use_weighting", "warmup_ratio", "weight_decay"}
    ),
)


def unless(default: object) -> object:
    """Returns a `Field` that is not dumped at its default, so that adding the field changes no fingerprint."""
    return Field(exclude_if=lambda value: value == default)


class Training(Spec):
    """What every preference training has. Each subclass says which publication its defaults are taken from."""

    room: ClassVar[str] = "training objective"

    model: Annotated[str, MODEL]
    """The model that training starts from: Hub id or folder. Where there is a reference model, it is this one."""
    learning_rate: Annotated[float, Harmless, Field(gt=0)] = 5e-7
    """Peak learning rate."""
    beta: Annotated[float, Harmless, Field(gt=0)] = 0.01
    """Strength of the pull towards the reference; in SimPO the scale of the rewards."""
    epochs: Annotated[float, Harmless, Field(gt=0)] = 1.0
    """Passes over the train split for which the schedule is made."""
    per_device_batch_size: Annotated[int, Harmless, Field(ge=1)] = 8
    """Pairs a device and forward pass."""
    gradient_accumulation_steps: Annotated[int, Harmless, Field(ge=1)] = 1
    """Forward passes an optimiser step."""
    devices: Annotated[int, Harmless, Field(ge=1)] = 8
    """Devices of the published run; with the two above this gives the batch."""
    optimizer: Annotated[str, Harmless] = "adamw_torch"
    """A transformers optimizer name."""
    schedule: Annotated[str, Harmless] = "linear"
    """A transformers scheduler name."""
    warmup: Annotated[float, Harmless, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in which the rate rises."""
    max_length: Annotated[int, Harmless, Field(ge=1)] = 1024
    """Tokens of prompt and answer together."""
    seed: Annotated[int, Harmless] = 42
    """Seed of the trainer."""
    revision: Annotated[str | None, REVISION, unless(None)] = None
    """Branch, tag or commit of a Hub model."""
    reference: Annotated[str | None, MODEL, unless(None)] = None
    """The reference model, where it is not the one that training starts from: Hub id or folder, with the same
    tokenizer. Its log-probabilities are computed before training and kept, so `cache_reference` must be on."""
    max_prompt_length: Annotated[int | None, Harmless, Field(ge=1), unless(None)] = None
    """Tokens of the prompt alone; how the limit acts depends on `truncation`. None: no limit of its own."""
    truncation: Annotated[Literal["answer_start", "prompt_end", "as_published"], Harmless, unless("answer_start")] = (
        "answer_start"
    )
    """What is kept of a pair that is too long.

    `answer_start`: the prompt, of which at most the last `max_prompt_length` tokens, and the start of each answer.
    `prompt_end`: the answers, and the end of the prompt in the room that they leave. `as_published`: the rule of TRL
    0.9.6 and of the published SPPO trainer, which cuts long answers to `max_length` - `max_prompt_length` tokens.
    """
    add_marks: Annotated[Literal["none", "where_missing", "always"], Harmless, unless("none")] = "none"
    """Whether BOS and EOS are added to what the chat template gives: `where_missing` as TRL 0.9.6 did, `always` as the
    published SPPO trainer does, which gives two of each."""
    template_date: TemplateDate = TEMPLATE_DATE
    """The day that a chat template sees which asks for today: the clock is no input."""
    chat_template_kwargs: TemplateArguments = Field(default_factory=dict)
    """Variables of the chat template, by the names that its authors gave them: `enable_thinking`, ..."""
    group_by_length: Annotated[bool, Harmless, unless(True)] = True
    """Whether a batch holds pairs of nearly the same length, which spares padding; the order stays random, by seed."""
    cache_reference: Annotated[bool, Harmless, unless(True)] = True
    """Whether the reference's log-probabilities are computed once and kept; otherwise a second model runs along."""
    stop_after: Annotated[float | None, Harmless, Field(gt=0), unless(None)] = None
    """Epochs after which training stops although the schedule is made for `epochs`; None: where the schedule ends."""
    lora: Annotated[LoRA | None, Harmless, unless(None)] = None
    """Trains an adapter in place of all weights."""
    limits: Annotated[Limits, Harmless, unless(Limits())] = Limits()
    """When the preflight warns and when it stops."""
    precision: Annotated[Literal["auto", "bf16", "fp32"], Harmless, unless("auto")] = "auto"
    """What the model computes in; auto is bfloat16 on a GPU and float32 on a CPU."""
    attention: Annotated[Literal["sdpa", "eager", "flash_attention_2"], Harmless, unless("sdpa")] = "sdpa"
    """The attention kernel, as transformers names it."""
    strategy: Annotated[Strategy, Harmless, Operational, unless("none")] = "none"
    """How the model is spread over the devices."""
    trl: Annotated[Mapping[str, JSON], _TRL, unless({})] = {}
    """Further arguments of `trl_config`, by TRL's own names; checked against its fields before anything is loaded."""

    own_loss: ClassVar[bool] = False
    """Whether `loss` replaces TRL's loss."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Numbers of a dataset's row that `loss` reads."""
    trainer: ClassVar[Literal["dpo", "cpo", "kto"]] = "dpo"
    """Which of TRL's trainers runs it."""

    @model_validator(mode="after")
    def _reference_is_of_use(self) -> Self:
        if self.reference is not None and (self.trainer != "dpo" or not self.cache_reference or self.lora is not None):
            raise ValueError("`reference` needs `cache_reference`, whole weights, and an objective with a reference")
        return self

    @property
    def batch_size(self) -> int:
        """Pairs an optimiser step, over all devices."""
        return self.per_device_batch_size * self.gradient_accumulation_steps * self.devices

    @property
    def trl_config(self) -> Literal["trl.DPOConfig", "trl.KTOConfig", "trl.experimental.cpo.CPOConfig"]:
        """Which of TRL's configurations takes `trl_arguments`."""
        return "trl.DPOConfig"

    @property
    def trl_lacks(self) -> tuple[str, ...]:
        """What of this training TRL 1.16 can't be told, one sentence each."""
        return ()

    @property
    def needs_max_probability(self) -> bool:
        """Whether `loss` reads the largest probability at each position, which costs a forward pass more."""
        return False

    def loss(self, pairs: PairLogProbs) -> torch.Tensor:
        """Returns the batch's loss, shape (). Only called where `own_loss` is true.

        Raises:
            RecipeError: the class sets `own_loss` and defines no loss.
        """
        raise RecipeError(
            f"the objective {type(self).__name__!r} has no loss of its own",
            hint="define `loss(self, pairs)`, or leave `own_loss` out to take a loss of TRL",
        )

    def on_a_laptop(self, model: str) -> Self:
        """Returns the same objective with a small model, small batches, one device and float32, for the profile `cpu`.

        Args:
            model: the small model.
        """
        small: dict[str, object] = {
            "model": model,
            "revision": None,
            "reference": None,
            "epochs": 1.0,
            "stop_after": None,
            "per_device_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "devices": 1,
            "max_length": min(self.max_length, 512),
            "max_prompt_length": self.max_prompt_length and min(self.max_prompt_length, 384),
            "strategy": "none",
        }
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**kept, **small})

    @abstractmethod
    def trl_arguments(self) -> dict[str, JSON]:
        """Keyword arguments for `trl_config` (TRL 1.16)."""

    def _shared(self) -> dict[str, JSON]:
        return {
            "learning_rate": self.learning_rate,
            "beta": self.beta,
            "num_train_epochs": self.epochs,
            "per_device_train_batch_size": self.per_device_batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "optim": self.optimizer,
            "lr_scheduler_type": self.schedule,
            "warmup_steps": self.warmup,
            "max_length": self.max_length,
            "seed": self.seed,
        }
