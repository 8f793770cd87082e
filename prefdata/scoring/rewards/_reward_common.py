"""Limits lengths, makes batches, loads models and scores rows, for the workers of reward models and rankers.

Loading this module loads no heavy package.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from prefdata.errors import ModelError
from prefdata.models.chat import ChatTemplate, ItemError
from prefdata.models.worker import open_channel
from prefdata.records import is_score
from prefdata.spec import JSON

__all__ = [
    "BatchScorer",
    "Reward",
    "Row",
    "ScoreFunction",
    "batches",
    "chat_template",
    "check_answer_is_read",
    "check_classifier",
    "cut",
    "device",
    "length_limit",
    "load_tokenizer",
    "loading",
    "same_rows",
    "serve",
]


_RowT = TypeVar("_RowT")

ScoreFunction: TypeAlias = Callable[[Sequence[dict[str, JSON]]], Iterator[dict[str, JSON]]]
"""Takes texts, and yields one result for each, with its key, in any order."""

_BATCH_COST = 128
"""Fixed cost of a batch on a GPU, in tokens."""
_BATCH_COST_OF_A_CPU = 16
"""On a CPU, where it is little more than reading the weights."""


def chat_template(tokenizer: Any, config: Mapping[str, JSON]) -> ChatTemplate:
    """Returns the chat template of a reward model's tokenizer.

    Args:
        tokenizer: of transformers.
        config: of the worker: `refuse_control_tokens`, and see `TemplateOptions.template_config`.

    Raises:
        ModelError: it has none.
    """
    hint = "add the chat_template.jinja that the reward model was trained with to a local folder"
    return ChatTemplate(
        tokenizer,
        refuse_control_tokens=config["refuse_control_tokens"],
        hint=hint,
        arguments=config["chat_template_kwargs"],
        date=config["template_date"],
    )


def cut(ids: list[int], limit: int, *, truncate: bool) -> tuple[list[int], int | None]:
    """Returns the first `limit` ids, and the number of all ids if some were cut off.

    Raises:
        ItemError: `too_long`: there are more, and `truncate` is False.
    """
    if len(ids) <= limit:
        return ids, None
    if not truncate:
        raise ItemError("too_long", f"{len(ids)} tokens, the limit is {limit}")
    return ids[:limit], len(ids)


def check_classifier(folder: str, architectures: Sequence[str] | None, n_labels: int) -> None:
    """Checks that a configuration is that of a classifier with one output.

    Args:
        folder: of the model, for messages.
        architectures: as the configuration names them.
        n_labels: its number of labels.

    Raises:
        ModelError: it is that of another kind of model.
    """
    valid = "an AutoModelForSequenceClassification checkpoint with one label"
    if not any(name.endswith("ForSequenceClassification") for name in architectures or ()):
        raise ModelError(
            f"the model in {folder!r} is not a sequence classifier but {', '.join(architectures or ()) or 'unnamed'}",
            valid=valid,
            hint="name a reward model",
        )
    if n_labels != 1:
        raise ModelError(
            f"the classifier in {folder!r} has {n_labels} labels, but a reward model has one",
            valid=valid,
            hint="name a pointwise reward model",
        )


def check_answer_is_read(begins: int, limit: int) -> None:
    """Checks that a token of the answer is left of a text that was cut: the score would be of the prompt alone.

    Args:
        begins: number of tokens before the answer.
        limit: number of tokens that are left.

    Raises:
        ItemError: `prompt_fills_the_limit`.
    """
    if begins >= limit:
        raise ItemError("prompt_fills_the_limit", f"the prompt has {begins} tokens, the limit is {limit}")


def same_rows(rows: Iterable[_RowT], key: Callable[[_RowT], Hashable]) -> list[list[_RowT]]:
    """Groups rows of the same ids, which are computed once: in two batches they would differ in the last digits.

    Args:
        rows: in any order.
        key: gives what the computation of a row depends on.
    """
    groups: dict[Hashable, list[_RowT]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def batches(
    lengths: Sequence[int], batch_tokens: int, before: Sequence[int] | None = None, *, cost: int | None = None
) -> Iterator[list[int]]:
    """Groups rows into batches; a batch's size times its longest length is at most `batch_tokens`.

    Of all ways to cut the lengths in descending order, takes the one with the least padding, where each batch costs
    some tokens more. The longest rows come first, so that a batch that does not fit into memory fails at once.

    Args:
        lengths: tokens to compute of each row.
        batch_tokens: the budget; a longer row is a batch by itself.
        before: cached tokens that each row attends to; they count towards the budget, and are not computed.
        cost: fixed cost of a batch, in tokens; left out, that of this machine.

    Yields:
        The indices in `lengths` of a batch's rows.
    """
    before = before or [0] * len(lengths)
    cost = (_BATCH_COST if device() == "cuda" else _BATCH_COST_OF_A_CPU) if cost is None else cost
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], -before[row], row))
    least, begins = [0], [0]
    for end in range(1, len(order) + 1):
        cheapest, best_begin, cached = -1, end - 1, 0
        for begin in range(end - 1, -1, -1):
            longest, cached = lengths[order[begin]], max(cached, before[order[begin]])
            if end - begin > 1 and (end - begin) * (cached + longest) > batch_tokens:
                break
            total = least[begin] + (end - begin) * longest + cost
            if cheapest < 0 or total <= cheapest:
                cheapest, best_begin = total, begin
        least.append(cheapest)
        begins.append(best_begin)
    cuts, end = [], len(order)
    while end:
        cuts.append((begins[end], end))
        end = begins[end]
    for begin, end in reversed(cuts):
        yield order[begin:end]


def device() -> str:
    """Returns the device on which a model computes: the first GPU if the machine has one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def loading(folder: str, name: str = "the reward model") -> Iterator[None]:
    """Translates the errors of transformers and safetensors for bad files into one clear error.

    Args:
        folder: that is loaded.
        name: of the model, for the message.

    Raises:
        ModelError: the code inside raised one of these errors.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{name} in {folder!r} can't be loaded: {error}",
            valid="a transformers folder with configuration, tokenizer and weights",
            hint="check that the files are complete",
        ) from error


def load_tokenizer(folder: str) -> Any:
    """Loads the tokenizer of a folder.

    Raises:
        ModelError: it can't be loaded.
    """
    from transformers import AutoTokenizer

    with loading(folder):
        return AutoTokenizer.from_pretrained(folder)


def length_limit(max_length: int | None, tokenizer: Any, config: Any) -> int:
    """Returns the most tokens of a text: the recipe's `max_length`, else the smaller limit of tokenizer and model.

    Raises:
        ModelError: `max_length` is more than the model has positions.
    """
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    own = int(min(positions, tokenizer.model_max_length))
    if max_length is None:
        return own
    if max_length > positions:
        raise ModelError(
            f"max_length {max_length} is more than the {positions} positions of the reward model",
            valid=f"at most {positions}",
            hint="lower `max_length` or leave it out",
        )
    return max_length


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation with its answer, as token ids."""

    key: JSON
    ids: list[int]
    truncated_from: int | None
    """Number of tokens before the end was cut off; None if nothing was."""


