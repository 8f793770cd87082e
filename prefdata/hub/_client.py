"""Shared by everything that calls the Hub: the client, retries, and translation of its errors.

Messages of the clients are not passed on, because they may quote signed addresses. An error names the repository, the
problem and what to do next.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from prefdata.errors import InputError, MissingExtraError, ModelError, StoreError, UserError

Kind: TypeAlias = Literal["dataset", "model"]
"""Type of a repository."""

_T = TypeVar("_T")
PASSING = (408, 429, 500, 502, 503, 504)
"""HTTP status codes after which the same request may succeed a moment later."""
TOKEN_HINT = "hf auth login, or set HF_TOKEN to the whole token: letters and digits that begin with hf_"
_WAITS = (1.0, 2.0, 4.0)
"""Seconds between the tries of one request."""


def client() -> ModuleType:
    """Imports the package `huggingface_hub`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError.of("the Hub", "huggingface_hub", "hub") from error
    package: ModuleType = huggingface_hub
    return package


def with_retries(call: Callable[[], _T], *, broken: bool = False) -> _T:
    """Calls a function again after an HTTP error that may pass (408, 429, 5xx); the clients themselves never retry.

    Args:
        call: sends a request to the Hub.
        broken: retry after a broken connection too.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx

    for wait in _WAITS:
        try:
            return call()
        except HfHubHTTPError as error:
            if status_of(error) not in PASSING:
                raise
        except httpx.TransportError:
            if not broken:
                raise
        time.sleep(wait)
    return call()


class DatasetOutOfReachError(InputError):
    """Raised when the Hub cannot be reached for a dataset."""


class ModelOutOfReachError(ModelError):
    """Raised when the Hub cannot be reached for a model."""


def _kind_of(kind: Kind) -> type[UserError]:
    return InputError if kind == "dataset" else ModelError


@contextmanager
def translated_errors(kind: Kind, repo: str, revision: str | None) -> Iterator[None]:
    """Turns errors of the clients into one `UserError`. The original is dropped: it may quote a signed address."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    what = f"the {kind} {repo!r}"
    unreadable = _unreadable() if kind == "dataset" else ()
    try:
        yield
    except errors.HFValidationError:
        raise _kind_of(kind)(f"{repo!r} is not a valid repository name", valid="namespace/name") from None
    except errors.HfHubHTTPError as error:
        raise _http_error(kind, what, revision, error) from None
    except errors.LocalEntryNotFoundError:
        raise _unreachable(kind, what, "it is not in the cache") from None
    except (errors.OfflineModeIsEnabled, httpx.HTTPError, ConnectionError) as error:
        raise _unreachable(kind, what, type(error).__name__) from None
    except OSError as error:
        raise _no_files(kind, what, repo, revision, error) from None
    except UnicodeEncodeError:
        raise _kind_of(kind)("the token for the Hub holds characters that no token has", hint=TOKEN_HINT) from None
    except unreadable as error:
        raise InputError(
            f"{what} at {revision}: `datasets` can't read its files ({type(error).__name__})",
            hint=f"look at its files and at the viewer's message on {endpoint_url()}/datasets/{repo}",
        ) from None


def _unreadable() -> tuple[type[Exception], ...]:
    """Returns the errors of `datasets` about broken files, scripts and cards; its own only once it is imported."""
    module = sys.modules.get("datasets.exceptions")
    return (RuntimeError, ValueError) if module is None else (RuntimeError, ValueError, module.DatasetsError)


def _http_error(kind: Kind, what: str, revision: str | None, error: Any) -> UserError:
    from huggingface_hub import errors

    status, own = status_of(error), _kind_of(kind)
    if isinstance(error, errors.GatedRepoError):
        return own(
            f"{what} is gated: its owner must grant access first (HTTP {status})",
            hint="accept its terms on its page, then log in: hf auth login (or set HF_TOKEN)",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return own(f"{what} has no revision {revision!r}", valid="a branch, a tag, or a commit SHA of this repository")
    if isinstance(error, errors.RepositoryNotFoundError):
        return own(
            f"{what} does not exist on {endpoint_url()}, or is private and can't be seen from here (HTTP {status})",
            hint="check the name; for a private one log in: hf auth login (or set HF_TOKEN)",
        )
    if status == 401:
        return own(f"{endpoint_url()} refused the token in a request for {what} (HTTP 401)", hint="hf auth login")
    if status in (403, 404):
        return own(f"{what} can't be read with this token (HTTP {status})", hint="ask its owner for read access")
    return own(
        f"{endpoint_url()} failed to answer a request for {what} (HTTP {status})", hint="try again in some minutes"
    )


def _unreachable(kind: Kind, what: str, why: str) -> UserError:
    own = DatasetOutOfReachError if kind == "dataset" else ModelOutOfReachError
    return own(
        f"{endpoint_url()} can't be reached for {what} ({why})",
        hint="check the network, HF_ENDPOINT and HF_HUB_OFFLINE; once downloaded, a full commit SHA as revision "
        "needs no network",
    )


def _no_files(kind: Kind, what: str, repo: str, revision: str | None, error: OSError) -> UserError:
    if error.errno is not None and not isinstance(error, FileNotFoundError):
        return StoreError(
            f"the cache of the Hub's clients can't be written or read: {os.strerror(error.errno)}",
            hint="free space, or set HF_HOME to another folder",
        )
    # `datasets` reports "no data file" for almost anything, closed and failing repositories included.
    try:
        with translated_errors(kind, repo, revision):
            client().HfApi().auth_check(repo, repo_type=kind)
    except UserError as reason:
        return reason
    return _kind_of(kind)(
        f"{what} at {revision} has no readable data file",
        valid="Parquet, JSON lines, CSV or text files",
        hint="try again in some minutes if its files look right: the Hub may be failing",
    )


def status_of(error: Any) -> int | None:
    """Returns the HTTP status of an error; None where no response came."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def endpoint_url() -> str:
    """Returns the address of the Hub, without any user name or password in it."""
    parts = urlsplit(str(client().constants.ENDPOINT))
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
