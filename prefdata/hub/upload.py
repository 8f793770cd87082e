"""`HubRepo`: writes to a repository of a dataset or a model, one commit at a time.

The client never retries `create_commit`, and a lost answer doesn't show whether the commit was made. So a commit here
ends in one of three ways: it was made, the Hub refused it for good (`PublishError`), or its outcome is unknown
(`UndecidedError`), after which the caller looks at the branch again. A proxy or a login page may answer in place of the
Hub, with status 200 and anything as content: every value of an answer is checked before it is used.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from prefdata.errors import PublishError
from prefdata.hub._answers import (
    JUNK,
    HubCommit,
    HubFile,
    UndecidedError,
    checked_content,
    checked_sha,
    checked_value,
)
from prefdata.hub._client import PASSING, TOKEN_HINT, Kind, client, endpoint_url, status_of, with_retries
from prefdata.hub._sending import no_progress_bars, redacted, requested_wait, thread_errors
from prefdata.lazy import pa, pq

__all__ = ["HubRepo"]

_T = TypeVar("_T")
_MOVED = (409, 412)
_LONGEST_WAIT = 120.0
"""Seconds; a Hub that asks for a longer pause ends the push."""
_PROPOSALS = 20
"""Number of the latest pull requests that are searched for a commit of ours."""
_XET_ANSWER = re.compile(r"client error \((4\d\d)")


class HubRepo:
    """A repository of the Hub; each method sends requests to the Hub.

    Args:
        repo: `owner/name`.
        kind: what it holds, a dataset or a model.

    Raises:
        PublishError: by every method, when the Hub refuses or can't be reached; here, without a token.
    """

    def __init__(self, repo: str, kind: Kind = "dataset") -> None:
        hub = client()
        if hub.get_token() is None:
            raise PublishError("there is no token for the Hub", hint="hf auth login, or set HF_TOKEN")
        self.repo, self.kind = repo, kind
        self._api = hub.HfApi()

    @property
    def address(self) -> str:
        """Address of the repository's page."""
        return f"{endpoint_url()}/{self._prefix}{self.repo}"

    @property
    def _prefix(self) -> str:
        """Models are at the top of the Hub, datasets in a folder."""
        return "" if self.kind == "model" else "datasets/"

    @staticmethod
    def token() -> str:
        """Returns the token that is in use, to look for it in what is about to be published."""
        return client().get_token() or ""

    def create(self) -> bool:
        """Creates the repository, private, where there is none. Returns whether it is new."""
        try:
            with self._publish_errors("created"):
                self._retry(lambda: self._api.repo_info(self.repo, repo_type=self.kind))
        except _AbsentError:
            pass
        else:
            return False
        with self._publish_errors("created"):
            self._retry(lambda: self._api.create_repo(self.repo, repo_type=self.kind, private=True, exist_ok=True))
        return True

    def is_private(self) -> bool:
        """Returns whether only its owners see the repository."""
        with self._publish_errors("read"):
            return checked_value(self._retry(lambda: self._api.repo_info(self.repo, repo_type=self.kind)).private, bool)

    def make_public(self) -> None:
        """Makes the repository public."""
        with self._publish_errors("made public"):
            self._retry(lambda: self._api.update_repo_settings(self.repo, repo_type=self.kind, private=False))

    def head(self, revision: str) -> str | None:
        """Returns the commit SHA of a branch or tag; None where there is no such revision."""
        from huggingface_hub.errors import RevisionNotFoundError

        with self._publish_errors("read"):
            try:
                info = self._retry(lambda: self._api.repo_info(self.repo, repo_type=self.kind, revision=revision))
            except RevisionNotFoundError:
                return None
            return checked_sha(info.sha)

    def make_branch(self, name: str) -> None:
        """Creates a branch at the head of `main`."""
        with self._publish_errors("given a branch"):
            self._retry(lambda: self._api.create_branch(self.repo, repo_type=self.kind, branch=name, exist_ok=True))

    def tag(self, name: str) -> str | None:
        """Returns the commit SHA of a tag; None where there is no such tag."""
        with self._publish_errors("read"):
            refs = self._retry(lambda: self._api.list_repo_refs(self.repo, repo_type=self.kind))
            return next((checked_sha(ref.target_commit) for ref in refs.tags if ref.name == name), None)

    def make_tag(self, name: str, sha: str) -> None:
        """Tags a commit; an existing tag is left as it is."""
        with self._publish_errors("tagged"):
            self._retry(
                lambda: self._api.create_tag(self.repo, repo_type=self.kind, tag=name, revision=sha, exist_ok=True)
            )

    def since(self, sha: str, revision: str) -> list[tuple[str, str]]:
        """Returns SHA and message of a branch's commits after `sha`, the latest first."""
        with self._publish_errors("read"):
            entries = self._retry(
                lambda: self._api.list_repo_commits(self.repo, repo_type=self.kind, revision=revision)
            )
            commits = [(checked_sha(commit.commit_id), f"{commit.title}\n{commit.message}") for commit in entries]
        shas = [commit for commit, _ in commits]
        return commits[: shas.index(sha)] if sha in shas else commits

    def proposals(self, sha: str) -> Iterator[tuple[HubCommit, str]]:
        """Yields the latest pull requests of one commit upon `sha`, each with its message; the latest first."""
        with self._publish_errors("read"):
            refs = self._retry(
                lambda: self._api.list_repo_refs(self.repo, repo_type=self.kind, include_pull_requests=True)
            )
            names = sorted((checked_value(ref.ref, str) for ref in refs.pull_requests or ()), key=_number, reverse=True)
        for name in names[:_PROPOSALS]:
            commits = self.since(sha, name)
            if len(commits) == 1:
                yield HubCommit(commits[0][0], name), commits[0][1]

    def files(self, sha: str) -> dict[str, HubFile]:
        """Lists every file at a commit."""
        with self._publish_errors("read"):
            entries = self._retry(
                lambda: list(self._api.list_repo_tree(self.repo, repo_type=self.kind, revision=sha, recursive=True))
            )
            return {
                checked_value(file.path, str): HubFile(
                    checked_value(file.size, int),
                    checked_value(file.lfs.sha256 if file.lfs else file.blob_id, str),
                    file.lfs is not None,
                )
                for file in entries
                if hasattr(file, "blob_id")
            }

    def read(self, sha: str, name: str, listed: HubFile) -> bytes:
        """Reads a whole file at a commit, which lists it so; nothing is kept on this machine."""

        def request() -> bytes:
            with self._opened(sha, name) as file:
                return checked_content(file.read(listed.size), listed)

        with self._publish_errors("read"):
            return self._retry(request)

    def parquet(self, sha: str, name: str) -> tuple[int, pa.Schema]:
        """Reads number of rows and schema of a Parquet file at a commit, from its footer; the data is not fetched."""

        def request() -> tuple[int, pa.Schema]:
            with self._opened(sha, name) as file, pq.ParquetFile(file) as table:
                return int(table.metadata.num_rows), table.schema_arrow

        with self._publish_errors("read"):
            try:
                return self._retry(request)
            except (pa.ArrowException, EOFError) as error:
                raise PublishError(
                    f"{name!r} of {self.repo!r} at {sha} is not a whole Parquet file",
                    hint="run the same command again; if this error repeats, look at the file on the repository's page",
                ) from error

    def additions(self, files: Mapping[str, Path | bytes]) -> list[Any]:
        """Prepares the files of a commit; hashes each, so that it is sent as it is now."""
        hub = client()
        return [
            hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(file) if isinstance(file, Path) else file)
            for name, file in files.items()
        ]

    def upload(self, additions: Sequence[Any], branch: str, *, proposed: bool) -> None:
        """Sends large files, which no reader sees before a commit names them; those on the Hub already are not sent.

        Raises:
            UndecidedError: the Hub was busy or the connection broke; the same call may succeed a moment later.
        """
        with self._publish_errors("sent files"), self._uncertain():
            self._api.preupload_lfs_files(
                self.repo,
                additions,
                repo_type=self.kind,
                revision=branch,
                create_pr=proposed,
                free_memory=False,
                # Otherwise the client leaves out files that the repository's own .gitignore names.
                gitignore_content="",
            )

    def commit(
        self,
        additions: Sequence[Any],
        deleted: Sequence[str],
        *,
        message: str,
        description: str,
        branch: str,
        parent: str,
        proposed: bool,
    ) -> HubCommit:
        """Makes one commit upon `parent`, which must be the branch's head; or a pull request.

        Raises:
            UndecidedError: the branch has moved, the Hub is busy, or the answer was lost.
        """
        hub = client()
        operations = [*additions, *(hub.CommitOperationDelete(path_in_repo=name) for name in deleted)]
        with self._publish_errors("given a commit"), self._uncertain(), warnings.catch_warnings():
            # The ids of the rows that a training dropped are a table, and belong to the model.
            warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
            info: Any = self._api.create_commit(
                self.repo,
                operations,
                commit_message=message,
                commit_description=description,
                repo_type=self.kind,
                revision=branch,
                create_pr=proposed,
                parent_commit=parent,
            )
            return HubCommit(checked_sha(info.oid), checked_value(info.pr_revision, str) if proposed else None)

    def _opened(self, sha: str, name: str) -> Any:
        # Cached listings and files of an earlier moment would hide what the Hub has now.
        system = client().HfFileSystem(endpoint=self._api.endpoint, skip_instance_cache=True, use_listings_cache=False)
        return system.open(f"{self._prefix}{self.repo}@{sha}/{name}", "rb", block_size=1 << 20)

    def _retry(self, request: Callable[[], _T]) -> _T:
        """Retries a request that may be sent twice, also after a broken connection."""
        return with_retries(request, broken=True)

    @contextmanager
    def _uncertain(self) -> Iterator[None]:
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils import httpx

        try:
            with thread_errors(), no_progress_bars():
                yield
        except HfHubHTTPError as error:
            status = status_of(error)
            if status not in (*PASSING, *_MOVED):
                raise
            wait = requested_wait(error)
            if wait is not None and wait > _LONGEST_WAIT:
                raise PublishError(
                    f"{endpoint_url()} asks to wait {wait:.0f} s before another write to {self.repo!r} (HTTP {status})",
                    hint="run the same command after that: files that were sent are not sent again",
                ) from None
            why = "another commit came first" if status in _MOVED else f"HTTP {status}"
            raise UndecidedError(why, wait, refused=status in (*_MOVED, 429)) from None
        except httpx.TransportError as error:
            raise UndecidedError(f"the connection broke ({type(error).__name__})") from None
        except JUNK:
            raise UndecidedError(f"{endpoint_url()} gave an answer that is not one of the Hub's") from None
        except ConnectionError as error:
            # hf_xet has the HTTP status in its text only.
            answer = _XET_ANSWER.search(str(error))
            if answer is not None and int(answer[1]) not in PASSING:
                raise PublishError(
                    f"{endpoint_url()} answered HTTP {answer[1]} to a request for access to Xet",
                    valid="a token with write access, and a Hub that has Xet",
                    hint="for a Hub without Xet: HF_HUB_DISABLE_XET=1",
                ) from None
            raise UndecidedError("the connection to Xet broke") from None

    @contextmanager
    def _publish_errors(self, what: str) -> Iterator[None]:
        """Turns errors of the client into one `PublishError`. The original is dropped: it may quote an address."""
        from huggingface_hub import errors
        from huggingface_hub.utils import httpx

        problem = f"the {self.kind} {self.repo!r} can't be {what}"
        try:
            yield
        except errors.HFValidationError:
            raise PublishError(f"{self.repo!r} is not a valid repository name", valid="owner/name") from None
        except errors.HfHubHTTPError as error:
            raise self._refused(problem, error) from None
        except errors.OfflineModeIsEnabled:
            raise PublishError(f"{problem}: HF_HUB_OFFLINE is set", hint="unset it") from None
        except (httpx.HTTPError, ConnectionError) as error:
            raise PublishError(
                f"{problem}: {endpoint_url()} can't be reached ({type(error).__name__})",
                hint="check the network and HF_ENDPOINT, then run the same command again",
            ) from None
        except UnicodeEncodeError:
            raise PublishError("the token for the Hub holds characters that no token has", hint=TOKEN_HINT) from None
        except JUNK:
            raise PublishError(
                f"{problem}: {endpoint_url()} gave an answer that is not one of the Hub's",
                hint="a proxy or a login page may have answered: check the network and HF_ENDPOINT, then run the same "
                "command again",
            ) from None
        except (RuntimeError, ValueError, OSError) as error:
            # hf_xet and the client's own checks of a card raise these.
            raise PublishError(
                f"{problem}: {type(error).__name__}: {redacted(str(error))}",
                hint="run the same command again: files that were sent are not sent again",
            ) from None

    def _refused(self, problem: str, error: Any) -> PublishError:
        from huggingface_hub import errors

        status, message = status_of(error), redacted(getattr(error, "server_message", None) or "")
        answer = f" The Hub says: {message}" if message else ""
        if isinstance(error, errors.GatedRepoError):
            return PublishError(f"{problem}: it is gated (HTTP {status})", hint="ask its owner for access")
        if isinstance(error, errors.RepositoryNotFoundError):
            return _AbsentError(
                f"{problem}: it does not exist on {endpoint_url()}, or this token doesn't see it (HTTP {status})",
                hint="check its name and the owner's; hf auth whoami shows whose token it is",
            )
        if status == 401:
            return PublishError(f"{problem}: {endpoint_url()} refused the token (HTTP 401)", hint="hf auth login")
        if status in (402, 403, 413, 507):
            return PublishError(
                f"{problem}: {endpoint_url()} does not allow it (HTTP {status}).{answer}",
                valid="a token with write access to the repository, and room within its quota",
                hint="hf auth login with such a token, or make room",
            )
        return PublishError(
            f"{problem}: {endpoint_url()} answered HTTP {status}.{answer}", hint="try again in some minutes"
        )


class _AbsentError(PublishError):
    """Raised when there is no such repository, or the token doesn't see it."""


def _number(ref: str) -> int:
    number = ref.rpartition("/")[2]
    return int(number) if number.isdecimal() else 0
