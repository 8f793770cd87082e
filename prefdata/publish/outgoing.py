"""`Outgoing`: the files of a dataset or model that are published, each checked against the manifest of its folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from prefdata.errors import PublishError
from prefdata.hub import Kind
from prefdata.lazy import pa, pq
from prefdata.publish.card.text import card_header
from prefdata.publish.loadable import TRAINED, check_loadable
from prefdata.publish.manifest import MANIFEST, MANIFEST_BYTES, manifest_entry, manifest_text
from prefdata.spec import JSON

__all__ = ["CARD", "Outgoing", "is_name", "read_outgoing"]

CARD = "README.md"
_AGAIN: dict[Kind, str] = {
    "dataset": "build the dataset again",
    "model": "train the model again into a new folder, or put the file back",
}
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_-]*/)?[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Outgoing:
    """The published files of a folder: those that its manifest lists, and the manifest."""

    folder: Path
    entries: Mapping[str, JSON]
    """Name → SHA-256 and size."""
    card: str
    """Text of `README.md`; after a merge it differs from the folder's own."""
    folder_card: str
    """The folder's own `README.md`."""
    digest: str
    """SHA-256 of the folder's own manifest, which identifies the dataset or model."""
    kind: Kind = "dataset"

    def with_card(self, text: str) -> Outgoing:
        """Returns the same content with another card, which the manifest then lists."""
        data = text.encode()
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        return replace(self, card=text, entries={**self.entries, CARD: entry})

    @cached_property
    def manifest(self) -> bytes:
        """The manifest with this card."""
        return manifest_text(self.entries).encode()

    def files(self) -> dict[str, Path | bytes]:
        """Returns name → content of every published file."""
        files: dict[str, Path | bytes] = {name: self.folder / name for name in sorted(self.entries)}
        return {**files, CARD: self.card.encode(), MANIFEST: self.manifest}

    def sha256(self, name: str) -> str:
        """Returns the hash of a file."""
        return hashlib.sha256(self.manifest).hexdigest() if name == MANIFEST else str(self.entries[name]["sha256"])

    def content(self, name: str) -> bytes:
        """Reads a file whole; for small files."""
        file = self.files()[name]
        return file if isinstance(file, bytes) else file.read_bytes()

    def tables(self) -> dict[str, tuple[int, pa.Schema]]:
        """Reads number of rows and schema of each Parquet file."""
        tables = {}
        for name in sorted(self.entries):
            if name.endswith(".parquet"):
                metadata = pq.read_metadata(self.folder / name)
                tables[name] = (int(metadata.num_rows), metadata.schema.to_arrow_schema())
        return tables


def is_name(name: object) -> bool:
    """Checks the name of a file of a dataset folder: at most one folder deep, and no way out of it."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def read_outgoing(where: str | Path) -> Outgoing:
    """Reads a build folder, a dataset folder or the folder of a trained model, and checks every file of the manifest.

    Raises:
        PublishError: there is none of them, a file is missing, altered, a link, or has a name that no dataset has; or
            nobody could load the model.
    """
    folder, kind = _folder(Path(where))
    text = _read_manifest(folder, kind)
    entries = json.loads(text)["files"]
    if CARD not in entries:
        raise PublishError(f"{str(folder)!r} has no card ({CARD})", hint=_AGAIN[kind])
    for name, entry in entries.items():
        _check(folder, name, entry, kind)
    card = (folder / CARD).read_text("utf-8")
    if not isinstance(card_header(card), dict):
        raise PublishError(f"the card of {str(folder)!r} has no YAML header", hint=_AGAIN[kind])
    if kind == "model":
        check_loadable(folder, entries)
    return Outgoing(folder, entries, card, card, hashlib.sha256(text).hexdigest(), kind)


def _folder(where: Path) -> tuple[Path, Kind]:
    """Finds the folder with the manifest, and what it holds: a training leaves what no dataset has."""
    if (where / TRAINED).is_file():
        if (where / MANIFEST).is_file():
            return where, "model"
        raise PublishError(
            f"the model in {str(where)!r} has no list of its files ({MANIFEST})",
            hint="run its `prefdata train` command again: it trains nothing, and writes the list",
        )
    if (where / "training" / "job.json").is_file():
        raise PublishError(
            f"the training in {str(where)!r} is not finished",
            hint="run its `prefdata train` command again: it goes on where it stopped",
        )
    for folder in (where, where / "dataset"):
        if (folder / MANIFEST).is_file():
            return folder, "dataset"
    raise PublishError(
        f"{str(where)!r} holds no dataset and no model of prefdata",
        valid="a folder that `prefdata build`, `prefdata pair` or `prefdata train` has finished",
        hint="run the command again: it goes on where it stopped" if where.is_dir() else "check the path",
    )


def _read_manifest(folder: Path, kind: Kind) -> bytes:
    path = folder / MANIFEST
    if path.is_symlink() or path.stat().st_size > MANIFEST_BYTES:
        raise PublishError(f"the manifest of {str(folder)!r} is a link or far too large", hint=_AGAIN[kind])
    text = path.read_bytes()
    try:
        files = json.loads(text)["files"]
        valid = isinstance(files, dict) and all(is_name(name) for name in files) and MANIFEST not in files
    except (ValueError, KeyError, TypeError, RecursionError):
        valid = False
    if not valid:
        raise PublishError(
            f"the manifest of {str(folder)!r} is not one of prefdata",
            valid="names of files in the folder, at most one folder deep",
            hint=_AGAIN[kind],
        )
    return text


def _check(folder: Path, name: str, entry: JSON, kind: Kind) -> None:
    path = folder / name
    # A link may lead to any file of this machine.
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        why = "is missing" if not path.exists() else "is a link, or not a file"
    elif manifest_entry(path) != entry:
        why = "differs from the manifest: it was changed after it was written, or is damaged"
    else:
        return
    raise PublishError(f"{name!r} of {str(folder)!r} {why}", hint=f"{_AGAIN[kind]}, then push")
