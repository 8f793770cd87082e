"""The only code that uses `datasets` and `huggingface_hub`: reads always at a commit, writes always one commit.

The clients take the endpoint, the token and the cache folder from their own environment variables (`HF_ENDPOINT`,
`HF_TOKEN`, `HF_HOME`); no token is kept or shown here.
"""

from __future__ import annotations

from prefdata.hub._answers import HubCommit, HubFile, UndecidedError, git_digest
from prefdata.hub._client import Kind
from prefdata.hub.history import commits_behind
from prefdata.hub.named_files import Wanted, one_file
from prefdata.hub.reading import (
    REPO_ID,
    dataset_rows,
    download_dataset,
    download_model,
    locked_commits,
    resolve_dataset,
    resolve_model,
)
from prefdata.hub.upload import HubRepo
from prefdata.hub.where import Found, find_dataset, repo_and_revision

__all__ = [
    "REPO_ID",
    "Found",
    "HubCommit",
    "HubRepo",
    "HubFile",
    "Kind",
    "UndecidedError",
    "Wanted",
    "commits_behind",
    "dataset_rows",
    "download_dataset",
    "download_model",
    "one_file",
    "find_dataset",
    "git_digest",
    "locked_commits",
    "repo_and_revision",
    "resolve_dataset",
    "resolve_model",
]
