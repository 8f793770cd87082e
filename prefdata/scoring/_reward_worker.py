"""The worker of `RewardModel`: the only file of this room that opens transformers and torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.errors import ModelError
from prefdata.spec import JSON
from prefdata.worker import connect

__all__ = ["batches", "main"]


def main() -> None:
    """Serves until every answer is scored."""
    with connect() as door:
        model = _RewardModel(door.config)
        window = door.config["window"]
        while items := door.receive(at_least=window, at_most=window):
            for result in model.score(items):
                door.send(result)


@dataclass(frozen=True, slots=True)
class _Row:
    key: JSON
    ids: list[int]
    truncated_from: int | None


class _UnscorableError(Exception):
    """A text that can't be scored; its neighbours can."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail[:500]


class _RewardModel:
    def __init__(self, config: dict[str, JSON]) -> None:
        import torch

        self._config = config
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer, model = _load(config["folder"], config["dtype"])
        self._model = model.to(self._device).eval()
        self._text_config = model.config.get_text_config()
        self._vocabulary = model.get_input_embeddings().num_embeddings
        self._limit = _limit(config["max_length"], self._tokenizer, self._text_config)
        special = {str(token) for token in self._tokenizer.all_special_tokens}
        special |= {token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special}
        self._control = sorted(special) if config["refuse_control_tokens"] else []

    def score(self, items: Sequence[dict[str, JSON]]) -> Iterator[dict[str, JSON]]:
        """One result for each item, batch by batch."""
        rows = []
        for item in items:
            try:
                rows.append(self._row(item))
            except _UnscorableError as error:
                yield {"key": item["key"], "failure": error.reason, "detail": error.detail}
        lengths = [len(row.ids) for row in rows]
        for places in batches(lengths, self._config["batch_tokens"]):
            batch = [rows[place] for place in places]
            for row, score in zip(batch, self._rewards([row.ids for row in batch]), strict=True):
                yield _result(row, score)

    def _row(self, item: dict[str, JSON]) -> _Row:
        for message in item["messages"]:
            for token in self._control:
                if token in message["content"]:
                    raise _UnscorableError("control_tokens", f"a {message['role']} message contains {token!r}")
        # A template is a program of the model's authors: it raises whatever its engine or its filters raise.
        try:
            # Token ids and not a text: a tokenizer that is given the rendered text puts a second BOS before it.
            ids = self._tokenizer.apply_chat_template(
                item["messages"], add_generation_prompt=False, tokenize=True, return_dict=False
            )
        except Exception as error:
            raise _UnscorableError("template_failed", f"{type(error).__name__}: {error}") from error
        if len(ids) <= self._limit:
            return _Row(item["key"], ids, None)
        if not self._config["truncate"]:
            raise _UnscorableError("too_long", f"{len(ids)} tokens, the limit is {self._limit}")
        return _Row(item["key"], ids[: self._limit], len(ids))

    def _rewards(self, rows: list[list[int]]) -> list[float]:
        """The logit at the last token of each row.

        transformers takes the rightmost token that differs from the padding id to be the last one, which is wrong
        for a text that ends in that very token (pad and end of text are often one). So each batch is padded with an
        id that none of its rows contains; attention never sees it.
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
        rewards: list[float] = logits[:, 0].float().tolist()
        return rewards


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Places in `lengths`, grouped so that a group's size times its longest is at most `batch_tokens`.

    Longest first: a batch that does not fit into memory shows at once.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _result(row: _Row, score: float) -> dict[str, JSON]:
    result: dict[str, JSON] = {"key": row.key, "n_tokens": len(row.ids)}
    if row.truncated_from is not None:
        result["truncated_from"] = row.truncated_from
    if math.isfinite(score):
        return result | {"score": score}
    return result | {"failure": "not_finite", "detail": f"the model's output is {score}"}


def _load(folder: str, dtype: str) -> tuple[Any, Any]:
    """Tokenizer and model.

    Raises:
        ModelError: the folder can't be loaded, or holds no reward model with one output and a chat template.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder)
        _check_head(folder, config)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=dtype, output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the reward model in {folder!r} can't be loaded: {error}",
            valid="a transformers folder with configuration, tokenizer and weights",
            hint="check that the files are complete",
        ) from error
    if missing := sorted(report["missing_keys"]):
        # transformers fills these with random numbers and goes on.
        raise ModelError(
            f"the weights in {folder!r} lack {', '.join(missing[:3])}, so its scores would be random",
            valid="a checkpoint that holds its own reward head",
            hint="name the reward model, not the language model that it was trained from",
        )
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer in {folder!r} has no chat template",
            hint="add the chat_template.jinja that the reward model was trained with to a local folder",
        )
    return tokenizer, model


def _check_head(folder: str, config: Any) -> None:
    valid = "an AutoModelForSequenceClassification checkpoint with one label"
    architectures = config.architectures or []
    if not any(name.endswith("ForSequenceClassification") for name in architectures):
        raise ModelError(
            f"the model in {folder!r} is no sequence classifier but {', '.join(architectures) or 'of no named class'}",
            valid=valid,
            hint="name a reward model",
        )
    if config.num_labels != 1:
        raise ModelError(
            f"the classifier in {folder!r} has {config.num_labels} labels, a reward model has one",
            valid=valid,
            hint="name a pointwise reward model",
        )


def _limit(asked: int | None, tokenizer: Any, config: Any) -> int:
    """Most tokens of a text: what the recipe asks for, else the smaller of the tokenizer's and the model's limit."""
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    own = int(min(positions, tokenizer.model_max_length))
    if asked is None:
        return own
    if asked > positions:
        raise ModelError(
            f"max_length {asked} is more than the {positions} positions of the reward model",
            valid=f"at most {positions}",
            hint="lower `max_length` or leave it out",
        )
    return asked


if __name__ == "__main__":
    main()
