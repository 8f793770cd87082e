"""`PythonRule`: a rule that is a Python function of the user's, named by import path and refused unless allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from prefdata.errors import RecipeError, UserError
from prefdata.lazy import pl
from prefdata.pairing._decide import proposed, proposed_rows
from prefdata.pairing._select import Steps
from prefdata.pairing.algebra import PairLimits, Selection
from prefdata.pairing.base import PairRule
from prefdata.pairing.paired import Proposal
from prefdata.spec import JSON
from prefdata.spec.code import IMPORT_PATH, Code
from prefdata.spec.marks import CODE

__all__ = ["PythonRule"]


class PythonRule(PairRule):
    """Whatever a Python function picks, among eligible candidates, where the rejected one's score is lower.

    The function is called once for each shard with the eligible candidates of its prompts: a Polars frame in total
    order with `row`, `prompt_id`, `source`, `index`, `response`, `model`, `finish_reason`, `score`, `length`. It
    returns one of two things:

    * a frame with the columns `chosen` and `rejected`, numbers of rows, any number of pairs a prompt;
    * two Polars expressions, the chosen and the rejected one's key: the smallest value of a prompt wins, null is not
      admitted. The second one may also use `chosen_score`, `chosen_length`, `chosen_response` and `chosen_source`.

    The conditions of every rule hold: pairs whose rejected answer has no lower score or the chosen one's text are left
    out, and a prompt without a pair is dropped with its reason. A prompt's result must not depend on other prompts.
    """

    kind: Literal["python"] = "python"
    path: Annotated[str, CODE, Field(pattern=IMPORT_PATH)]
    """`module:function`. The module is looked for in the recipe's folder, then where Python looks."""

    def selections(self) -> tuple[Selection, Selection]:
        """Refuses: the function decides.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(f"the rule {self.path!r} is a Python function, which does not have selections")

    def pins(self) -> dict[str, JSON]:
        """Hashes the file that defines the function.

        Raises:
            RecipeError: code is not allowed, or there is no such module.
        """
        return {"sha256": self._code.sha256()}

    def problems(self) -> list[UserError]:
        """Reports that code is not allowed, or that there is no such function."""
        found = super().problems()
        try:
            self._function()
        except UserError as problem:
            found.append(problem)
        return found

    def needs_quantiles(self) -> bool:
        """Returns False: the function does not see quantiles."""
        return False

    def needs_texts(self) -> bool:
        """Returns True: the function sees the texts."""
        return True

    def proposal(self, eligible: pl.DataFrame) -> Proposal:
        """See `PairRule.proposal`."""
        returned = self.call(eligible)
        if isinstance(returned, pl.DataFrame):
            return proposed_rows(eligible, returned, self.same_text(), self.conditions())
        chosen, rejected = returned
        rejected_by = Steps((*self.conditions(), *rejected.among), rejected.by)
        return proposed(eligible, chosen, rejected_by, PairLimits(), self.same_text())

    def call(self, eligible: pl.DataFrame) -> pl.DataFrame | tuple[Steps, Steps]:
        """Runs the function on these candidates: it returns rows of `chosen` and `rejected`, or how to order each.

        Raises:
            RecipeError: code is not allowed, the function fails, or it returns something else.
        """
        names = ("row", "prompt_id", "source", "index", "response", "model", "finish_reason", "score", "length")
        function = self._function()
        returned = self._code.guarded(lambda: function(eligible.select(names)))
        if isinstance(returned, pl.DataFrame):
            return self._rows(returned, eligible)
        if isinstance(returned, tuple) and len(returned) == 2 and all(isinstance(key, pl.Expr) for key in returned):
            chosen, rejected = (_Expression(self, key) for key in returned)
            return Steps((chosen,), (chosen,)), Steps((rejected,), (rejected,))
        raise RecipeError(
            f"the rule {self.path!r} returned {type(returned).__name__}",
            valid="a Polars frame with the columns 'chosen' and 'rejected', or two Polars expressions",
        )

    def _rows(self, returned: pl.DataFrame, eligible: pl.DataFrame) -> pl.DataFrame:
        """The rows that a function named, each pair once, if they are rows of one prompt each."""
        if {"chosen", "rejected"} - set(returned.columns) or not all(
            returned[name].dtype.is_integer() or returned[name].dtype == pl.Null for name in ("chosen", "rejected")
        ):
            raise RecipeError(
                f"the rule {self.path!r} returned a frame with {dict(returned.schema)!r}",
                valid="columns 'chosen' and 'rejected' of numbers from the column 'row'",
            )
        pairs = returned.select(pl.col("chosen", "rejected").cast(pl.Int64)).unique()
        known = eligible.select(pl.col("row").cast(pl.Int64), "prompt_id")
        placed = pairs.join(known, left_on="chosen", right_on="row", how="left").join(
            known, left_on="rejected", right_on="row", how="left", suffix="_rejected"
        )
        if (
            wrong := placed.filter(~pl.col("prompt_id").eq(pl.col("prompt_id_rejected")).fill_null(value=False))
        ).height:
            raise RecipeError(
                f"the rule {self.path!r} paired row {wrong['chosen'][0]} with row {wrong['rejected'][0]}",
                valid="two rows of the frame that belong to one prompt",
            )
        return pairs.cast(eligible.schema["row"])

    @property
    def _code(self) -> Code:
        return Code("the pair rule", self.path)

    def _function(self) -> Callable[[pl.DataFrame], Any]:
        function: Callable[[pl.DataFrame], Any] = self._code.load()
        return function


@dataclass(frozen=True)
class _Expression:
    """A user's expression as filter and key of a selection."""

    rule: PythonRule
    key: pl.Expr
    kind: str = "python"

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """The expression's values; NaN is refused."""
        found: pl.Series = self.rule._code.guarded(lambda: pool.with_columns(self.key.alias("_told"))["_told"])
        if found.dtype.is_float() and found.is_nan().any():
            raise RecipeError(
                f"the pair rule {self.rule.path!r} gave NaN as a key",
                valid="numbers, and null where it can't win",
            )
        return found

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Where the expression is not null."""
        return self.values(pool).is_not_null()
