"""Messages to token ids, with the model's own chat template. Runs in a worker, beside the tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prefdata.errors import ModelError
from prefdata.spec import JSON

__all__ = ["Chat", "Unanswerable", "failure"]


class Unanswerable(Exception):  # noqa: N818 - a state of one request, not an error of the program
    """A request that can't be answered; its neighbours can."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def failure(key: str, reason: str, detail: str) -> dict[str, JSON]:
    """The worker's result for a request that can't be answered."""
    return {"key": key, "failure": reason, "detail": detail[:500]}


class Chat:
    """Renders conversations for one model.

    Token ids and never a text are what an engine gets: a rendered template already begins with the BOS token where
    the model wants one, and an engine that tokenises it again would put a second one before it.
    """

    def __init__(self, tokenizer: Any, *, max_model_len: int, refuse_control_tokens: bool) -> None:
        if not tokenizer.chat_template:
            raise ModelError(
                f"the tokenizer in {tokenizer.name_or_path!r} has no chat template: this is a base model",
                hint="name the instruction-tuned model, or add a chat_template.jinja to a local folder",
            )
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        special = {str(token) for token in tokenizer.all_special_tokens}
        added = tokenizer.added_tokens_decoder.values()
        special |= {token.content for token in added if token.special}
        self._control = tuple(sorted(special)) if refuse_control_tokens else ()
        self._texts: dict[int, str] = {}

    def render(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The token ids that the answer follows.

        Raises:
            Unanswerable: `control_tokens`, `template_failed` or `prompt_too_long`.
        """
        for message in messages:
            for token in self._control:
                if token in message["content"]:
                    raise Unanswerable("control_tokens", f"a {message['role']} message contains {token!r}")
        # A template is a program of the model's authors: it raises whatever its engine or its filters raise.
        try:
            ids = self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except Exception as error:
            raise Unanswerable("template_failed", f"{type(error).__name__}: {error}") from error
        if len(ids) >= self._max_model_len:
            raise Unanswerable(
                "prompt_too_long", f"{len(ids)} tokens leave no room for an answer within {self._max_model_len}"
            )
        return [int(token) for token in ids]

    def likeliest(self, found: Iterable[tuple[int, float]], wanted: int) -> list[list[JSON]]:
        """The `wanted` likeliest of some tokens at one place, as text and log-probability, the likeliest first.

        Each token is decoded alone: a part of a character is a replacement character, and a control token its name.
        """
        ordered = sorted(found, key=lambda token: (-token[1], token[0]))[:wanted]
        return [[self._text(token), logprob] for token, logprob in ordered]

    def _text(self, token: int) -> str:
        if token not in self._texts:
            self._texts[token] = str(self._tokenizer.decode([token]))
        return self._texts[token]

    def room(self, ids: Sequence[int]) -> int:
        """How many tokens an answer can have after these."""
        return self._max_model_len - len(ids)
