"""`PythonRule`: a rule that is a Python function of the user's, named by import path and refused unless allowed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import Field

from prefdata.errors import RecipeError, UserError
from prefdata.lazy import pl
from prefdata.pairing._decide import proposed, proposed_rows
from prefdata.pairing._select import Steps
from prefdata.pairing.algebra import PairLimits, Selection
from prefdata.pairing.base import PairRule
from prefdata.pairing.paired import Proposal
from prefdata.spec import JSON, sha256_of_file

__all__ = ["PythonRule", "code_allowed"]

_folders: ContextVar[tuple[str, ...] | None] = ContextVar("folders of code that the user allows", default=None)


@contextmanager
def code_allowed(*folders: str | Path) -> Iterator[None]:
    """Within it, Python rules run; modules are looked for in `folders`, then where Python looks."""
    token = _folders.set(tuple(str(Path(folder).resolve()) for folder in folders))
    try:
        yield
    finally:
        _folders.reset(token)


@cache
def _load(module: str, file: str, _sha256: str) -> ModuleType:
    """A module from its file, once for each content."""
    spec = importlib.util.spec_from_file_location(module, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python module")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


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
    path: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """`module:function`. The module is looked for beside the recipe, then where Python looks."""

    def selections(self) -> tuple[Selection, Selection]:
        """None to give: the function decides.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(f"the rule {self.path!r} is a Python function and has no selections")

    def pins(self) -> dict[str, JSON]:
        """SHA-256 of the file that defines the function.

        Raises:
            RecipeError: code is not allowed, or there is no such module.
        """
        self._check_allowed()
        with self._importing() as module:
            return {"sha256": sha256_of_file(self._file(module))}

    def problems(self) -> list[UserError]:
        """That code is not allowed, or that there is no such function."""
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
            return proposed_rows(eligible, returned)
        return proposed(eligible, *returned, PairLimits())

    def call(self, eligible: pl.DataFrame) -> pl.DataFrame | tuple[Steps, Steps]:
        """Runs the function on these candidates: it returns rows of `chosen` and `rejected`, or how to order each.

        Raises:
            RecipeError: code is not allowed, the function fails, or it returns something else.
        """
        names = ("row", "prompt_id", "source", "index", "response", "model", "finish_reason", "score", "length")
        function = self._function()
        returned = self._guarded(lambda: function(eligible.select(names)))
        if isinstance(returned, pl.DataFrame):
            return self._rows(returned, eligible)
        if isinstance(returned, tuple) and len(returned) == 2 and all(isinstance(key, pl.Expr) for key in returned):
            chosen, rejected = (_Expression(self, key) for key in returned)
            return Steps((chosen,), (chosen,)), Steps((rejected,), (rejected,))
        raise RecipeError(
            f"the rule {self.path!r} returned {type(returned).__name__}",
            valid="a Polars frame with the columns 'chosen' and 'rejected', or two Polars expressions",
        )

    def _rows(self, told: pl.DataFrame, eligible: pl.DataFrame) -> pl.DataFrame:
        """The rows that a function named, each pair once, if they are rows of one prompt each."""
        if {"chosen", "rejected"} - set(told.columns) or not all(
            told[name].dtype.is_integer() or told[name].dtype == pl.Null for name in ("chosen", "rejected")
        ):
            raise RecipeError(
                f"the rule {self.path!r} returned a frame with {dict(told.schema)!r}",
                valid="columns 'chosen' and 'rejected' of numbers from the column 'row'",
            )
        pairs = told.select(pl.col("chosen", "rejected").cast(pl.Int64)).unique()
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

    def _function(self) -> Callable[[pl.DataFrame], Any]:
        self._check_allowed()
        name = self.path.partition(":")[2]
        with self._importing() as module:
            file = self._file(module)
            # Not by its name, under which Python may know the module of another recipe, or this one before an edit.
            here = "." not in module and str(file.parent) in (_folders.get() or ())
            loaded = self._guarded(
                lambda: _load(module, str(file), sha256_of_file(file)) if here else importlib.import_module(module)
            )
        found = getattr(loaded, name, None)
        if not callable(found):
            raise self._missing(f"the module {module!r} has no function {name!r}")
        function: Callable[[pl.DataFrame], Any] = found
        return function

    def _file(self, module: str) -> Path:
        """The file of a module, found without running it (a package around it runs)."""
        for folder in _folders.get() or ():
            if "." not in module and (beside := Path(folder) / f"{module}.py").is_file():
                return beside
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None or found.origin is None or not Path(found.origin).is_file():
            raise self._missing(f"there is no module {module!r}")
        return Path(found.origin)

    @contextmanager
    def _importing(self) -> Iterator[str]:
        """The module's name, while the allowed folders are where Python looks first."""
        importlib.invalidate_caches()
        before = list(sys.path)
        sys.path[:0] = _folders.get() or ()
        try:
            yield self.path.partition(":")[0]
        finally:
            sys.path[:] = before

    def _check_allowed(self) -> None:
        if _folders.get() is None:
            raise RecipeError(
                f"the pair rule {self.path!r} is Python code, which runs only where you allow it",
                hint="read the code, then give --allow-code (in Python: `with code_allowed(folder):`)",
            )

    def _missing(self, why: str) -> RecipeError:
        folders = ", ".join(repr(folder) for folder in _folders.get() or ()) or "none"
        return RecipeError(
            f"the pair rule {self.path!r} can't be loaded: {why}",
            valid=f"a function `module:function`; modules are looked for in {folders}, then where Python looks",
        )

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """The result of the user's code; whatever it raises is the user's to mend, and says where."""
        try:
            return call()
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
            raise RecipeError(f"the pair rule {self.path!r} failed: {type(error).__name__}: {error}{where}") from error


@dataclass(frozen=True)
class _Expression:
    """A user's expression as filter and key of a selection."""

    rule: PythonRule
    key: pl.Expr
    kind: str = "python"

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """The expression's values; NaN is refused."""
        found: pl.Series = self.rule._guarded(lambda: pool.with_columns(self.key.alias("_told"))["_told"])
        if found.dtype.is_float() and found.is_nan().any():
            raise RecipeError(
                f"the pair rule {self.rule.path!r} gave NaN as a key", valid="numbers, and null for nobody"
            )
        return found

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Where the expression is not null."""
        return self.values(pool).is_not_null()
