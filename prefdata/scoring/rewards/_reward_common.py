"""What the workers of this room's models share: control tokens, limits, batches, loading, and the scoring of rows.

Loading it opens no heavy package.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from prefdata.errors import ModelError
from prefdata.models.worker import open_channel
from prefdata.spec import JSON

__all__ = [
    "Answering",
    "Pointwise",
    "Reward",
    "Row",
    "UnscorableError",
    "batches",
    "control_tokens",
    "cut",
    "device",
    "length_limit",
    "load_tokenizer",
    "loading",
    "refuse_control_tokens",
    "serve",
]


Answering: TypeAlias = Callable[[Sequence[dict[str, JSON]]], Iterator[dict[str, JSON]]]
"""From texts to one result for each, with its key, in any order."""

_A_BATCH = 128
"""Tokens that could be computed in the time that a batch costs besides its tokens."""


class UnscorableError(Exception):
    """A text that can't be scored; its neighbours can."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail[:500]


def control_tokens(tokenizer: Any) -> list[str]:
    """The texts that a tokenizer reads as control tokens."""
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return sorted(special - {""})


def refuse_control_tokens(messages: Sequence[dict[str, JSON]], control: Sequence[str]) -> None:
    """Lets no text speak as the template does.

    Raises:
        UnscorableError: `control_tokens`, when a message spells one out.
    """
    for message in messages:
        for token in control:
            if token in message["content"]:
                raise UnscorableError("control_tokens", f"a {message['role']} message contains {token!r}")


def cut(ids: list[int], limit: int, *, truncate: bool) -> tuple[list[int], int | None]:
    """The first `limit` ids, and how many there were when some were cut off.

    Raises:
        UnscorableError: `too_long`, when they don't fit and may not be cut.
    """
    if len(ids) <= limit:
        return ids, None
    if not truncate:
        raise UnscorableError("too_long", f"{len(ids)} tokens, the limit is {limit}")
    return ids[:limit], len(ids)


def batches(lengths: Sequence[int], batch_tokens: int, before: Sequence[int] | None = None) -> Iterator[list[int]]:
    """Places in `lengths`, grouped so that a group's size times its longest is at most `batch_tokens`.

    Of all ways to cut the lengths in descending order, the one with the least padding, where a batch more costs
    as much as `_A_BATCH` tokens. Longest first: a batch that does not fit into memory shows at once.

    Args:
        lengths: tokens to compute of each row.
        batch_tokens: the budget; a row that does not fit is a batch by itself.
        before: cached tokens that each row attends to: they count towards the budget, and are not computed.
    """
    before = before or [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda at: (-lengths[at], -before[at], at))
    least, begins = [0], [0]
    for end in range(1, len(order) + 1):
        cheapest, chosen, cached = -1, end - 1, 0
        for begin in range(end - 1, -1, -1):
            longest, cached = lengths[order[begin]], max(cached, before[order[begin]])
            if end - begin > 1 and (end - begin) * (cached + longest) > batch_tokens:
                break
            cost = least[begin] + (end - begin) * longest + _A_BATCH
            if cheapest < 0 or cost <= cheapest:
                cheapest, chosen = cost, begin
        least.append(cheapest)
        begins.append(chosen)
    cuts, end = [], len(order)
    while end:
        cuts.append((begins[end], end))
        end = begins[end]
    for begin, end in reversed(cuts):
        yield order[begin:end]


def device() -> str:
    """Where a model computes: the first GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def loading(folder: str, what: str = "the reward model") -> Iterator[None]:
    """Tells what a library can't load as one clear error.

    Raises:
        ModelError: something inside raised what transformers and safetensors raise for files that are not right.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{what} in {folder!r} can't be loaded: {error}",
            valid="a transformers folder with configuration, tokenizer and weights",
            hint="check that the files are complete",
        ) from error


def load_tokenizer(folder: str, *, chat: bool = True) -> Any:
    """The tokenizer of a folder.

    Raises:
        ModelError: it can't be loaded, or it has no chat template and `chat` asks for one.
    """
    from transformers import AutoTokenizer

    with loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if chat and not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer in {folder!r} has no chat template",
            hint="add the chat_template.jinja that the reward model was trained with to a local folder",
        )
    return tokenizer


def length_limit(asked: int | None, tokenizer: Any, config: Any) -> int:
    """Most tokens of a text: what the recipe asks for, else the smaller of the tokenizer's and the model's limit.

    Raises:
        ModelError: more is asked for than the model has positions.
    """
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


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation with its answer, as token ids."""

    key: JSON
    ids: list[int]
    truncated_from: int | None


@dataclass(frozen=True, slots=True)
class Reward:
    """What a model says of a row; `detail` is for whoever reads the scores."""

    value: float
    detail: dict[str, JSON] | None = None


class Pointwise(ABC):
    """Scores rows one by one, in batches of like length. A subclass holds the model and computes."""

    def __init__(self, config: dict[str, JSON], tokenizer: Any, model_config: Any) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._limit = length_limit(config["max_length"], tokenizer, model_config)
        self._control = control_tokens(tokenizer) if config["refuse_control_tokens"] else []

    def score(self, items: Sequence[dict[str, JSON]]) -> Iterator[dict[str, JSON]]:
        """One result for each item, in any order."""
        rows = []
        for item in items:
            try:
                rows.append(self._row(item))
            except UnscorableError as error:
                yield {"key": item["key"], "failure": error.reason, "detail": error.detail}
        for row, reward in self._scored(rows):
            yield _result(row, reward)

    def _scored(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Reward]]:
        for places in batches([len(row.ids) for row in rows], self._config["batch_tokens"]):
            batch = [rows[place] for place in places]
            yield from zip(batch, self._rewards([row.ids for row in batch]), strict=True)

    def _row(self, item: dict[str, JSON]) -> Row:
        return Row(item["key"], *cut(self._ids(item), self._limit, truncate=self._config["truncate"]))

    def _ids(self, item: dict[str, JSON]) -> list[int]:
        refuse_control_tokens(item["messages"], self._control)
        # A template is a program of the model's authors: it raises whatever its engine or its filters raise.
        try:
            # Token ids and not a text: a tokenizer that is given the rendered text puts a second BOS before it.
            ids: list[int] = self._tokenizer.apply_chat_template(
                item["messages"], add_generation_prompt=False, tokenize=True, return_dict=False
            )
        except Exception as error:
            raise UnscorableError("template_failed", f"{type(error).__name__}: {error}") from error
        return ids

    @abstractmethod
    def _rewards(self, rows: list[list[int]]) -> list[Reward]:
        """The rewards of the rows of one batch, in their order."""


def _result(row: Row, reward: Reward) -> dict[str, JSON]:
    result: dict[str, JSON] = {"key": row.key, "n_tokens": len(row.ids)}
    if row.truncated_from is not None:
        result["truncated_from"] = row.truncated_from
    if not math.isfinite(reward.value):
        return result | {"failure": "not_finite", "detail": f"the model's output is {reward.value}"}
    if reward.detail is not None:
        result["facts"] = reward.detail
    return result | {"score": reward.value}


def serve(make: Callable[[dict[str, JSON]], Answering]) -> None:
    """The main function of a worker: answers one group of prompts after the other, until there are no more.

    Args:
        make: loads the model of a configuration.
    """
    with open_channel() as door:
        answering = make(door.config)
        while groups := door.receive(at_most=1):
            for group in groups:
                door.send({"key": group["key"], "results": list(answering(group["texts"]))})
