"""Data packages that load when they are first used: `from prefdata.lazy import pa, pl`.

Loading a recipe must not load Polars, Arrow or NumPy (law 5), and the modules that a recipe names use them. A `Lazy`
module takes the package's place until one of its names is read.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["Lazy", "np", "pa", "pc", "pl", "pq"]


class Lazy(ModuleType):
    """Stands for a module, which it imports when one of its names is first read.

    Args:
        name: the module's full name.
    """

    def __getattr__(self, name: str) -> Any:
        """Imports the module, and keeps its names, so that later reads cost no more than those of the module itself."""
        module = importlib.import_module(self.__name__)
        # What a module says of itself (`__spec__`, `__path__`) stays the stand-in's own.
        self.__dict__.update({key: value for key, value in vars(module).items() if not key.startswith("__")})
        return getattr(module, name)


if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
else:
    np, pa, pc, pl, pq = map(Lazy, ("numpy", "pyarrow", "pyarrow.compute", "polars", "pyarrow.parquet"))
