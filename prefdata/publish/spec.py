"""`Publish`: what the card says beyond what the build knows by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from prefdata.spec import Operational, Spec

__all__ = ["Publish"]

_Said = Annotated[str | None, Field(exclude_if=lambda value: value is None)]
_Place = Annotated[str | None, Operational, Field(exclude_if=lambda value: value is None)]


class Publish(Spec):
    """What only the author of a dataset can say."""

    title: str | None = None
    """Heading of the card; left out, the recipe's name."""
    license: str | None = None
    """Licence id of the dataset, as the Hub spells it. Left out, it is derived from the terms of all inputs."""
    license_name: _Said = None
    """Name of a licence that is `other`."""
    license_link: _Said = None
    """Address, or file of the repository, of a licence that is `other`."""
    licenses: Annotated[Mapping[str, str], Field(exclude_if=lambda value: not value)] = {}
    """Name of an input (a model, dataset or file) → its licence, where prefdata doesn't know it or is wrong."""
    language: tuple[str, ...] = ()
    """ISO 639-1 codes of the prompts' languages."""
    tags: tuple[str, ...] = ()
    """Further tags; `preference`, `dpo` and `synthetic` are always there."""
    limitations: str = ""
    """What a reader must know before using the dataset; a section of the card."""
    repo: _Place = None
    """`owner/name` of the Hub's repository that `prefdata build --push` publishes to."""
    public: Annotated[bool, Operational, Field(exclude_if=lambda value: not value)] = False
    """Whether everybody may read that repository."""
    tag: _Place = None
    """Version that a push tags."""
