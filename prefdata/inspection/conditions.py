"""Reads conditions on pairs: `margin < 1 and (source_chosen == "policy" or prompt contains "poem")`.

::

    condition   = and-parts joined by `or`;  and-part = parts joined by `and`;  part = `not` part | ( condition ) | test
    test        = column OPERATOR value      with < <= > >= == != between numbers, texts, or true and false
                | column OPERATOR column
                | column contains "text"     upper and lower case differ
                | column in (value, ...)
                | column is missing | column is not missing
    column      = its name, or `its name` between back quotes

Nothing is evaluated but this: a condition is parsed into an expression of Polars over known columns. A comparison with
a value that is missing is neither true nor false, and keeps no pair.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from prefdata.errors import InputError, closest
from prefdata.lazy import pl

__all__ = ["ALIASES", "column_of", "filter_of", "names_in"]

ALIASES = {"margin": "score_margin"}
"""Short names of columns."""
_VALID = 'for instance: margin < 1 and source_chosen == "policy"; prompt contains "poem"; unscored is missing'
_MOST = 2_000
"""Longest condition, which also bounds how deep it can be nested."""
_DEPTH = 40
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
        |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
        |(?P<quoted>`[^`]+`)
        |(?P<sign><=|>=|==|!=|=|<|>|\(|\)|,)
        |(?P<word>[^\W\d][\w.-]*))""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
    **{"==": operator.eq, "=": operator.eq, "!=": operator.ne},
}
_WORDS = {"and", "or", "not", "in", "is", "contains", "missing", "true", "false"}

_Schema: TypeAlias = Mapping[str, Any]


class _Token(NamedTuple):
    kind: str
    """`number`, `text`, `column`, `word`, `sign` or `end`."""
    value: Any
    at: int


def names_in(condition: str) -> set[str]:
    """Lists the columns that a condition names, by their full names.

    Raises:
        InputError: a part of it is not a number, a text, a name or a sign.
    """
    return {ALIASES.get(token.value, token.value) for token in _tokens(condition) if token.kind == "column"}


def filter_of(condition: str, schema: _Schema) -> pl.Expr:
    """Makes an expression of a condition.

    Args:
        condition: see above.
        schema: column → type of what is filtered.

    Raises:
        InputError: it can't be read, names a column that is not there, or compares what are not of one kind.
    """
    parser = _Parser(condition, schema)
    expression = parser.condition(0)
    if parser.token.kind != "end":
        raise parser.error("does not end there")
    return expression


def column_of(name: str, schema: _Schema, what: str) -> str:
    """Finds a column by its name or short name.

    Args:
        name: as the user has it.
        schema: column → type.
        what: who names it, for the message.

    Raises:
        InputError: there is none.
    """
    whole = name if name in schema else ALIASES.get(name, name)
    if whole not in schema:
        usable = [each for each in schema if _kind(schema[each]) is not None]
        raise InputError(f"{what}: there is no column {name!r}", valid=closest(name, usable))
    return whole


def _tokens(text: str) -> Iterator[_Token]:
    if len(text) > _MOST:
        raise InputError(f"a condition of {len(text):,} characters is too long", valid=f"at most {_MOST:,}")
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise InputError(f"the condition {text!r} can't be read at {text[at:].lstrip()[:30]!r}", valid=_VALID)
        kind, found = str(match.lastgroup), match[str(match.lastgroup)]
        if kind == "number":
            yield _Token("number", int(found) if re.fullmatch(r"[+-]?\d+", found) else float(found), at)
        elif kind == "text":
            yield _Token("text", re.sub(r"\\(.)", r"\1", found[1:-1], flags=re.DOTALL), at)
        elif kind == "word" and found.lower() in _WORDS:
            yield _Token("word", found.lower(), at)
        elif kind in ("word", "quoted"):
            yield _Token("column", found.strip("`"), at)
        else:
            yield _Token("sign", found, at)
        at = match.end()


class _Parser:
    def __init__(self, text: str, schema: _Schema) -> None:
        self._text, self._schema = text, schema
        self._rest = iter([*_tokens(text), _Token("end", "", len(text))])
        self.token = next(self._rest)

    def error(self, why: str) -> InputError:
        rest = self._text[self.token.at :].strip()[:30]
        return InputError(f"the condition {self._text!r} {why}: {rest!r}" if rest else f"the condition {self._text!r} "
                          "ends too early", valid=_VALID)  # fmt: skip

    def condition(self, depth: int) -> pl.Expr:
        if depth > _DEPTH:
            raise self.error("has too many parts within parts")
        found = self._all(depth)
        while self._takes("word", "or"):
            found = found | self._all(depth)
        return found

    def _all(self, depth: int) -> pl.Expr:
        found = self._part(depth)
        while self._takes("word", "and"):
            found = found & self._part(depth)
        return found

    def _part(self, depth: int) -> pl.Expr:
        turned = False
        while self._takes("word", "not"):
            turned = not turned
        if self._takes("sign", "("):
            found = self.condition(depth + 1)
            self._needs("sign", ")")
        else:
            found = self._test()
        return ~found if turned else found

    def _test(self) -> pl.Expr:
        if self.token.kind != "column":
            raise self.error("has no column there")
        name, kind = self._column()
        if self._takes("word", "is"):
            missing = not self._takes("word", "not")
            self._needs("word", "missing")
            return pl.col(name).is_null() if missing else pl.col(name).is_not_null()
        if kind is None:
            raise InputError(
                f"the condition {self._text!r}: the column {name!r} holds lists or objects, which are not compared",
                valid=f"{name} is missing, or a column of numbers or texts",
            )
        values = _plain(name, kind)
        if self._takes("word", "contains"):
            if kind != "text" or self.token.kind != "text":
                raise self.error("needs a column of texts, and a text between quotes after `contains`")
            return values.str.contains(self._next().value, literal=True)
        turned = self._takes("word", "not")
        if self._takes("word", "in"):
            found = values.is_in(list(self._list(name, kind)))
            return ~found if turned else found
        if turned or self.token.kind != "sign" or self.token.value not in _COMPARE:
            raise self.error("has no operator there")
        compare = _COMPARE[self._next().value]
        result: pl.Expr
        if self.token.kind == "column":
            other, of_kind = self._column()
            self._same(name, kind, f"the column {other!r}", of_kind)
            result = compare(values, _plain(other, kind))
            return result
        result = compare(values, pl.lit(self._value(name, kind)))
        return result

    def _column(self) -> tuple[str, str | None]:
        name = column_of(self._next().value, self._schema, f"the condition {self._text!r}")
        return name, _kind(self._schema[name])

    def _list(self, name: str, kind: str) -> Iterator[Any]:
        self._needs("sign", "(")
        yield self._value(name, kind)
        while self._takes("sign", ","):
            yield self._value(name, kind)
        self._needs("sign", ")")

    def _value(self, name: str, kind: str) -> Any:
        token = self.token
        if token.kind in ("number", "text"):
            self._same(name, kind, repr(token.value), token.kind)
        elif token.kind == "word" and token.value in ("true", "false"):
            self._same(name, kind, token.value, "truth")
        else:
            raise self.error("has no value there")
        self._next()
        return token.value == "true" if kind == "truth" else token.value

    def _same(self, name: str, kind: str, other: str, of_kind: str | None) -> None:
        if kind != of_kind:
            words = {"number": "numbers", "text": "texts, written between quotes", "truth": "true and false"}
            raise InputError(
                f"the condition {self._text!r} compares the column {name!r} with {other}",
                valid=f"{name} holds {words[kind]}",
            )

    def _takes(self, kind: str, value: str) -> bool:
        if (self.token.kind, self.token.value) != (kind, value):
            return False
        self._next()
        return True

    def _needs(self, kind: str, value: str) -> None:
        if not self._takes(kind, value):
            raise self.error(f"has no {value!r} there")

    def _next(self) -> _Token:
        token, self.token = self.token, next(self._rest, self.token)
        return token


def _kind(dtype: Any) -> str | None:
    if dtype.is_numeric():
        return "number"
    return {pl.String: "text", pl.Categorical: "text", pl.Null: "text", pl.Boolean: "truth"}.get(dtype.base_type())


def _plain(name: str, kind: str) -> pl.Expr:
    return pl.col(name).cast(pl.String) if kind == "text" else pl.col(name)
