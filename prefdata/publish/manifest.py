"""`prefdata.manifest.json`: the SHA-256 and size of every other file of a dataset folder."""

from __future__ import annotations

import json
from pathlib import Path

from prefdata.spec import JSON, sha256_of_file

__all__ = ["LAYOUTS", "MANIFEST", "OWN_LAYOUTS", "TABLES", "manifest_entry", "write_manifest"]

MANIFEST = "prefdata.manifest.json"
"""Name of the manifest, which does not list itself."""
LAYOUTS = ("axolotl", "full_conversation", "kto", "llamafactory", "snorkel", "trl")
"""Folders of the pairs in further layouts, named by their kinds."""
OWN_LAYOUTS = "own_[a-z0-9_]+"
"""Pattern of the folders of layouts of the user's own: `Layout.config_name`."""
TABLES = ("data", "candidates", "comparisons", "trace", *LAYOUTS, "own_*")
"""Folders of a dataset folder (glob patterns), each with the Parquet files of one table."""


def manifest_entry(path: Path) -> JSON:
    """Returns SHA-256 and size of a file, its entry in a manifest."""
    return {"sha256": sha256_of_file(path), "size": path.stat().st_size}


def write_manifest(folder: Path) -> None:
    """Writes the manifest of a finished folder; the last file to be written."""
    # Only the folders of a dataset: the caller may keep temporary files in others.
    paths = (path for pattern in ("*", *(f"{name}/*" for name in TABLES)) for path in folder.glob(pattern))
    files = sorted(path for path in paths if path.is_file() and path != folder / MANIFEST)
    entries = {path.relative_to(folder).as_posix(): manifest_entry(path) for path in files}
    text = json.dumps({"format": 1, "files": entries}, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(text, "utf-8")
