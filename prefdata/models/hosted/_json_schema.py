"""JSON schemas for transformers, enforced token by token with lm-format-enforcer.

Its own transformers integration imports a module that transformers 5 no longer has, so this uses its core.
"""

from __future__ import annotations

from typing import Any

from prefdata.models.hosted._chat import Unanswerable
from prefdata.spec import JSON

__all__ = ["Enforcer", "Enforcers"]


class Enforcers:
    """Makes enforcers for one tokenizer, whose vocabulary is indexed once (about two seconds)."""

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
        """The enforcer of one answer.

        Raises:
            Unanswerable: `request_failed`: the schema is not one that lm-format-enforcer knows.
        """
        from lmformatenforcer import JsonSchemaParser, TokenEnforcer

        # The parser raises what its pydantic model, its lookups or its own checks raise.
        try:
            return Enforcer(TokenEnforcer(self._data, JsonSchemaParser(schema)))
        except Exception as error:
            raise Unanswerable("request_failed", f"{type(error).__name__}: {error}") from error


class Enforcer:
    """Which tokens may follow in one answer."""

    def __init__(self, enforcer: Any) -> None:
        self._enforcer = enforcer

    def allowed(self, answer: list[int]) -> list[int]:
        """The tokens that may follow `answer`.

        Raises:
            Unanswerable: `request_failed`: the schema turned out to be one that can't be enforced.
        """
        from lmformatenforcer import LMFormatEnforcerException

        try:
            found: list[int] = self._enforcer.get_allowed_tokens(answer).allowed_tokens
        except LMFormatEnforcerException as error:
            raise Unanswerable("request_failed", f"{type(error).__name__}: {error}") from error
        return found


def _regular_tokens(tokenizer: Any) -> list[tuple[int, str, bool]]:
    """Each token that is no control token: id, text within a sentence, and whether it begins a word.

    A token's text shows only after another token: at the beginning of a text, decoders drop spaces.
    """
    before = tokenizer.encode("0", add_special_tokens=False)[-1]
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    tokens = []
    for i in range(len(tokenizer)):
        if i not in special:
            inside = tokenizer.decode([before, i])[1:]
            tokens.append((i, inside, len(inside) > len(tokenizer.decode([i]))))
    return tokens
