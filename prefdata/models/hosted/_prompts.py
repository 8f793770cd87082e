"""Renders the prompts of one model within its length, and spells out the tokens of its answers. Runs in a worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from prefdata.models.chat import ChatTemplate, ItemError, control_tokens
from prefdata.models.template import TEMPLATE_DATE
from prefdata.spec import JSON
from prefdata.tables.reasoning import MARKS

__all__ = ["Prompts"]

_HARMONY = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|call|>", "<|constrain|>")
_TAIL = 16
"""Tokens at the end of a prompt that are looked at; no mark has more."""


class Prompts:
    """Renders conversations for one model.

    Args:
        tokenizer: the model's own, of transformers.
        max_model_len: most tokens of prompt and answer together.
        refuse_control_tokens: whether a message that spells out a control token is refused.
        thinking_marks: what the model writes before and after its reasoning, besides the usual marks.
        chat_template_kwargs: variables of the chat template besides the messages.
        template_date: the day that a chat template sees which asks for today.

    Raises:
        ModelError: the tokenizer has no chat template.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_model_len: int,
        refuse_control_tokens: bool,
        thinking_marks: Sequence[str] | None = None,
        chat_template_kwargs: Mapping[str, JSON] | None = None,
        template_date: str = TEMPLATE_DATE,
    ) -> None:
        self._template = ChatTemplate(
            tokenizer,
            refuse_control_tokens=refuse_control_tokens,
            arguments=chat_template_kwargs,
            date=template_date,
            hint="a base model has none: name the instruction-tuned model, or add a chat_template.jinja to a local "
            "folder",
        )
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        self._texts: dict[int, str] = {}
        own = [] if thinking_marks is None else [(thinking_marks[0], thinking_marks[1])]
        self._marks = (*own, *MARKS)
        named = {*_HARMONY, *(mark for pair in self._marks for mark in pair)}
        self._hidden = {int(tokenizer.convert_tokens_to_ids(t)) for t in control_tokens(tokenizer) if t in named}

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

    @classmethod
    def of(cls, tokenizer: Any, config: Mapping[str, JSON], max_model_len: int) -> Prompts:
        """Makes them from the configuration of a worker: see `HostedModel._answer`.

        Raises:
            ModelError: the tokenizer has no chat template.
        """
        names = ("refuse_control_tokens", "thinking_marks", "chat_template_kwargs", "template_date")
        return cls(tokenizer, max_model_len=max_model_len, **{name: config[name] for name in names})

    def opened(self, ids: Sequence[int]) -> str:
        """Returns the mark of reasoning that a prompt ends with, so that the answer begins after it; else nothing."""
        end = str(self._tokenizer.decode(list(ids[-_TAIL:]))).rstrip()
        return next((begin for begin, _ in self._marks if end.endswith(begin)), "")

    def revealed(self, answer: Sequence[int], text: str) -> str:
        """Returns the text of an answer with the marks of reasoning that are control tokens, which engines leave out.

        Args:
            answer: its token ids.
            text: as the engine decoded it; returned as it is where the answer has no such mark.
        """
        if not self._hidden.intersection(answer):
            return text
        pieces = groupby(answer, lambda token: token in self._hidden)
        decoded = (self._tokenizer.decode(list(ids), skip_special_tokens=not mark) for mark, ids in pieces)
        return "".join(map(str, decoded))

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
