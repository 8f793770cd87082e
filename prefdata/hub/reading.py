"""Reads datasets and models of the Hub, always at a commit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from prefdata.errors import InputError, MissingExtraError, ModelError, closest
from prefdata.hub._client import (
    DatasetOutOfReachError,
    Kind,
    ModelOutOfReachError,
    client,
    translated_errors,
    with_retries,
)
from prefdata.hub.cards import CARDS, MOST_CARD, check_card, check_features
from prefdata.hub.named_files import Wanted, fetch_named
from prefdata.tables import files
from prefdata.tables.table import Table

__all__ = [
    "REPO_ID",
    "dataset_table",
    "download_dataset",
    "download_model",
    "locked_commits",
    "resolve_dataset",
    "resolve_model",
]

REPO_ID = r"^[\w.-]+(/[\w.-]+)?$"
"""Pattern of a repository's name: `namespace/name`, or the bare name of an old one."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = "*.safetensors"
_LOCKED: ContextVar[tuple[Mapping[str, str], dict[str, str]]] = ContextVar("locked_commits")
_MODEL_FILES = ["*.json", "*.jinja", "*.model", "*.txt"]


def resolve_dataset(repo: str, revision: str | None = None) -> str:
    """Resolves a dataset's branch, tag or (shortened) commit to a commit SHA; None is the main branch.

    Raises:
        InputError: no such repository or revision, no access to it, or no answer from the Hub.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    return _resolve("dataset", repo, revision)


def resolve_model(repo: str, revision: str | None = None) -> str:
    """Resolves a model's branch, tag or (shortened) commit to a commit SHA; None is the main branch.

    Raises:
        ModelError: no such repository or revision, no access to it, or no answer from the Hub.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    return _resolve("model", repo, revision)


def dataset_table(repo: str, config: str | None, split: str, sha: str) -> Table:
    """Opens one split at one commit, which is downloaded once and kept in the cache of `datasets`.

    Args:
        repo: the dataset's repository.
        config: name of a configuration; None takes the default one.
        split: a split, or an expression of splits (`train[:1000]`).
        sha: the full commit SHA, from `resolve_dataset`.

    Raises:
        InputError: the configuration or split does not exist, or the data can't be fetched at this commit.
        MissingExtraError: `datasets` is not installed.
    """
    datasets = _datasets()
    _check_card(repo, sha)
    with translated_errors("dataset", repo, sha):
        builder = with_retries(lambda: _builder(datasets, repo, config, sha))
        _check_commit(builder, repo, sha)
        splits = list(builder.info.splits or builder.config.data_files or ())
        names = [name.strip() for name in re.sub(r"\[.*?\]", "", split).split("+")]
        for name in names:
            if splits and name not in (*splits, "all"):
                raise InputError(
                    f"the dataset {repo!r} has no split {name!r}", valid=f"splits: {closest(name, splits)}"
                )
        with_retries(builder.download_and_prepare)
        table = builder.as_dataset(split=split)
    check_features(repo, table.features)
    opened = files.open_table(table)
    opened.name = f"the dataset {repo!r}"
    opened.other_splits = () if "all" in names else tuple(str(name) for name in splits if name not in names)
    return opened


def download_model(
    repo: str, sha: str, *, code: bool = False, weights: bool = True, config: str = "config.json"
) -> Path:
    """Downloads a model's configuration, tokenizer and safetensors weights, and returns their folder.

    Pickled weights are never fetched, and Python files only where `code` is set, because loading either runs code.

    Args:
        repo: the model's repository.
        sha: the full commit SHA, from `resolve_model`.
        code: fetch the repository's Python files too.
        weights: fetch the weights too; otherwise only the configuration and the tokenizer.
        config: name of the configuration file that must exist; an adapter has another.

    Raises:
        ModelError: the files can't be fetched, or the repository lacks a configuration or safetensors weights.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    api = client()
    patterns = [*_MODEL_FILES, *(["*.py"] if code else []), *([_WEIGHTS] if weights else [])]
    with translated_errors("model", repo, sha):
        path = with_retries(
            # Folders inside a model repository hold other formats of the same weights.
            lambda: api.snapshot_download(repo, revision=sha, allow_patterns=patterns, ignore_patterns=["*/*"])
        )
    folder = Path(path)
    if weights:
        _check_model(repo, folder, config)
    return folder


def download_dataset(repo: str, revision: str | None = None, *, only: Wanted) -> tuple[Path, str]:
    """Downloads named files of a dataset at one commit; returns the folder in the client's cache and the commit's SHA.

    Args:
        repo: the dataset's repository.
        revision: a branch, tag or commit; None is the main branch.
        only: which files.

    Raises:
        InputError: no such repository or revision, no access to it, or the files can't be fetched.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    api = client()
    sha = resolve_dataset(repo, revision)
    with translated_errors("dataset", repo, sha):
        return Path(fetch_named(api, repo, sha, only)), sha


