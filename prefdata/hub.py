"""The only door to `datasets` and `huggingface_hub`: datasets and models of the Hub, always read at a commit.

The clients take the endpoint, the token and the cache folder from their own environment variables (`HF_ENDPOINT`,
`HF_TOKEN`, `HF_HOME`); nothing here sees a token. Messages of the clients are not passed on, since they may quote
signed addresses: an error tells the repository, what is wrong and what to do, in our words.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from prefdata.errors import InputError, MissingExtraError, ModelError, StoreError, UserError, closest
from prefdata.files import check_columns

__all__ = [
    "REPO_ID",
    "dataset_rows",
    "download_dataset",
    "download_model",
    "locked_commits",
    "resolve_dataset",
    "resolve_model",
]

REPO_ID = r"^[\w.-]+(/[\w.-]+)?$"
"""Pattern of a repository's name: `namespace/name`, or the bare name of an old one."""

_Kind: TypeAlias = Literal["dataset", "model"]
_T = TypeVar("_T")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PASSING = (408, 429, 500, 502, 503, 504)
_WAITS = (1.0, 2.0, 4.0)
_WEIGHTS = "*.safetensors"
_LOCKED: ContextVar[tuple[Mapping[str, str], dict[str, str]]] = ContextVar("locked_commits")
_MODEL_FILES = ["*.json", "*.jinja", "*.model", "*.txt"]


def resolve_dataset(repo: str, revision: str | None = None) -> str:
    """The commit SHA of a dataset's branch, tag or (shortened) commit; None is the main branch.

    Raises:
        InputError: no such repository or revision, no access to it, or no answer from the Hub.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    return _resolve("dataset", repo, revision)


def resolve_model(repo: str, revision: str | None = None) -> str:
    """The commit SHA of a model's branch, tag or (shortened) commit; None is the main branch.

    Raises:
        ModelError: no such repository or revision, no access to it, or no answer from the Hub.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    return _resolve("model", repo, revision)


