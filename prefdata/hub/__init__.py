"""The only code that uses `datasets` and `huggingface_hub`: reads always at a commit, writes always one commit.

The clients take the endpoint, the token and the cache folder from their own environment variables (`HF_ENDPOINT`,
`HF_TOKEN`, `HF_HOME`); no token is kept or shown here.
"""

from __future__ import annotations

from prefdata.hub._answers import HubCommit, HubFile, UndecidedError, git_digest
from prefdata.hub._client import Kind
from prefdata.hub.cards import CARDS, leads_outside
from prefdata.hub.data_files import ShownFiles, shown_files
from prefdata.hub.dataset_tables import DatasetTables, find_tables, is_path, name_of
from prefdata.hub.history import commits_behind
from prefdata.hub.named_files import Wanted, one_file
from prefdata.hub.object_store import BEING_REPLACED, ObjectStore, is_remote
from prefdata.hub.reading import (
    REPO_ID,
    dataset_table,
    download_dataset,
    download_model,
    locked_commits,
    resolve_dataset,
    resolve_model,
)
from prefdata.hub.tables import FoundTable, find_table
from prefdata.hub.upload import HubRepo
from prefdata.hub.where import MARKS, Found, at_commit, find_dataset, is_ours, repo_and_revision

__all__ = [
    "BEING_REPLACED",
    "CARDS",
    "MARKS",
    "REPO_ID",
    "DatasetTables",
    "Found",
    "FoundTable",
    "HubCommit",
    "HubRepo",
    "HubFile",
    "Kind",
    "ObjectStore",
    "ShownFiles",
    "UndecidedError",
    "Wanted",
    "at_commit",
    "commits_behind",
    "dataset_table",
    "download_dataset",
    "download_model",
    "one_file",
    "find_dataset",
    "find_table",
    "find_tables",
    "is_ours",
    "is_path",
    "is_remote",
    "name_of",
    "git_digest",
    "leads_outside",
    "locked_commits",
    "repo_and_revision",
    "resolve_dataset",
    "resolve_model",
    "shown_files",
]
