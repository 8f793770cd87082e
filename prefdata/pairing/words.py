"""A pair rule in words, with every parameter, as the card, `check` and `what-if` show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prefdata.pairing.algebra import Selection
from prefdata.pairing.base import PairRule
from prefdata.pairing.python_rule import PythonRule
from prefdata.spec import Spec

__all__ = ["rule_words"]

_KEYS: Mapping[str, Callable[[Any], str]] = {
    "highest": lambda _: "highest score",
    "lowest": lambda _: "lowest score",
    "shortest": lambda _: "shortest",
    "longest": lambda _: "longest",
    "nearest_length": lambda _: "length nearest to the chosen one's",
    "first": lambda _: "first in total order",
    "random": lambda key: f"at random (seed {key.seed})",
}
_FILTERS: Mapping[str, Callable[[Any], str]] = {
    "score_at_least": lambda part: f"score at least {part.value:g}",
    "score_at_most": lambda part: f"score at most {part.value:g}",
    "below_chosen": lambda part: f"at least {part.margin:g} below the chosen one",
    "below_chosen_by_source": lambda part: (
        f"at least {part.margin:g} below a chosen one of {_listed(part.sources)}, "
        f"{part.margin_of_others:g} below any other"
    ),
    "from_source": lambda part: f"of {_listed(part.sources)}",
    "not_from_source": lambda part: f"not of {_listed(part.sources)}",
    "finish_reason": lambda part: f"ended by {_listed(part.reasons)}",
    "length_ratio": lambda part: f"length {_between(part)} times the chosen one's",
    "length_difference": lambda part: f"length within {part.at_most} of the chosen one's",
    "not_identical": lambda part: f"another text ({part.how})",
    "quantile": lambda part: f"score quantile {_between(part)}",
}


def rule_words(rule: PairRule) -> str:
    """Writes a rule in words: its kind, both selections, and all parameters, those at their defaults too."""
    kind = str(rule.dump()["kind"])
    if isinstance(rule, PythonRule):
        picks = f"the function {rule.path} picks"
        if conditions := _steps(rule.conditions(), _FILTERS):
            picks += f", rejected {conditions}"
    else:
        chosen, rejected = rule.selections()
        limits = rule.take()
        picks = (
            f"chosen {_counted(limits.chosen)}{_selected(chosen)}; rejected {_counted(limits.rejected)}"
            f"{_selected(rejected, rule.conditions())}"
        )
    return f"{kind}: {picks} ({_parameters(rule)})"


def _selected(selection: Selection, conditions: Sequence[Spec] = ()) -> str:
    among = _steps((*conditions, *selection.among), _FILTERS)
    by = ", then ".join(_KEYS[key.kind](key) for key in selection.by)
    return f"{by}, {among}" if among else by


def _steps(steps: Sequence[Spec], words: Mapping[str, Callable[[Any], str]]) -> str:
    return ", ".join(words[str(step.dump()["kind"])](step) for step in steps)


def _counted(number: int | None) -> str:
    return "" if number == 1 else "all, by " if number is None else f"{number}, by "


def _parameters(rule: PairRule) -> str:
    fields = {
        name: getattr(rule, name) for name in type(rule).model_fields if name not in ("kind", "chosen", "rejected")
    }
    return ", ".join(f"{name} {_shown(value)}" for name, value in fields.items() if value is not None)


def _shown(value: object) -> str:
    if isinstance(value, Spec):
        inner = {name: getattr(value, name) for name in type(value).model_fields}
        return " ".join(str(part) for name, part in inner.items() if name == "kind") + _options(inner)
    if isinstance(value, tuple):
        return _listed(value)
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _options(inner: Mapping[str, object]) -> str:
    return "(" + ", ".join(f"{name} {_shown(value)}" for name, value in inner.items() if name != "kind") + ")"


def _listed(names: Sequence[object]) -> str:
    return " or ".join(map(str, names)) or "none"


def _between(part: Any) -> str:
    bounds = (("at least", part.at_least), ("at most", part.at_most))
    return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
