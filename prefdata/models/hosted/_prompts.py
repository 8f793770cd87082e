"""Renders the prompts of one model within its length, and spells out the tokens of its answers. Runs in a worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefdata.models.chat import ChatTemplate, ItemError
from prefdata.spec import JSON

__all__ = ["Prompts"]


class Prompts:
    """Renders conversations for one model.

    Args:
        tokenizer: the model's own, of transformers.
        max_model_len: most tokens of prompt and answer together.
        refuse_control_tokens: whether a message that spells out a control token is refused.

    Raises:
        ModelError: the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any, *, max_model_len: int, refuse_control_tokens: bool) -> None:
        self._template = ChatTemplate(
            tokenizer,
            refuse_control_tokens=refuse_control_tokens,
            hint="a base model has none: name the instruction-tuned model, or add a chat_template.jinja to a local "
            "folder",
        )
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        self._texts: dict[int, str] = {}

    def render(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Returns the token ids that the answer follows.

        Raises:
            ItemError: `control_tokens`, `template_failed` or `prompt_too_long`.
        """
        ids = self._template.ids(messages, answer_follows=True)
        if len(ids) >= self._max_model_len:
            raise ItemError(
                "prompt_too_long", f"{len(ids)} tokens leave no room for an answer within {self._max_model_len}"
            )
        return ids

    def room(self, ids: Sequence[int]) -> int:
        """Counts the tokens that an answer can have after these."""
        return self._max_model_len - len(ids)

    def likeliest(self, logprobs: Iterable[tuple[int, float]], n: int) -> list[list[JSON]]:
        """Returns the `n` likeliest of some tokens at one position, as text and log-probability, the likeliest first.

        Each token is decoded alone: a part of a character becomes a replacement character, a control token its name.

        Args:
            logprobs: token ids with their log-probabilities, in any order.
            n: how many are kept.
        """
        ordered = sorted(logprobs, key=lambda token: (-token[1], token[0]))[:n]
        return [[self._text(token), logprob] for token, logprob in ordered]

    def _text(self, token: int) -> str:
        if token not in self._texts:
            self._texts[token] = str(self._tokenizer.decode([token]))
        return self._texts[token]