def dataset_rows(
    repo: str, config: str | None, split: str, sha: str, *, only: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of one split at one commit, in order, as plain Python values.

    The split is downloaded once and kept in the cache of `datasets`.

    Args:
        repo: the dataset's repository.
        config: a named configuration; None takes the default one.
        split: a split, or an expression of splits (`train[:1000]`).
        sha: the full commit SHA, from `resolve_dataset`.
        only: the columns to read; all must exist.

    Raises:
        InputError: the configuration, split or a column does not exist, or the data can't be fetched at this commit.
        MissingExtraError: `datasets` is not installed.
    """
    datasets = _datasets()
    with _explained("dataset", repo, sha):
        builder = _patiently(lambda: _builder(datasets, repo, config, sha))
        _check_commit(builder, repo, sha)
        splits = list(builder.info.splits or builder.config.data_files or ())
        for name in re.sub(r"\[.*?\]", "", split).split("+"):
            if splits and name.strip() not in (*splits, "all"):
                raise InputError(
                    f"the dataset {repo!r} has no split {name!r}", valid=f"splits: {closest(name, splits)}"
                )
        _patiently(builder.download_and_prepare)
        table = builder.as_dataset(split=split)
    if only is not None:
        check_columns(f"the dataset {repo!r}", only, table.column_names)
        table = table.select_columns(list(only))
    return iter(table)


def download_model(repo: str, sha: str, *, code: bool = False, weights: bool = True) -> Path:
    """Downloads a model's configuration, tokenizer and safetensors weights, and returns their folder.

    Pickled weights are never fetched, and Python files only on request, since loading either runs code.

    Args:
        repo: the model's repository.
        sha: the full commit SHA, from `resolve_model`.
        code: fetch the repository's Python files too.
        weights: without them, only the configuration and the tokenizer are fetched.

    Raises:
        ModelError: the files can't be fetched, or the repository lacks a configuration or safetensors weights.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    client = _client()
    patterns = [*_MODEL_FILES, *(["*.py"] if code else []), *([_WEIGHTS] if weights else [])]
    with _explained("model", repo, sha):
        found = _patiently(
            # Folders inside a model repository hold other formats of the same weights.
            lambda: client.snapshot_download(repo, revision=sha, allow_patterns=patterns, ignore_patterns=["*/*"])
        )
    folder = Path(found)
    if weights:
        _check_model(repo, folder)
    return folder


def download_dataset(repo: str, revision: str | None = None) -> tuple[Path, str]:
    """Downloads every file of a dataset at one commit; returns the folder in the client's cache and the commit's SHA.

    Raises:
        InputError: no such repository or revision, no access to it, or the files can't be fetched.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    client = _client()
    sha = resolve_dataset(repo, revision)
    with _explained("dataset", repo, sha):
        found = _patiently(lambda: client.snapshot_download(repo, repo_type="dataset", revision=sha))
    return Path(found), sha


def _client() -> ModuleType:
    try:
        import huggingface_hub as client
    except ImportError as error:
        raise MissingExtraError.of("the Hub", "huggingface_hub", "hub") from error
    found: ModuleType = client
    return found


def _datasets() -> ModuleType:
    _client()
    try:
        import datasets as client
    except ImportError as error:
        raise MissingExtraError.of("a dataset of the Hub", "datasets", "hub") from error
    found: ModuleType = client
    return found


@contextmanager
def locked_commits(known: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Within the block, a repository's branch or tag stands for the commit that `known` says.

    Args:
        known: what an earlier block yielded; empty resolves everything anew.

    Yields:
        `kind:repo@revision` → commit SHA, filled with all that the block resolves.
    """
    used: dict[str, str] = {}
    token = _LOCKED.set((known, used))
    try:
        yield used
    finally:
        _LOCKED.reset(token)


def _resolve(kind: _Kind, repo: str, revision: str | None) -> str:
    known, used = _LOCKED.get(({}, {}))
    name = f"{kind}:{repo}@{revision or 'main'}"
    used[name] = known.get(name) or used.get(name) or _ask(kind, repo, revision)
    return used[name]


def _ask(kind: _Kind, repo: str, revision: str | None) -> str:
    api = _client().HfApi()
    ask = api.dataset_info if kind == "dataset" else api.model_info
    try:
        with _explained(kind, repo, revision):
            return str(_patiently(lambda: ask(repo, revision=revision)).sha)
    except (_DatasetOutOfReachError, _ModelOutOfReachError):
        if revision is not None and _COMMIT.fullmatch(revision):
            # A full SHA names one commit for ever: whether it is in the cache shows when it is read.
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
                hint="name one",
            ) from error
        raise


def _check_commit(builder: Any, repo: str, sha: str) -> None:
    """Refuses what `datasets` takes in place of an unreachable commit: its latest cached one, or a local folder."""
    if builder.hash != sha:
        raise InputError(
            f"the dataset {repo!r} can't be had at commit {sha}: the Hub can't be reached, and the cache holds "
            "another commit (or a folder of this name stands in the current folder)",
            hint="try again with the Hub in reach, from another folder",
        )


