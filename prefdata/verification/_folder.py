"""The outside of a dataset folder: which files it has, the manifest, the documents. Trusts nothing that it reads."""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from pathlib import Path

from prefdata.errors import StoreError
from prefdata.publish.manifest import LAYOUTS, MANIFEST, OWN_LAYOUTS, manifest_entry
from prefdata.spec import JSON
from prefdata.verification.report import ABSENT, Report

DOCUMENTS = ("recipe.json", "prefdata.lock.json", "ledger.json", "audit.json")
OPTIONAL = ("splits.parquet", "scoring.json", "dataset_info.json")
_REQUIRED = (*DOCUMENTS, "README.md", "drops.parquet", "drops_candidates.parquet", MANIFEST)
_PARTS = re.compile(
    rf"((?:data|trace|{'|'.join(LAYOUTS)}|{OWN_LAYOUTS})/(?:train|test)(?:_iteration_[123])?|(?:candidates|comparisons)/train)"
    r"-(\d{5})-of-(\d{5})\.parquet"
)
_NOT_OURS = (".gitattributes", ".git", ".cache")
"""What the Hub, git and the Hub's client add by themselves."""
_OF_OTHERS = re.compile(r"(?:LICEN[CS]E|NOTICE|CITATION)[^/]*|(?:assets/|images/)?[^/]+\.(?:png|jpe?g|gif|svg|webp)")
"""What people lay beside a dataset on the Hub: no reader of it takes it for data."""
_DOCUMENT_BYTES = 32 << 20
"""Documents are small; a larger one is refused unread."""


def inventory(folder: Path, links_into: Path, report: Report) -> dict[str, Path]:
    """Relative name → path of every regular file; links that lead out of `links_into` are mismatches."""
    found: dict[str, Path] = {}
    allowed = links_into.resolve()

    def failed(error: OSError) -> None:
        raise StoreError(f"{error.filename!r} can't be read: {error.strerror}") from error

    for place, folders, names in os.walk(folder, onerror=failed):
        here = Path(place)
        for name in sorted([*folders, *names]):
            path = here / name
            relative = path.relative_to(folder).as_posix()
            if relative in _NOT_OURS:
                continue
            if path.is_symlink() and not _leads_into(path, allowed):
                report.add("link", relative, expected="a file of this folder", found=str(path.readlink()))
            elif name in folders:
                if path.is_symlink():
                    report.add("link", relative, expected="a folder", found="a link to a folder")
            elif not stat.S_ISREG(path.stat().st_mode):
                report.add("file", relative, expected="a regular file", found=stat.filemode(path.stat().st_mode))
            else:
                found[relative] = path
        folders[:] = sorted(name for name in folders if (here / name).relative_to(folder).as_posix() not in _NOT_OURS)
    return found


def _leads_into(path: Path, allowed: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(allowed)
    except (OSError, RuntimeError):
        return False


def check_names(files: dict[str, Path], report: Report) -> None:
    """Every file that a dataset folder must have is there, none that it can't have, and numbered files are whole."""
    for name in _REQUIRED:
        if name not in files:
            report.add("file", name, expected="a file", found=ABSENT)
    series: dict[str, list[str]] = {}
    for name in files:
        if part := _PARTS.fullmatch(name):
            series.setdefault(part[1], []).append(name)
        elif _OF_OTHERS.fullmatch(name):
            report.not_checked.append(f"{name}: not of prefdata")
        elif name not in (*_REQUIRED, *OPTIONAL):
            report.add("file", name, expected=ABSENT, found="a file that no dataset folder has")
    if not any(prefix.startswith("data/") for prefix in series):
        report.add("file", "data/", expected="train-00000-of-00001.parquet, ...", found=ABSENT)
    for prefix, names in series.items():
        whole = [f"{prefix}-{number:05d}-of-{len(names):05d}.parquet" for number in range(len(names))]
        if sorted(names) != whole:
            report.add("file", f"{prefix}-*", expected=whole, found=sorted(names))


def series(files: dict[str, Path], prefix: str) -> dict[str, Path]:
    """The numbered files of one prefix (`data/train`), in order."""
    return {name: path for name, path in sorted(files.items()) if (m := _PARTS.fullmatch(name)) and m[1] == prefix}


def check_manifest(files: dict[str, Path], manifest: JSON, report: Report) -> None:
    """The manifest lists every other file, with its bytes' hash and its size."""
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict) or manifest.get("format") != 1:
        report.add("manifest", MANIFEST, expected="an object with format 1 and files", found=manifest)
        return
    for name in sorted({*files, *listed} - {MANIFEST}):
        if name not in files:
            report.add("manifest", name, expected=listed[name], found=ABSENT)
        elif name not in listed and _OF_OTHERS.fullmatch(name):
            continue
        elif name not in listed:
            report.add("manifest", name, expected=ABSENT, found="a file that the manifest doesn't list")
        else:
            report.compare("manifest", name, listed[name], manifest_entry(files[name]))


def read_document(files: dict[str, Path], name: str, report: Report) -> JSON:
    """A JSON document of the folder; None, and a mismatch, where it is none."""
    text = read_text(files, name, report)
    if text is None:
        return None
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        report.add("document", name, expected="JSON", found=str(error))
        return None


def read_text(files: dict[str, Path], name: str, report: Report) -> str | None:
    """A text document of the folder; None, and a mismatch, where it is none."""
    if name not in files:
        return None
    size = files[name].stat().st_size
    if size > _DOCUMENT_BYTES:
        report.add("document", name, expected=f"at most {_DOCUMENT_BYTES} bytes", found=f"{size} bytes")
        return None
    try:
        return files[name].read_text("utf-8")
    except UnicodeDecodeError as error:
        report.add("document", name, expected="UTF-8", found=str(error))
        return None


def _without_repeats(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found
