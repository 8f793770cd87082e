"""`Publish`: what only the author of a dataset can state, and where it is published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from prefdata.spec import Operational, Spec

__all__ = ["Publish"]

_Text = Annotated[str | None, Field(exclude_if=lambda value: value is None)]
_Target = Annotated[str | None, Operational, Field(exclude_if=lambda value: value is None)]


class Publish(Spec):
    """Statements of the author for the card, and the repository to publish to."""

    title: str | None = None
    """Heading of the card; left out, the recipe's name."""
    license: str | None = None
    """Licence id of the dataset, as the Hub spells it. Left out, it is derived from the terms of all inputs."""
    license_name: _Text = None
    """Name of a licence that is `other`."""
    license_link: _Text = None
    """Address, or file of the repository, of a licence that is `other`."""
    licenses: Annotated[Mapping[str, str], Field(exclude_if=lambda value: not value)] = {}
    """Name of an input (a model, dataset or file) → its licence, where prefdata doesn't know it or has a wrong one."""
    language: tuple[str, ...] = ()
    """ISO 639-1 codes of the prompts' languages."""
    tags: tuple[str, ...] = ()
    """Further tags; `preference`, `dpo`, `synthetic` and `prefdata` are always set."""
    limitations: str = ""
    """Limitations that a reader must know before using the dataset; a section of the card."""
    repo: _Target = None
    """`owner/name` of the Hub's repository that `prefdata build --push` publishes to."""
    public: Annotated[bool, Operational, Field(exclude_if=lambda value: not value)] = False
    """Whether that repository is public."""
    tag: _Target = None
    """Version with which a push tags its commit."""
