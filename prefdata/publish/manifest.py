"""`prefdata.manifest.json`: the SHA-256 and size of every other file of a dataset folder or model folder."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from prefdata.spec import JSON, sha256_of_file
from prefdata.tables.documents import document_text

__all__ = [
    "ADDED_BY_PEOPLE",
    "LAYOUTS",
    "MANIFEST",
    "MANIFEST_BYTES",
    "NOTICES",
    "OWN_LAYOUTS",
    "TABLES",
    "manifest_entry",
    "manifest_text",
    "write_manifest",
    "write_model_manifest",
]

NOTICES = re.compile(r"(?:LICEN[CS]E|NOTICE|CITATION)(?:[-_][\w-]+)?(?:\.(?:txt|md|cff|bib))?")
"""Files at the top of a dataset that are never data, whatever `datasets` makes of their endings."""
ADDED_BY_PEOPLE = re.compile(rf"{NOTICES.pattern}|(?:assets/|images/)?[^/]+\.(?:png|jpe?g|gif|svg|webp)")
"""Files that people add to a dataset folder of ours on the Hub: notices, and pictures for its card."""
MANIFEST = "prefdata.manifest.json"
"""Name of the manifest, which does not list itself."""
MANIFEST_BYTES = 64 << 20
"""Size of the largest manifest that is read."""
LAYOUTS = ("axolotl", "full_conversation", "kto", "llamafactory", "snorkel", "trl")
"""Folders of the pairs in further layouts, named by their kinds."""
OWN_LAYOUTS = "own_[a-z0-9_]+"
"""Pattern of the folders of layouts of the user's own: `Layout.config_name`."""
TABLES = ("data", "candidates", "comparisons", "trace", *LAYOUTS, "own_*")
"""Folders of a dataset folder (glob patterns), each with the Parquet files of one table."""


def manifest_entry(path: Path) -> JSON:
    """Returns SHA-256 and size of a file, its entry in a manifest."""
    return {"sha256": sha256_of_file(path), "size": path.stat().st_size}


def manifest_text(entries: Mapping[str, JSON]) -> str:
    """Writes a manifest, given the entry of each file by its name."""
    return document_text({"format": 1, "files": dict(entries)})


def write_manifest(folder: Path) -> None:
    """Writes the manifest of a finished folder; the last file to be written."""
    # Only the folders of a dataset: the caller may keep temporary files in others.
    paths = (path for pattern in ("*", *(f"{name}/*" for name in TABLES)) for path in folder.glob(pattern))
    files = sorted(path for path in paths if path.is_file() and path != folder / MANIFEST)
    entries = {path.relative_to(folder).as_posix(): manifest_entry(path) for path in files}
    (folder / MANIFEST).write_text(manifest_text(entries), "utf-8")


def write_model_manifest(folder: Path, names: Iterable[str], *, written: Collection[str]) -> None:
    """Writes the manifest of a model folder; in one that is there already, only what was just written is renewed.

    So a file that has changed since it was listed still differs from the manifest.

    Args:
        folder: of the model.
        names: of all its files.
        written: those among them that were just written.
    """
    path = folder / MANIFEST
    try:
        listed: dict[str, JSON] = json.loads(path.read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        listed = {}
    fresh = {name: manifest_entry(folder / name) for name in (written if listed else names)}
    partial = folder / f".{MANIFEST}"
    partial.write_text(manifest_text({**listed, **fresh}), "utf-8")
    partial.replace(path)