@dataclass(frozen=True, slots=True)
class Reward:
    """A model's value for one row; `detail` is added to the score for people who read it."""

    value: float
    detail: dict[str, JSON] | None = None


class BatchScorer(ABC):
    """Scores each text by itself, in batches of similar length. A subclass holds the model and computes.

    Args:
        config: of the worker: `max_length`, `batch_tokens`, `truncate`, and what `chat_template` reads.
        tokenizer: of transformers, with a chat template.
        model_config: of transformers; its positions limit the length.

    Raises:
        ModelError: the tokenizer has no chat template, or `max_length` is more than the model has positions.
    """

    def __init__(self, config: dict[str, JSON], tokenizer: Any, model_config: Any) -> None:
        self._config = config
        self._template = chat_template(tokenizer, config)
        self._limit = length_limit(config["max_length"], tokenizer, model_config)

    def score(self, items: Sequence[dict[str, JSON]]) -> Iterator[dict[str, JSON]]:
        """Yields one result for each item, in any order; items of the same ids get the same score, computed once."""
        rows: list[Row] = []
        for item in items:
            try:
                rows.append(self._row(item))
            except ItemError as error:
                yield error.result(item["key"])
        groups = {tuple(same[0].ids): same for same in same_rows(rows, lambda row: tuple(row.ids))}
        for first, reward in self._score_rows([same[0] for same in groups.values()]):
            for row in groups[tuple(first.ids)]:
                yield _result(row, reward)

    def _score_rows(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Reward]]:
        for indices in batches([len(row.ids) for row in rows], self._config["batch_tokens"]):
            batch = [rows[index] for index in indices]
            yield from zip(batch, self._rewards([row.ids for row in batch]), strict=True)

    def _row(self, item: dict[str, JSON]) -> Row:
        ids = self._ids(item)
        kept, truncated_from = cut(ids, self._limit, truncate=self._config["truncate"])
        if truncated_from is not None:
            check_answer_is_read(self._template.answer_begins(item["messages"], ids), self._limit)
        return Row(item["key"], kept, truncated_from)

    def _ids(self, item: dict[str, JSON]) -> list[int]:
        return self._template.ids(item["messages"], answer_follows=False)

    @abstractmethod
    def _rewards(self, rows: list[list[int]]) -> list[Reward]:
        """Computes the rewards of one batch, given its rows' token ids, in their order."""


def _result(row: Row, reward: Reward) -> dict[str, JSON]:
    result: dict[str, JSON] = {"key": row.key, "n_tokens": len(row.ids)}
    if row.truncated_from is not None:
        result["truncated_from"] = row.truncated_from
    if not is_score(reward.value):
        return result | {"failure": "not_finite", "detail": f"the model's output is {reward.value}"}
    if reward.detail is not None:
        result["facts"] = reward.detail
    return result | {"score": reward.value}


def serve(make: Callable[[dict[str, JSON]], ScoreFunction]) -> None:
    """Runs a worker: scores one group of prompts after the other, until no more come.

    Args:
        make: loads the model of a configuration.
    """
    with open_channel() as channel:
        score = make(channel.config)
        while groups := channel.receive(at_most=1):
            for group in groups:
                channel.send({"key": group["key"], "results": list(score(group["texts"]))})
