"""Publish: the dataset folder in the layout of the Hub, its card and licence, and the push to the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefdata.publish.spec import Publish

if TYPE_CHECKING:
    from prefdata.publish.pushing import Pushed as Pushed
    from prefdata.publish.pushing import push as push

__all__ = ["Publish"]


def __getattr__(name: str) -> Any:
    # Recipes import `Publish` from here, and loading a recipe loads no pyarrow.
    if name in ("Pushed", "push"):
        from prefdata.publish import pushing

        return getattr(pushing, name)
    raise AttributeError(name)
