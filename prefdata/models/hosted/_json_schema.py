"""Enforces JSON schemas in transformers, token by token, with lm-format-enforcer.

Its own transformers integration imports a module that transformers 5 no longer has, so this uses its core.
"""

from __future__ import annotations

from typing import Any

from prefdata.models.chat import ItemError, control_ids
from prefdata.spec import JSON

__all__ = ["Enforcer", "Enforcers"]


class Enforcers:
    """Makes enforcers for one tokenizer; indexes its vocabulary once (about two seconds).

    Args:
        tokenizer: of transformers.
        eos: ids of the tokens that end an answer.
    """

    def __init__(self, tokenizer: Any, eos: list[int]) -> None:
        from lmformatenforcer import TokenEnforcerTokenizerData

        self._data = TokenEnforcerTokenizerData(
            _regular_tokens(tokenizer),
            lambda ids: str(tokenizer.decode(ids)).rstrip("\N{REPLACEMENT CHARACTER}"),
            eos,
            False,
            len(tokenizer),
        )

    def enforcer(self, schema: JSON) -> Enforcer:
        """Returns the enforcer of one answer.

        Raises:
            ItemError: `request_failed`: lm-format-enforcer does not support the schema.
        """
        from lmformatenforcer import JsonSchemaParser, TokenEnforcer

        # The parser raises what its pydantic model, its lookups or its own checks raise.
        try:
            return Enforcer(TokenEnforcer(self._data, JsonSchemaParser(schema)))
        except Exception as error:
            raise ItemError("request_failed", f"{type(error).__name__}: {error}") from error


class Enforcer:
    """Lists the tokens that may follow in one answer."""

    def __init__(self, enforcer: Any) -> None:
        self._enforcer = enforcer

    def allowed(self, answer: list[int]) -> list[int]:
        """Returns the ids of the tokens that may follow the token ids `answer`.

        Raises:
            ItemError: `request_failed`: the schema can't be enforced after all.
        """
        from lmformatenforcer import LMFormatEnforcerException

        try:
            tokens: list[int] = self._enforcer.get_allowed_tokens(answer).allowed_tokens
        except LMFormatEnforcerException as error:
            raise ItemError("request_failed", f"{type(error).__name__}: {error}") from error
        return tokens


def _regular_tokens(tokenizer: Any) -> list[tuple[int, str, bool]]:
    """Lists each token that is not a control token: id, text within a sentence, and whether it begins a word.

    A token's text is read after another token, because decoders drop spaces at the beginning of a text.
    """
    before = tokenizer.encode("0", add_special_tokens=False)[-1]
    special = control_ids(tokenizer)
    tokens = []
    for i in range(len(tokenizer)):
        if i not in special:
            inside = tokenizer.decode([before, i])[1:]
            tokens.append((i, inside, len(inside) > len(tokenizer.decode([i]))))
    return tokens
