"""Runs the worker of `RewardModel` in transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prefdata.errors import ModelError
from prefdata.scoring.rewards._reward_common import (
    BatchScorer,
    Reward,
    Row,
    check_classifier,
    device,
    load_tokenizer,
    loading,
    serve,
)
from prefdata.scoring.rewards._shared_prefix import SharedPrefix
from prefdata.spec import JSON

__all__ = ["check_head", "main"]


def main() -> None:
    """Scores until every answer is scored."""
    serve(lambda config: _RewardModel(config).score)


class _RewardModel(BatchScorer):
    def __init__(self, config: dict[str, JSON]) -> None:
        tokenizer, model = _load(config["folder"], config["dtype"])
        self._device = device()
        self._model = model.to(self._device).eval()
        self._text_config = model.config.get_text_config()
        super().__init__(config, tokenizer, self._text_config)
        self._vocabulary = model.get_input_embeddings().num_embeddings
        self._shared = SharedPrefix(model.base_model, config["batch_tokens"]) if _can_share(model) else None

    def _score_rows(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Reward]]:
        if self._shared is None:
            yield from super()._score_rows(rows)
            return
        import torch

        with torch.inference_mode():
            groups = [row.key[0] if isinstance(row.key, list) else index for index, row in enumerate(rows)]
            for indices, states in self._shared.last_states([row.ids for row in rows], groups):
                values = self._model.score(states)[:, 0].float().tolist()
                yield from ((rows[index], Reward(value)) for index, value in zip(indices, values, strict=True))

    def _rewards(self, rows: list[list[int]]) -> list[Reward]:
        """Computes the logit at the last token of each row.

        transformers takes the rightmost token that differs from the padding id to be the last one, which is wrong
        for a text that ends in that very token (padding and end of text are often the same token). So each batch is
        padded with an id that none of its rows contains; attention never sees it.
        """
        import torch

        width = max(map(len, rows))
        used = set().union(*rows)
        padding = next((token for token in range(self._vocabulary) if token not in used), None)
        if padding is None and len(rows) > 1:
            return [reward for row in rows for reward in self._rewards([row])]
        self._text_config.pad_token_id = padding
        padded = [row + [padding or 0] * (width - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        with torch.inference_mode():
            logits = self._model(
                input_ids=torch.tensor(padded, device=self._device),
                attention_mask=torch.tensor(mask, device=self._device),
                use_cache=False,
            ).logits
        return [Reward(value) for value in logits[:, 0].float().tolist()]


def _can_share(model: Any) -> bool:
    """Returns whether the reward is a plain head on a causal model's last state: then prompts can be cached."""
    from transformers.modeling_layers import GenericForSequenceClassification

    return isinstance(model, GenericForSequenceClassification) and SharedPrefix.supports(model.config)


def _load(folder: str, dtype: str) -> tuple[Any, Any]:
    """Loads tokenizer and model.

    Raises:
        ModelError: the folder can't be loaded, or does not hold a reward model with one output.
    """
    from transformers import AutoModelForSequenceClassification

    check_head(folder)
    with loading(folder):
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, use_safetensors=True
        )
    if missing := sorted(report["missing_keys"]):
        # transformers fills these with random numbers without an error.
        raise ModelError(
            f"the weights in {folder!r} lack {', '.join(missing[:3])}, so its scores would be random",
            valid="a checkpoint that holds its own reward head",
            hint="name the reward model, not the language model that it was trained from",
        )
    return load_tokenizer(folder), model


def check_head(folder: str) -> Any:
    """Loads a configuration, and checks that it is that of a classifier with one output.

    Raises:
        ModelError: the folder can't be loaded, or holds another kind of model.
    """
    from transformers import AutoConfig

    with loading(folder):
        config = AutoConfig.from_pretrained(folder)
    check_classifier(folder, config.architectures, config.num_labels)
    return config


if __name__ == "__main__":
    main()