def _check_card(repo: str, sha: str) -> None:
    """Checks what a dataset's own files tell `datasets` to open.

    Raises:
        InputError: something outside the repository.
    """
    try:
        folder, _ = download_dataset(repo, sha, only=CARDS)
    except DatasetOutOfReachError:
        # Without the Hub `datasets` reads the tables that it has made before, and follows no card.
        return
    for name in CARDS:
        if (folder / name).is_file():
            with (folder / name).open(encoding="utf-8", errors="replace", newline="") as file:
                check_card(client(), repo, file.read(MOST_CARD + 1), name)


def _datasets() -> ModuleType:
    client()
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError.of("a dataset of the Hub", "datasets", "hub") from error
    package: ModuleType = datasets
    return package


@contextmanager
def locked_commits(commits: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Resolves each branch or tag within the block to the commit that `commits` names for it.

    Args:
        commits: what an earlier block yielded; empty asks the Hub for every commit.

    Yields:
        `kind:repo@revision` → commit SHA, filled with every commit that the block resolves.
    """
    used: dict[str, str] = {}
    token = _LOCKED.set((commits, used))
    try:
        yield used
    finally:
        _LOCKED.reset(token)


def _resolve(kind: Kind, repo: str, revision: str | None) -> str:
    locked, used = _LOCKED.get(({}, {}))
    name = f"{kind}:{repo}@{revision or 'main'}"
    used[name] = locked.get(name) or used.get(name) or _requested_sha(kind, repo, revision)
    return used[name]


def _requested_sha(kind: Kind, repo: str, revision: str | None) -> str:
    api = client().HfApi()
    request = api.dataset_info if kind == "dataset" else api.model_info
    try:
        with translated_errors(kind, repo, revision):
            return str(with_retries(lambda: request(repo, revision=revision)).sha)
    except (DatasetOutOfReachError, ModelOutOfReachError):
        if revision is not None and _COMMIT.fullmatch(revision):
            # A full SHA always names the same commit; reading it shows whether the cache has it.
            return revision
        raise


def _builder(datasets: ModuleType, repo: str, config: str | None, sha: str) -> Any:
    try:
        return datasets.load_dataset_builder(repo, name=config, revision=sha)
    except ValueError as error:
        names = datasets.get_dataset_config_names(repo, revision=sha)
        if config is not None and config not in names:
            raise InputError(
                f"the dataset {repo!r} has no configuration {config!r}",
                valid=f"configurations: {closest(config, names)}",
            ) from error
        if config is None and len(names) > 1:
            raise InputError(
                f"the dataset {repo!r} has several configurations and no default one",
                valid=f"configurations: {', '.join(names)}",
                hint="name one of them",
            ) from error
        raise


def _check_commit(builder: Any, repo: str, sha: str) -> None:
    """Refuses the replacements of `datasets` for an unreachable commit: its latest cached one, or a local folder."""
    if builder.hash != sha:
        raise InputError(
            f"the dataset {repo!r} is not available at commit {sha}: the Hub can't be reached, and the cache holds "
            "another commit (or the current folder holds a folder of this name)",
            hint="try again with the Hub in reach, from another folder",
        )


def _check_model(repo: str, folder: Path, config: str) -> None:
    names = {path.name for path in folder.iterdir()}
    if config not in names:
        valid = "a model in the transformers layout" if config == "config.json" else "an adapter in PEFT's layout"
        raise ModelError(f"the model {repo!r} has no {config}", valid=valid)
    index = folder / "model.safetensors.index.json"
    shards = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else set()
    lost = sorted(shards - names)
    if lost:
        raise ModelError(
            f"the model {repo!r} is incomplete: {', '.join(lost)} is missing",
            hint="run again with the Hub in reach",
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise ModelError(
            f"the model {repo!r} has no safetensors weights",
            valid="weights as *.safetensors at the top of the repository",
            hint="other formats are not loaded; look for a converted copy of the model",
        )
