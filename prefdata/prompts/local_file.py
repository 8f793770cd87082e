"""Defines `FilePrompts`, which reads the prompts in a column of a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from prefdata.prompts._rows import TablePrompts
from prefdata.spec import JSON, Context
from prefdata.spec.marks import FILE
from prefdata.tables import files

__all__ = ["FilePrompts"]


class FilePrompts(TablePrompts):
    """Reads prompts from Parquet, JSON lines or CSV (the text formats also as `.gz` or `.zst`)."""

    kind: Literal["file"] = "file"
    path: Annotated[Path, FILE]
    """The file; a relative path starts at the current folder."""

    def pins(self) -> dict[str, JSON]:
        """Returns the SHA-256 of the file's bytes."""
        return {**super().pins(), **files.pin(self.path)}

    def _table(self, context: Context) -> tuple[str, Iterable[dict[str, Any]]]:
        # Only the file's name: a published table must not hold a local path.
        path = files.pinned(self.path, context.pins)
        ids = [self.prompt_id_column] if self.prompt_id_column else []
        return path.name, files.rows(path, only=self._columns(), optional=self._asked().unread(), ids=ids)