def _check_model(repo: str, folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    if "config.json" not in names:
        raise ModelError(f"the model {repo!r} has no config.json", valid="a model in the transformers layout")
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


def _patiently(call: Callable[[], _T]) -> _T:
    """Calls, and calls again after an answer that may pass (429, 5xx); the clients themselves give up at the first."""
    from huggingface_hub.errors import HfHubHTTPError

    for wait in _WAITS:
        try:
            return call()
        except HfHubHTTPError as error:
            if _status(error) not in _PASSING:
                raise
        time.sleep(wait)
    return call()


class _DatasetOutOfReachError(InputError):
    """No answer from the Hub at all."""


class _ModelOutOfReachError(ModelError):
    """No answer from the Hub at all."""


def _kind_of(kind: _Kind) -> type[UserError]:
    return InputError if kind == "dataset" else ModelError


@contextmanager
def _explained(kind: _Kind, repo: str, revision: str | None) -> Iterator[None]:
    """Turns what the clients raise into one `UserError`. The original is dropped: it may quote a signed address."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    what = f"the {kind} {repo!r}"
    unreadable = _unreadable() if kind == "dataset" else ()
    try:
        yield
    except errors.HFValidationError:
        raise _kind_of(kind)(f"{repo!r} is no repository's name", valid="namespace/name") from None
    except errors.HfHubHTTPError as error:
        raise _answered(kind, what, revision, error) from None
    except errors.LocalEntryNotFoundError:
        raise _unreachable(kind, what, "it is not in the cache") from None
    except (errors.OfflineModeIsEnabled, httpx.HTTPError, ConnectionError) as error:
        raise _unreachable(kind, what, type(error).__name__) from None
    except OSError as error:
        raise _no_files(kind, what, repo, revision, error) from None
    except unreadable as error:
        raise InputError(
            f"{what} at {revision}: `datasets` can't read its files ({type(error).__name__})",
            hint=f"look at its files and at the viewer's message on {_place()}/datasets/{repo}",
        ) from None


def _unreadable() -> tuple[type[Exception], ...]:
    """What `datasets` raises for broken files, scripts and cards. Until it is imported nothing can raise its own."""
    module = sys.modules.get("datasets.exceptions")
    return (RuntimeError, ValueError) if module is None else (RuntimeError, ValueError, module.DatasetsError)


def _answered(kind: _Kind, what: str, revision: str | None, error: Any) -> UserError:
    from huggingface_hub import errors

    status, own = _status(error), _kind_of(kind)
    if isinstance(error, errors.GatedRepoError):
        return own(
            f"{what} is gated: its owner must grant access first (HTTP {status})",
            hint="accept its terms on its page, then log in: hf auth login (or set HF_TOKEN)",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return own(f"{what} has no revision {revision!r}", valid="a branch, a tag, or a commit SHA of this repository")
    if isinstance(error, errors.RepositoryNotFoundError):
        return own(
            f"{what} does not exist on {_place()}, or is private and can't be seen from here (HTTP {status})",
            hint="check the name; for a private one log in: hf auth login (or set HF_TOKEN)",
        )
    if status == 401:
        return own(f"{_place()} refused the token when asked for {what} (HTTP 401)", hint="hf auth login")
    if status in (403, 404):
        return own(f"{what} can't be read with this token (HTTP {status})", hint="ask its owner for read access")
    return own(f"{_place()} failed when asked for {what} (HTTP {status})", hint="try again in some minutes")


def _unreachable(kind: _Kind, what: str, why: str) -> UserError:
    own = _DatasetOutOfReachError if kind == "dataset" else _ModelOutOfReachError
    return own(
        f"{_place()} can't be reached for {what} ({why})",
        hint="check the network, HF_ENDPOINT and HF_HUB_OFFLINE; once downloaded, a full commit SHA as revision "
        "needs no network",
    )


def _no_files(kind: _Kind, what: str, repo: str, revision: str | None, error: OSError) -> UserError:
    if error.errno is not None and not isinstance(error, FileNotFoundError):
        return StoreError(
            f"the cache of the Hub's clients can't be written or read: {os.strerror(error.errno)}",
            hint="free space, or set HF_HOME to another folder",
        )
    # `datasets` says "no data file" for almost anything, closed and failing repositories included: ask for the reason.
    try:
        with _explained(kind, repo, revision):
            _client().HfApi().auth_check(repo, repo_type=kind)
    except UserError as reason:
        return reason
    return _kind_of(kind)(
        f"{what} at {revision} holds no data file that can be read",
        valid="Parquet, JSON lines, CSV or text files",
        hint="try again in some minutes if its files look right: the Hub may be failing",
    )


def _status(error: Any) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _place() -> str:
    """The endpoint without any user name or password in its address."""
    parts = urlsplit(str(_client().constants.ENDPOINT))
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
