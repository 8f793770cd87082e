"""`HubDataset`: a dataset repository that is written to, one commit at a time.

`create_commit` of the client is never retried by it, and a lost answer doesn't say whether the commit was made. So a
commit here ends in one of three ways: it was made, the Hub refused it for good (`PublishError`), or nobody knows yet
(`UndecidedError`), after which the caller looks at the branch again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prefdata.errors import PublishError
from prefdata.hub._client import PASSING, client, patiently, place, status_of
from prefdata.hub._sending import asked_to_wait, harmless, quiet, unwrapped
from prefdata.lazy import pa, pq

__all__ = ["HubCommit", "HubDataset", "HubFile", "UndecidedError"]

_T = TypeVar("_T")
_MOVED = (409, 412)
_LONGEST_WAIT = 120.0
"""Seconds; a Hub that asks for more is not waited for."""
_PROPOSALS = 20
"""So many of the latest pull requests are looked at."""
_XET_ANSWER = re.compile(r"client error \((4\d\d)")


class UndecidedError(Exception):
    """The branch has moved on, or the answer to a commit was lost.

    Args:
        why: in a few words.
        wait: seconds that the Hub asks to wait; None leaves it to the caller.
        refused: the Hub has certainly not done it.
    """

    def __init__(self, why: str, wait: float | None = None, *, refused: bool = False) -> None:
        self.wait = wait
        self.refused = refused
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository, as the Hub's list of files tells it."""

    size: int
    digest: str
    """SHA-256 of the content of a large file (LFS, Xet); git's SHA-1 of a small one."""
    large: bool


@dataclass(frozen=True, slots=True)
class HubCommit:
    """A commit that was made."""

    sha: str
    pull_request: str | None = None
    """Its ref (`refs/pr/1`), where the commit is a proposal."""


