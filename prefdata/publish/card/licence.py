"""`derive_licence`: derives the licence of a dataset from the terms of its inputs.

The inputs are read from the recipe's JSON: every dataset, file and model that its prompts, candidates, backfill and
scorer name. The strictest terms decide. Where the terms of several inputs bind, no single id covers them: the licence
is `other`, named after all of them. Where the terms of an input are not known, it is `other` and names that input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from prefdata.publish.card.terms import LICENSE_IDS, TERMS, Terms, known_license
from prefdata.spec import JSON

__all__ = ["InputTerms", "Licence", "derive_licence", "licence_lines"]

_BINDING = 2
"""Terms of this strictness and above stay in force together with others."""
_METHOD = Terms("", "none", 0, "a method, carried out by prefdata's own code")
_ROLES = {"prompts": "prompts", "candidates": "answers", "backfill": "backfill", "scores": "scores"}
_FAMILIES = (
    (r"(cc-by-.*nd|cc-.*-nd).*", 5),
    (r"cc-by-nc.*|.*noncommercial.*|.*research.*|apple-amlr", 4),
    (r"llama.*|gemma|grok.*|.*rail.*|deepfloyd.*|apple-ascl", 3),
    (r".*-sa-.*|a?gpl.*|lgpl.*|gfdl|odbl|cdla-sharing.*|osl.*|epl.*|eupl.*|mpl.*", 2),
    (r"cc|cc-by-.*|odc-by|etalab.*", 1),
)


@dataclass(frozen=True)
class InputTerms:
    """One input and its terms."""

    role: str
    """`prompts`, `answers`, `backfill`, `scores`, `table` or `rule`."""
    name: str
    """Name of the dataset, file, model or rule."""
    terms: Terms | None
    """None where they are not known."""
    stated: bool = False
    """Whether the recipe states the terms; otherwise prefdata knows them."""


@dataclass(frozen=True)
class Licence:
    """The licence in the card's header, and the inputs that it is derived from."""

    license: str
    """The Hub's id."""
    inputs: tuple[InputTerms, ...]
    license_name: str | None = None
    """Only where the licence is `other`."""
    license_link: str | None = None
    """Only where the licence is `other`."""

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the inputs whose terms are not known."""
        return tuple(dict.fromkeys(entry.name for entry in self.inputs if entry.terms is None))

    @property
    def strictness(self) -> int:
        """Strictness of the strictest terms: see `Terms.strictness`."""
        return max((entry.terms.strictness for entry in self.inputs if entry.terms is not None), default=0)

    def header(self) -> dict[str, JSON]:
        """Returns the licence keys of the card's header."""
        values = {"license": self.license, "license_name": self.license_name, "license_link": self.license_link}
        return {key: value for key, value in values.items() if value}


def derive_licence(recipe: Mapping[str, JSON]) -> Licence:
    """Derives the licence of the dataset of a recipe.

    Args:
        recipe: `Recipe.dump()`, or the `recipe.json` of a dataset. That of `prefdata pair` names its table and rule.
    """
    publish = recipe.get("publish")
    licences = publish.get("licenses") if isinstance(publish, Mapping) else None
    stated = licences if isinstance(licences, Mapping) else {}
    inputs = tuple(dict.fromkeys(_input(role, name, stated) for role, name in _inputs(recipe)))
    rule = recipe.get("pairs")
    kind = rule.get("kind") if isinstance(rule, Mapping) else None
    listed = (*inputs, *([InputTerms("rule", str(kind), _METHOD)] if kind else []))
    terms_of = {entry.terms.name: entry.terms for entry in inputs if entry.terms is not None}
    ranked = sorted(terms_of.values(), key=lambda terms: (-terms.strictness, terms.license, terms.name))
    binding = [terms for terms in ranked if terms.strictness >= _BINDING]
    if not ranked or any(entry.terms is None for entry in inputs):
        return Licence("other", listed, "-and-".join(["unknown", *map(_slug, binding)]), "README.md")
    if len(binding) > 1:
        return Licence("other", listed, "-and-".join(map(_slug, binding)), binding[0].link or "README.md")
    if ranked[0].license == "other":
        return Licence("other", listed, _slug(ranked[0]), ranked[0].link or "README.md")
    # Of several terms that bind nothing further, the one that asks most names the licence.
    permissive = ("apache-2.0", "bsd-3-clause", "mit", "cc0-1.0")
    level = [terms.license for terms in ranked if terms.strictness == ranked[0].strictness]
    return Licence(next((name for name in permissive if name in level), level[0]), listed)


def licence_lines(licence: Licence) -> list[str]:
    """Writes the derivation as lines of text: the licence, then each input with its terms."""
    name = f" ({licence.license_name})" if licence.license_name else ""
    lines = [f"licence  {licence.license}{name}"]
    for entry in licence.inputs:
        if entry.terms is None:
            asks = 'not known; state it in the recipe: publish=Publish(licenses={"' + entry.name + '": "..."})'
        else:
            asks = f"{entry.terms.name}{', as the recipe states' if entry.stated else ''}: {entry.terms.asks}"
        lines.append(f"  {entry.role:<9}{entry.name}: {asks}")
    return lines


def _input(role: str, name: str, stated: Mapping[str, JSON]) -> InputTerms:
    if isinstance(own := stated.get(name), str) and own:
        return InputTerms(role, name, _terms(own), stated=True)
    name_of_terms = known_license(name)
    return InputTerms(role, name, _terms(name_of_terms) if name_of_terms else None)


def _terms(name: str) -> Terms:
    if name in TERMS:
        return TERMS[name]
    if name in LICENSE_IDS - {"other", "unknown"}:
        strict = next((level for pattern, level in _FAMILIES if re.fullmatch(pattern, name)), 0)
        return Terms(name, name, strict, "see its text")
    return Terms("other", name, 3, "see its text")


def _slug(terms: Terms) -> str:
    """Writes a name in the form that the Hub takes: lower case, no blanks."""
    name = terms.name if terms.license == "other" else terms.license
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")[:60] or "unnamed"


def _inputs(recipe: Mapping[str, JSON]) -> Iterator[tuple[str, str]]:
    for field, role in _ROLES.items():
        yield from ((role, name) for name in _names(recipe.get(field)))
    if isinstance(recipe.get("table"), str):
        yield "table", recipe["table"]


def _names(value: JSON) -> Iterator[str]:
    """Yields every dataset, file and model that a part names, at any depth."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _names(item)
    if not isinstance(value, Mapping):
        return
    if value.get("kind") in ("sample", "sample_answers"):
        yield "prefdata:sample"
    for key, item in value.items():
        if key in ("dataset", "model", "lora", "path") and isinstance(item, str):
            # Only the last part of a path: folders of one machine are private and mean nothing to a reader.
            local = key == "path" or PurePosixPath(item).is_absolute() or item.startswith((".", "~"))
            local = local or item.count("/") > 1
            yield PurePosixPath(item).name if local else item
        else:
            yield from _names(item)
