"""The only code that uses `datasets` and `huggingface_hub`: reads always at a commit, writes always one commit.

The clients take the endpoint, the token and the cache folder from their own environment variables (`HF_ENDPOINT`,
`HF_TOKEN`, `HF_HOME`); no token is kept or shown here.
"""

from __future__ import annotations

from prefdata.hub.reading import (
    REPO_ID,
    dataset_rows,
    download_dataset,
    download_model,
    locked_commits,
    resolve_dataset,
    resolve_dataset_folder,
    resolve_model,
    split_reference,
)
from prefdata.hub.upload import HubCommit, HubDataset, HubFile, UndecidedError

__all__ = [
    "REPO_ID",
    "HubCommit",
    "HubDataset",
    "HubFile",
    "UndecidedError",
    "resolve_dataset_folder",
    "dataset_rows",
    "download_dataset",
    "download_model",
    "locked_commits",
    "resolve_dataset",
    "resolve_model",
    "split_reference",
]
