"""Chooses the files of a repository by name, so that nothing else of it is ever fetched."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from prefdata.errors import InputError, closest, printable
from prefdata.hub._client import with_retries

__all__ = ["Wanted", "fetch_named", "one_file", "say"]

Wanted: TypeAlias = Sequence[str] | Callable[[Sequence[str]], Iterable[str]]
"""Patterns of names, in which `*` stays within a folder; or a function that picks among all names."""
_MOST_LISTED = 100
_LARGE = 256 << 20
"""Bytes from which on the size is said before anything is fetched."""


def one_file(name: str) -> Callable[[Sequence[str]], list[str]]:
    """Gives the `Wanted` of one file, which must exist.

    Args:
        name: its path in the repository.
    """

    def wanted(names: Sequence[str]) -> list[str]:
        if name not in names:
            raise InputError(f"the repository has no file {name!r}", valid=closest(name, names[:_MOST_LISTED]))
        return [name]

    return wanted


def fetch_named(api: Any, repo: str, sha: str, wanted: Wanted) -> str:
    """Fetches the wanted files of a dataset at one commit, and returns their folder in the client's cache.

    Args:
        api: the package `huggingface_hub`.
        repo: the dataset's repository.
        sha: the full commit SHA.
        wanted: which files.
    """
    try:
        info = with_retries(lambda: api.HfApi().dataset_info(repo, revision=sha, files_metadata=True))
    except (api.errors.OfflineModeIsEnabled, api.utils.httpx.HTTPError, ConnectionError) as error:
        if isinstance(error, api.errors.HfHubHTTPError):
            raise
        # A commit that was fetched before is in the cache.
        return str(api.snapshot_download(repo, repo_type="dataset", revision=sha, local_files_only=True))
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    names = _chosen(list(sizes), wanted)
    size = sum(sizes[name] for name in names)
    if size > _LARGE:
        say(f"fetching {len(names):,} files of {repo!r}, {size / 1e9:,.1f} GB")
    patterns = [glob.escape(name) for name in names]
    return str(
        with_retries(
            lambda: api.snapshot_download(repo, repo_type="dataset", revision=sha, allow_patterns=patterns or ["/"])
        )
    )


def _chosen(names: Sequence[str], wanted: Wanted) -> list[str]:
    if callable(wanted):
        return list(wanted(names))
    patterns = [re.compile(_regex(pattern)) for pattern in wanted]
    return [name for name in names if any(pattern.fullmatch(name) for pattern in patterns)]


def _regex(pattern: str) -> str:
    """Translates a pattern, in which `*` is anything within a folder."""
    return "[^/]*".join(map(re.escape, pattern.split("*")))


def say(line: str) -> None:
    """Prints one line for the person who waits for files, on stderr."""
    sys.stderr.write(printable(line, 1_000) + "\n")
