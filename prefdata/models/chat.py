"""Reads conversations as token ids, by the model's own chat template; for sampling, scoring and training.

Token ids and never a text are what an engine gets: a rendered template already begins with the BOS token where the
model wants one, and a tokenizer that reads it again would put a second one before it.

Runs in workers, next to a tokenizer of transformers. Loading this module loads no heavy package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from prefdata.errors import ModelError, printable
from prefdata.models.bounded import LimitError, bounded
from prefdata.models.template import TEMPLATE_DATE, template_variables
from prefdata.spec import JSON

__all__ = ["ChatTemplate", "ItemError", "common_length", "control_ids", "control_tokens", "mark_id"]

_DETAIL_CHARACTERS = 500
_MOST_CHARACTERS = 16_000_000
_MOST_OVERRUNS = 3
"""Renderings beyond their limits after which the template is given up."""


class ItemError(Exception):
    """Reports one request or text that a worker can't process; the others go on.

    Args:
        reason: slug of a failure or of a score's absence: `control_tokens`, `template_failed`, `prompt_too_long`, ...
        detail: what was wrong, for people; cut to 500 characters, and made printable.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = printable(detail, _DETAIL_CHARACTERS)

    def result(self, key: JSON) -> dict[str, JSON]:
        """Returns the worker's result for the item `key`."""
        return {"key": key, "failure": self.reason, "detail": self.detail}


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Lists the texts that a tokenizer of transformers reads as control tokens, sorted."""
    texts = {str(token) for token in tokenizer.all_special_tokens}
    texts |= {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return tuple(sorted(texts - {""}))


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Returns the ids of the control tokens of a tokenizer of transformers."""
    ids = {int(tokenizer.convert_tokens_to_ids(token)) for token in control_tokens(tokenizer)}
    return frozenset(ids | {int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special})


def mark_id(tokenizer: Any, mark: Literal["bos", "eos", "pad"]) -> int | None:
    """Returns the id of a tokenizer's BOS, EOS or padding token; None where it has none.

    Args:
        tokenizer: of transformers, which takes an empty text for a token, with the id of the unknown one.
        mark: which token.
    """
    return getattr(tokenizer, f"{mark}_token_id") if getattr(tokenizer, f"{mark}_token") else None


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Returns the length of the common beginning of two lists of ids."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))


class ChatTemplate:
    """The chat template of one tokenizer.

    Args:
        tokenizer: a tokenizer of transformers.
        refuse_control_tokens: whether a message that spells out a control token is refused.
        hint: what the user can do about a tokenizer without a template.
        arguments: variables of the template besides the messages.
        date: the day that a template sees which asks for today.

    Raises:
        ModelError: the tokenizer has no chat template.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        refuse_control_tokens: bool,
        hint: str,
        arguments: Mapping[str, JSON] | None = None,
        date: str = TEMPLATE_DATE,
    ) -> None:
        if not tokenizer.chat_template:
            raise ModelError(f"the tokenizer in {tokenizer.name_or_path!r} has no chat template", hint=hint)
        self._tokenizer = tokenizer
        self._variables = template_variables(tokenizer.chat_template, arguments or {}, date)
        self._overruns = 0
        self._refused = control_tokens(tokenizer) if refuse_control_tokens else ()

    def check(self, messages: Sequence[Mapping[str, JSON]]) -> None:
        """Checks that no message spells out a refused control token, which could end its turn and begin another.

        Raises:
            ItemError: `control_tokens`.
        """
        for message in messages:
            for token in self._refused:
                if token in message["content"]:
                    raise ItemError("control_tokens", f"a {message['role']} message contains {token!r}")

    def ids(self, messages: Sequence[Mapping[str, JSON]], *, answer_follows: bool) -> list[int]:
        """Returns the token ids of a conversation.

        Args:
            messages: objects with `role` and `content`.
            answer_follows: ends with the beginning of the assistant's turn, which the model continues.

        Raises:
            ItemError: `control_tokens` or `template_failed`.
            ModelError: the template has reached its limits of time or memory again and again.
        """
        self.check(messages)
        text = self._render(messages, answer_follows=answer_follows)
        return [int(token) for token in self._tokenizer(text, add_special_tokens=False)["input_ids"]]

    def answer_begins(self, messages: Sequence[Mapping[str, JSON]], ids: Sequence[int]) -> int:
        """Returns where the answer begins that ends a conversation: how many ids its prompt has in common with it.

        A template that can't write the prompt alone gives 0, as if all were the answer.

        Args:
            messages: the conversation; the last one is the answer.
            ids: its token ids.
        """
        try:
            prompt = self.ids(messages[:-1], answer_follows=True)
        except ItemError:
            return 0
        return common_length(prompt, ids)

    def text(self, messages: Sequence[Mapping[str, JSON]]) -> str:
        """Returns the text that the template writes for a complete conversation, unchecked for control tokens.

        Raises:
            ItemError: `template_failed`.
            ModelError: see `ids`.
        """
        return self._render(messages, answer_follows=False)

    def _render(self, messages: Sequence[Mapping[str, JSON]], *, answer_follows: bool) -> str:
        # A template is a program of the model's authors: it raises whatever its engine or its filters raise.
        try:
            with bounded():
                text = str(
                    self._tokenizer.apply_chat_template(
                        list(messages), add_generation_prompt=answer_follows, tokenize=False, **self._variables
                    )
                )
        except LimitError as error:
            self._overruns += 1
            if self._overruns == _MOST_OVERRUNS:
                raise ModelError(
                    f"the chat template in {self._tokenizer.name_or_path!r} never ends: {error}",
                    hint="name another model, or a local folder with a chat_template.jinja of your own",
                ) from None
            raise ItemError("template_failed", f"the chat template: {error}") from None
        except Exception as error:
            raise ItemError("template_failed", f"{type(error).__name__}: {error}") from error
        if not text:
            raise ItemError("template_failed", "the chat template writes nothing")
        if len(text) > _MOST_CHARACTERS:
            raise ItemError("template_failed", f"the chat template writes {len(text):,} characters")
        return text
