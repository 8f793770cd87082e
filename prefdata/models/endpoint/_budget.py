"""`Purse`: what one account is paid, and the budget that it never crosses."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import NamedTuple

from prefdata.errors import BudgetError, RecipeError
from prefdata.models.endpoint.prices import Prices
from prefdata.models.endpoint.spending import Spent
from prefdata.spec import JSON, Account

__all__ = ["Bound", "Purse", "Usage", "bound_of"]

_PER_MESSAGE = 16
_PER_REQUEST = 64
_ROUNDING = 1e-9
"""Relative to the budget: sums of floats are not exact to the last bit."""


class Usage(NamedTuple):
    """The tokens of one request as the endpoint tells them; None where it doesn't."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int


class Bound(NamedTuple):
    """Most tokens that one request can take."""

    prompt_tokens: int
    completion_tokens: int


def bound_of(body: Mapping[str, JSON], max_tokens: int) -> Bound:
    """Most tokens of a request: a token has at least one byte, and a chat template adds a few to each message.

    Args:
        body: everything that is sent.
        max_tokens: its token limit.
    """
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return Bound(len(text) + _PER_MESSAGE * len(body["messages"]) + _PER_REQUEST, max_tokens)


class Purse:
    """Pays for the requests of one generator. Safe to use from several threads.

    Args:
        account: whom is paid; parts with the same account share what was spent.
        prices: None counts tokens only.
        budget: most money that the account may be paid over all runs of a build, or None.
        spending: what was paid so far, and where it is written down.

    Raises:
        RecipeError: what was paid so far is in another currency.
    """

    def __init__(self, account: str, prices: Prices | None, budget: float | None, spending: Account) -> None:
        self._account = account
        self._prices = prices
        self._budget = budget
        self._spending = spending
        self._lock = threading.Lock()
        self._reserved: dict[str, float] = {}
        known = spending.of(account).currency
        if prices is not None and known not in ("", prices.currency):
            raise RecipeError(
                f"the prices of {account} are in {prices.currency!r}, but this build has paid it in {known!r}",
                valid="one currency for one build",
                hint=f"give prices and budget in {known!r}",
            )

    def reserve(self, key: str, bound: Bound, *, at_any_rate: bool = False) -> bool:
        """Sets aside what a request can cost at most, until `settle`; False when the budget doesn't allow it.

        Args:
            key: names the request.
            bound: its tokens at most.
            at_any_rate: it is under way already, whatever the budget says.
        """
        with self._lock:
            self._reserved[key] = self._cost(bound)
            if at_any_rate or self._fits():
                return True
            del self._reserved[key]
            return False

    def pay(self, bound: Bound, usage: Usage | None) -> Spent:
        """Writes down what a response cost; where it doesn't tell its tokens, the most that it can have cost."""
        prompt, completion, cached = usage or (None, None, 0)
        prompt = bound.prompt_tokens if prompt is None else prompt
        completion = bound.completion_tokens if completion is None else completion
        cost = self._prices.cost(prompt, completion, min(cached, prompt)) if self._prices else 0.0
        spent = Spent(1, prompt, completion, cost, self._prices.currency if self._prices else "")
        with self._lock:
            self._spending.add(self._account, spent)
        return spent

    def fits(self) -> bool:
        """Whether all that is reserved can still be paid: false after a try was paid for that gave no answer."""
        with self._lock:
            return self._fits()

    def settle(self, key: str) -> None:
        """Ends a reservation; what the request did cost has been paid before."""
        with self._lock:
            self._reserved.pop(key, None)

    def error(self, bound: Bound) -> BudgetError:
        """The error that says that another request doesn't fit."""
        assert self._prices is not None and self._budget is not None
        money, spent = self._prices.currency, self._spending.of(self._account).cost
        return BudgetError(
            f"the budget of {self._budget:g} {money} for {self._account} would be crossed: {spent:.6g} {money} are "
            f"spent, and the next request could cost {self._cost(bound):.6g} {money}",
            valid="a budget that holds what is spent and the next request at its token limit",
            hint="finished answers are kept; raise `budget` and run again",
        )

    def _fits(self) -> bool:
        if self._budget is None:
            return True
        committed: float = self._spending.of(self._account).cost + sum(self._reserved.values())
        return committed <= self._budget * (1 + _ROUNDING)

    def _cost(self, bound: Bound) -> float:
        return self._prices.cost(*bound) if self._prices else 0.0