class HubDataset:
    """A dataset repository; each method asks the Hub.

    Args:
        repo: `owner/name`.

    Raises:
        PublishError: of every method, when the Hub refuses or can't be reached.
    """

    def __init__(self, repo: str) -> None:
        hub = client()
        if hub.get_token() is None:
            raise PublishError("nobody is logged in to the Hub", hint="hf auth login, or set HF_TOKEN")
        self.repo = repo
        self._api = hub.HfApi()

    @property
    def address(self) -> str:
        """Where people look at it."""
        return f"{place()}/datasets/{self.repo}"

    def holds_token(self, content: bytes) -> bool:
        """Whether the token that is in use stands in a file."""
        token = client().get_token()
        return token is not None and token.encode() in content

    def create(self) -> bool:
        """Makes the repository, private, where there is none; whether it is new."""
        try:
            with self._told("made"):
                self._asked(lambda: self._api.repo_info(self.repo, repo_type="dataset"))
        except _AbsentError:
            pass
        else:
            return False
        with self._told("made"):
            self._asked(lambda: self._api.create_repo(self.repo, repo_type="dataset", private=True, exist_ok=True))
        return True

    def is_private(self) -> bool:
        """Whether only its owners see it."""
        with self._told("read"):
            return bool(self._asked(lambda: self._api.repo_info(self.repo, repo_type="dataset")).private)

    def make_public(self) -> None:
        """Opens it to everybody."""
        with self._told("opened to everybody"):
            self._asked(lambda: self._api.update_repo_settings(self.repo, repo_type="dataset", private=False))

    def head(self, revision: str) -> str | None:
        """The commit at a branch or tag; None where there is no such revision."""
        from huggingface_hub.errors import RevisionNotFoundError

        with self._told("read"):
            try:
                info = self._asked(lambda: self._api.repo_info(self.repo, repo_type="dataset", revision=revision))
            except RevisionNotFoundError:
                return None
            return str(info.sha)

    def make_branch(self, name: str) -> None:
        """Makes a branch at the head of `main`."""
        with self._told("given a branch"):
            self._asked(lambda: self._api.create_branch(self.repo, repo_type="dataset", branch=name, exist_ok=True))

    def tag(self, name: str) -> str | None:
        """The commit that a tag names; None where there is no such tag."""
        with self._told("read"):
            refs = self._asked(lambda: self._api.list_repo_refs(self.repo, repo_type="dataset"))
        return next((str(ref.target_commit) for ref in refs.tags if ref.name == name), None)

    def make_tag(self, name: str, sha: str) -> None:
        """Names a commit; a tag that is there already is left as it is."""
        with self._told("tagged"):
            self._asked(
                lambda: self._api.create_tag(self.repo, repo_type="dataset", tag=name, revision=sha, exist_ok=True)
            )

    def since(self, sha: str, revision: str) -> list[tuple[str, str]]:
        """SHA and message of the commits of a branch that are younger than one of it, the latest first."""
        with self._told("read"):
            found = self._asked(lambda: self._api.list_repo_commits(self.repo, repo_type="dataset", revision=revision))
        commits = [(str(commit.commit_id), f"{commit.title}\n{commit.message}") for commit in found]
        known = [commit for commit, _ in commits]
        return commits[: known.index(sha)] if sha in known else commits

    def proposals(self, sha: str) -> Iterator[tuple[HubCommit, str]]:
        """The latest pull requests of one commit upon `sha`, each with its message; the latest first."""
        with self._told("read"):
            refs = self._asked(
                lambda: self._api.list_repo_refs(self.repo, repo_type="dataset", include_pull_requests=True)
            )
        for ref in sorted(refs.pull_requests or (), key=lambda ref: _number(ref.ref), reverse=True)[:_PROPOSALS]:
            commits = self.since(sha, ref.ref)
            if len(commits) == 1:
                yield HubCommit(commits[0][0], ref.ref), commits[0][1]

    def files(self, sha: str) -> dict[str, HubFile]:
        """Every file at a commit."""
        with self._told("read"):
            found = self._asked(
                lambda: list(self._api.list_repo_tree(self.repo, repo_type="dataset", revision=sha, recursive=True))
            )
        return {
            file.path: HubFile(file.size, file.lfs.sha256 if file.lfs else file.blob_id, file.lfs is not None)
            for file in found
            if hasattr(file, "blob_id")
        }

    def read(self, sha: str, name: str, limit: int) -> bytes:
        """A file's first `limit` bytes at a commit; nothing is kept on this machine."""

        def ask() -> bytes:
            with self._opened(sha, name) as file:
                found: bytes = file.read(limit)
                return found

        with self._told("read"):
            return self._asked(ask)

    def parquet(self, sha: str, name: str) -> tuple[int, pa.Schema]:
        """Rows and schema of a Parquet file at a commit, from its end; the data is not fetched."""

        def ask() -> tuple[int, pa.Schema]:
            with self._opened(sha, name) as file, pq.ParquetFile(file) as table:
                return int(table.metadata.num_rows), table.schema_arrow

        with self._told("read"):
            try:
                return self._asked(ask)
            except (pa.ArrowException, EOFError) as error:
                raise PublishError(f"{name!r} of {self.repo!r} at {sha} is not a whole Parquet file") from error

    def additions(self, files: Mapping[str, Path | bytes]) -> list[Any]:
        """What a commit is to hold; hashes every file, so that each is sent as it is now."""
        hub = client()
        return [
            hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(file) if isinstance(file, Path) else file)
            for name, file in files.items()
        ]

    def upload(self, additions: Sequence[Any], branch: str, *, proposed: bool) -> None:
        """Sends large files, which no reader sees before a commit names them; those that are there are not sent.

        Raises:
            UndecidedError: it may go better in a moment.
        """
        with self._told("sent files"), self._undecided():
            self._api.preupload_lfs_files(
                self.repo,
                additions,
                repo_type="dataset",
                revision=branch,
                create_pr=proposed,
                free_memory=False,
                # Left to itself, the client leaves out what the repository's own .gitignore names.
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
        """One commit upon `parent`, which must be the branch's head; or a pull request.

        Raises:
            UndecidedError: the branch has moved, the Hub is busy, or the answer was lost.
        """
        hub = client()
        operations = [*additions, *(hub.CommitOperationDelete(path_in_repo=name) for name in deleted)]
        with self._told("given a commit"), self._undecided():
            made = self._api.create_commit(
                self.repo,
                operations,
                commit_message=message,
                commit_description=description,
                repo_type="dataset",
                revision=branch,
                create_pr=proposed,
                parent_commit=parent,
            )
        return HubCommit(str(made.oid), str(made.pr_revision) if proposed else None)

    def _opened(self, sha: str, name: str) -> Any:
        # Neither listings nor files of an earlier moment: what is asked is what the Hub has now.
        system = client().HfFileSystem(endpoint=self._api.endpoint, skip_instance_cache=True, use_listings_cache=False)
        return system.open(f"datasets/{self.repo}@{sha}/{name}", "rb", block_size=1 << 20)

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """For what may be asked twice."""
        return patiently(ask, broken=True)

    @contextmanager
    def _undecided(self) -> Iterator[None]:
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils import httpx

        try:
            with unwrapped(), quiet():
                yield
        except HfHubHTTPError as error:
            status = status_of(error)
            if status not in (*PASSING, *_MOVED):
                raise
            wait = asked_to_wait(error)
            if wait is not None and wait > _LONGEST_WAIT:
                raise PublishError(
                    f"{place()} asks to wait {wait:.0f} s before {self.repo!r} is written to again (HTTP {status})",
                    hint="run the same command then: what was sent is not sent again",
                ) from None
            why = "another commit came first" if status in _MOVED else f"HTTP {status}"
            raise UndecidedError(why, wait, refused=status in (*_MOVED, 429)) from None
        except httpx.TransportError as error:
            raise UndecidedError(f"the connection broke ({type(error).__name__})") from None
        except ConnectionError as error:
            # hf_xet tells the answer in its text only.
            answer = _XET_ANSWER.search(str(error))
            if answer is not None and int(answer[1]) not in PASSING:
                raise PublishError(
                    f"{place()} answered HTTP {answer[1]} when asked for access to Xet",
                    valid="a token with write access, and a Hub that has Xet",
                    hint="for a Hub without Xet: HF_HUB_DISABLE_XET=1",
                ) from None
            raise UndecidedError("the connection to Xet broke") from None

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turns what the client raises into one `PublishError`. The original is dropped: it may quote an address."""
        from huggingface_hub import errors
        from huggingface_hub.utils import httpx

        whole = f"the dataset {self.repo!r} can't be {what}"
        try:
            yield
        except errors.HFValidationError:
            raise PublishError(f"{self.repo!r} is not a valid repository name", valid="owner/name") from None
        except errors.HfHubHTTPError as error:
            raise self._refused(whole, error) from None
        except errors.OfflineModeIsEnabled:
            raise PublishError(f"{whole}: HF_HUB_OFFLINE is set", hint="unset it") from None
        except (httpx.HTTPError, ConnectionError) as error:
            raise PublishError(
                f"{whole}: {place()} can't be reached ({type(error).__name__})",
                hint="check the network and HF_ENDPOINT, then run the same command again",
            ) from None
        except (RuntimeError, ValueError, OSError) as error:
            # What hf_xet and the client's own checks of a card raise.
            raise PublishError(
                f"{whole}: {type(error).__name__}: {harmless(str(error))}",
                hint="run the same command again: what was sent is not sent again",
            ) from None

    def _refused(self, whole: str, error: Any) -> PublishError:
        from huggingface_hub import errors

        status, said = status_of(error), harmless(getattr(error, "server_message", None) or "")
        told = f" The Hub says: {said}" if said else ""
        if isinstance(error, errors.GatedRepoError):
            return PublishError(f"{whole}: it is gated (HTTP {status})", hint="ask its owner for access")
        if isinstance(error, errors.RepositoryNotFoundError):
            return _AbsentError(
                f"{whole}: it does not exist on {place()}, or this token doesn't see it (HTTP {status})",
                hint="check its name and the owner's; hf auth whoami tells who asks",
            )
        if status == 401:
            return PublishError(f"{whole}: {place()} refused the token (HTTP 401)", hint="hf auth login")
        if status in (402, 403, 413, 507):
            return PublishError(
                f"{whole}: {place()} does not allow it (HTTP {status}).{told}",
                valid="a token with write access to the repository, and room within its quota",
                hint="hf auth login with such a token, or make room",
            )
        return PublishError(f"{whole}: {place()} answered HTTP {status}.{told}", hint="try again in some minutes")


class _AbsentError(PublishError):
    """There is no such repository, or it can't be seen."""


def _number(ref: str) -> int:
    number = ref.rpartition("/")[2]
    return int(number) if number.isdecimal() else 0
