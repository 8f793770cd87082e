"""`Publish`: what the card says beyond what the build knows by itself."""

from __future__ import annotations

from prefdata.spec import Spec

__all__ = ["Publish"]


class Publish(Spec):
    """What only the author of a dataset can say."""

    title: str | None = None
    """Heading of the card; left out, the recipe's name."""
    license: str | None = None
    """Licence id of the dataset, as the Hub spells it. Left out, the card states none and says so."""
    language: tuple[str, ...] = ()
    """ISO 639-1 codes of the prompts' languages."""
    tags: tuple[str, ...] = ()
    """Further tags; `preference`, `dpo` and `synthetic` are always there."""
    limitations: str = ""
    """What a reader must know before using the dataset; a section of the card."""
