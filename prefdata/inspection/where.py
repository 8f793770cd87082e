"""`dataset_at`: a folder on this machine, or a dataset of the Hub."""

from __future__ import annotations

import re
from pathlib import Path

from prefdata import hub

__all__ = ["dataset_at"]

_REPO = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^@]+))?")


def dataset_at(where: str | Path) -> Path:
    """The path itself where there is such a file or folder; `OWNER/NAME[@REVISION]` is downloaded otherwise.

    Raises:
        InputError: no such repository or revision, no access to it, or the files can't be fetched.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    named = _REPO.fullmatch(str(where))
    if Path(where).exists() or not named or named["repo"].startswith("."):
        return Path(where)
    return hub.download_dataset(named["repo"], named["revision"])[0]
