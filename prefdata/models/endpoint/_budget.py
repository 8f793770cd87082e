"""Defines `Budget`, which counts what an account is paid and keeps it below a limit."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import NamedTuple

from prefdata.errors import BudgetError, RecipeError
from prefdata.models.endpoint.prices import Prices
from prefdata.models.endpoint.spending import Spent
from prefdata.spec import JSON, Account

__all__ = ["Bound", "Budget", "Usage", "bound_of"]

_PER_MESSAGE = 16
_PER_REQUEST = 64
_ROUNDING = 1e-9
"""Relative to the budget: sums of floats are not exact to the last bit."""


class Usage(NamedTuple):
    """The tokens of one request as the endpoint reports them; None where it reports none."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int


class Bound(NamedTuple):
    """Most tokens that one request can use."""

    prompt_tokens: int
    completion_tokens: int


def bound_of(body: Mapping[str, JSON], max_tokens: int) -> Bound:
    """Bounds the tokens of a request: a token has at least one byte, and a chat template adds a few to each message.

    Args:
        body: everything that is sent.
        max_tokens: the request's token limit.
    """
    text = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
    return Bound(len(text) + _PER_MESSAGE * len(body["messages"]) + _PER_REQUEST, max_tokens)


class Budget:
    """Reserves and charges the costs of one generator's requests. Safe to use from several threads.

    Args:
        account: name of the account that is paid; parts with the same account share a budget.
        prices: None counts tokens only.
        limit: most money that the account may be paid over all runs of a build; None sets no limit.
        spending: records what the account was paid, in this run and in earlier ones.

    Raises:
        RecipeError: earlier payments of this build are in another currency.
    """

    def __init__(self, account: str, prices: Prices | None, limit: float | None, spending: Account) -> None:
        self._account = account
        self._prices = prices
        self._limit = limit
        self._spending = spending
        self._lock = threading.Lock()
        self._reserved: dict[str, float] = {}
        currency = spending.of(account).currency
        if prices is not None and currency not in ("", prices.currency):
            raise RecipeError(
                f"the prices of {account} are in {prices.currency!r}, but this build has paid it in {currency!r}",
                valid="one currency for one build",
                hint=f"give prices and budget in {currency!r}",
            )

    def reserve(self, key: str, bound: Bound, *, always: bool = False) -> bool:
        """Reserves the most that a request can cost, until `settle`; returns False if the limit does not allow it.

        Args:
            key: identifies the request.
            bound: most tokens of the request.
            always: reserves beyond the limit too, for a request that is under way already.
        """
        with self._lock:
            self._reserved[key] = self._cost(bound)
            if always or self._within_limit():
                return True
            del self._reserved[key]
            return False

    def pay(self, bound: Bound, usage: Usage | None) -> Spent:
        """Records the cost of a response; without its usage, the most that it can have cost."""
        prompt, completion, cached = usage or (None, None, 0)
        prompt = bound.prompt_tokens if prompt is None else prompt
        completion = bound.completion_tokens if completion is None else completion
        cost = self._prices.cost(prompt, completion, min(cached, prompt)) if self._prices else 0.0
        spent = Spent(1, prompt, completion, cost, self._prices.currency if self._prices else "")
        with self._lock:
            self._spending.add(self._account, spent)
        return spent

    def within_limit(self) -> bool:
        """Returns whether all reservations can still be paid: false after paying for a try that gave no answer."""
        with self._lock:
            return self._within_limit()

    def settle(self, key: str) -> None:
        """Ends a reservation; the actual cost was recorded before, by `pay`."""
        with self._lock:
            self._reserved.pop(key, None)

    def error(self, bound: Bound) -> BudgetError:
        """Returns the error for a request that the limit does not allow."""
        assert self._prices is not None and self._limit is not None
        currency, spent = self._prices.currency, self._spending.of(self._account).cost
        return BudgetError(
            f"the budget of {self._limit:g} {currency} for {self._account} would be exceeded: {spent:.6g} {currency} "
            f"are spent, and the next request could cost {self._cost(bound):.6g} {currency}",
            valid="a budget that covers what is spent and the next request at its token limit",
            hint="finished answers are kept; raise `budget` and run again",
        )

    def _within_limit(self) -> bool:
        if self._limit is None:
            return True
        committed: float = self._spending.of(self._account).cost + sum(self._reserved.values())
        return committed <= self._limit * (1 + _ROUNDING)

    def _cost(self, bound: Bound) -> float:
        return self._prices.cost(*bound) if self._prices else 0.0
