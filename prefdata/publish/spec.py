"""`Publish`: what only the author of a dataset can state, and where it is published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from prefdata.spec import Operational, Spec
from prefdata.spec.marks import Acts, Harmless

__all__ = ["Publish"]

_TARGET = Acts("publish", "decides where to publish, and who may read it")
_Text = Annotated[str | None, Field(exclude_if=lambda value: value is None)]
_Target = Annotated[str | None, _TARGET, Operational, Field(exclude_if=lambda value: value is None)]


class Publish(Spec):
    """Statements of the author for the card, and the repository to publish to."""

    title: Annotated[str | None, Harmless] = None
    """Heading of the card; left out, the recipe's name."""
    license: Annotated[str | None, Harmless] = None
    """Licence id of the dataset, as the Hub spells it. Left out, it is derived from the terms of all inputs."""
    license_name: Annotated[_Text, Harmless] = None
    """Name of a licence that is `other`."""
    license_link: Annotated[_Text, Harmless] = None
    """Address, or file of the repository, of a licence that is `other`."""
    licenses: Annotated[Mapping[str, str], Harmless, Field(exclude_if=lambda value: not value)] = {}
    """Name of an input (a model, dataset or file) → its licence, where prefdata doesn't know it or has a wrong one."""
    language: Annotated[tuple[str, ...], Harmless] = ()
    """ISO 639-1 codes of the prompts' languages."""
    tags: Annotated[tuple[str, ...], Harmless] = ()
    """Further tags; `preference`, `dpo`, `synthetic` and `prefdata` are always set."""
    limitations: Annotated[str, Harmless] = ""
    """Limitations that a reader must know before using the dataset; a section of the card."""
    repo: _Target = None
    """`owner/name` of the Hub's repository that `prefdata build --push` publishes to."""
    public: Annotated[bool, _TARGET, Operational, Field(exclude_if=lambda value: not value)] = False
    """Whether that repository is public."""
    tag: _Target = None
    """Version with which a push tags its commit."""
