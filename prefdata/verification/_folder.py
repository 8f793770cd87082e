"""Checks the files, manifest and documents of a dataset folder. Trusts nothing that it reads."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from prefdata.errors import StoreError
from prefdata.publish.card.pictures import PICTURES
from prefdata.publish.manifest import ADDED_BY_PEOPLE, LAYOUTS, MANIFEST, OWN_LAYOUTS, manifest_entry
from prefdata.spec import JSON
from prefdata.tables.documents import ABSENT, DOCUMENT_BYTES, parse_json
from prefdata.verification.report import Report

DOCUMENTS = ("recipe.json", "prefdata.lock.json", "ledger.json", "audit.json")
OPTIONAL = ("splits.parquet", "scoring.json", "dataset_info.json", *PICTURES)
_REQUIRED = (*DOCUMENTS, "README.md", "drops.parquet", "drops_candidates.parquet", MANIFEST)
_PARTS = re.compile(
    rf"((?:data|trace|{'|'.join(LAYOUTS)}|{OWN_LAYOUTS})/(?:train|test)(?:_iteration_[123])?|(?:candidates|comparisons)/train)"
    r"-(\d{5})-of-(\d{5})\.parquet"
)
_NOT_OURS = (".gitattributes", ".git", ".cache")
"""Files that the Hub, git and the Hub's client add."""


def inventory(folder: Path, links_into: Path, report: Report) -> dict[str, Path]:
    """Lists relative name → path of every regular file; links that lead out of `links_into` are mismatches."""
    files: dict[str, Path] = {}
    root = links_into.resolve()

    def failed(error: OSError) -> None:
        raise StoreError(f"{error.filename!r} can't be read: {error.strerror}") from error

    for directory, folders, names in os.walk(folder, onerror=failed):
        here = Path(directory)
        for name in sorted([*folders, *names]):
            path = here / name
            relative = path.relative_to(folder).as_posix()
            if relative in _NOT_OURS:
                continue
            if path.is_symlink() and not _leads_into(path, root):
                report.add("link", relative, expected="a file of this folder", found=str(path.readlink()))
            elif name in folders:
                if path.is_symlink():
                    report.add("link", relative, expected="a folder", found="a link to a folder")
            elif not stat.S_ISREG(path.stat().st_mode):
                report.add("file", relative, expected="a regular file", found=stat.filemode(path.stat().st_mode))
            else:
                files[relative] = path
        folders[:] = sorted(name for name in folders if (here / name).relative_to(folder).as_posix() not in _NOT_OURS)
    return files


def _leads_into(path: Path, root: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def set_own_pictures_aside(files: dict[str, Path], manifest: JSON, report: Report) -> None:
    """Takes out pictures that only share a name with ours: neither the manifest nor the card has them."""
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    unlisted = [name for name in PICTURES if name in files and not (isinstance(listed, dict) and name in listed)]
    card = (read_text(files, "README.md", report) or "") if unlisted else ""
    for name in unlisted:
        if f"]({name})" not in card:
            report.not_checked.append(f"{name}: not a file of prefdata")
            del files[name]


def check_names(files: dict[str, Path], report: Report) -> None:
    """Checks that required files exist, that others are allowed, and that numbered files are complete."""
    for name in _REQUIRED:
        if name not in files:
            report.add("file", name, expected="a file", found=ABSENT)
    series: dict[str, list[str]] = {}
    for name in files:
        if part := _PARTS.fullmatch(name):
            series.setdefault(part[1], []).append(name)
        elif _is_added(name):
            report.not_checked.append(f"{name}: not a file of prefdata")
        elif name not in (*_REQUIRED, *OPTIONAL):
            report.add("file", name, expected=ABSENT, found="a file that no dataset folder has")
    if not any(prefix.startswith("data/") for prefix in series):
        report.add("file", "data/", expected="train-00000-of-00001.parquet, ...", found=ABSENT)
    for prefix, names in series.items():
        whole = [f"{prefix}-{number:05d}-of-{len(names):05d}.parquet" for number in range(len(names))]
        if sorted(names) != whole:
            report.add("file", f"{prefix}-*", expected=whole, found=sorted(names))


def _is_added(name: str) -> bool:
    return name not in PICTURES and ADDED_BY_PEOPLE.fullmatch(name) is not None


def series(files: dict[str, Path], prefix: str) -> dict[str, Path]:
    """Returns the numbered files of one prefix (`data/train`), in order."""
    return {name: path for name, path in sorted(files.items()) if (m := _PARTS.fullmatch(name)) and m[1] == prefix}


def check_manifest(files: dict[str, Path], manifest: JSON, report: Report) -> None:
    """Checks that the manifest lists every other file, with its hash and size."""
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict) or manifest.get("format") != 1:
        report.add("manifest", MANIFEST, expected="an object with format 1 and files", found=manifest)
        return
    for name in sorted({*files, *listed} - {MANIFEST}):
        if name not in files:
            report.add("manifest", name, expected=listed[name], found=ABSENT)
        elif name not in listed and _is_added(name):
            continue
        elif name not in listed:
            report.add("manifest", name, expected=ABSENT, found="a file that the manifest doesn't list")
        else:
            report.compare("manifest", name, listed[name], manifest_entry(files[name]))


def read_document(files: dict[str, Path], name: str, report: Report) -> JSON:
    """Reads a JSON document of the folder; None, and a mismatch, where it is not one."""
    text = read_text(files, name, report)
    if text is None:
        return None
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        report.add("document", name, expected="JSON", found=str(error))
        return None


def read_text(files: dict[str, Path], name: str, report: Report) -> str | None:
    """Reads a text document of the folder; None, and a mismatch, where it is not one."""
    if name not in files:
        return None
    size = files[name].stat().st_size
    if size > DOCUMENT_BYTES:
        report.add("document", name, expected=f"at most {DOCUMENT_BYTES} bytes", found=f"{size} bytes")
        return None
    try:
        return files[name].read_text("utf-8")
    except UnicodeDecodeError as error:
        report.add("document", name, expected="UTF-8", found=str(error))
        return None
