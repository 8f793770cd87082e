"""`push`: publishes a dataset or a trained model as one commit on the Hub, or changes nothing there.

Large files are sent first; no reader sees them before the one commit names them. The commit is made upon the head that
was read, so that it never overwrites a commit made in between. Its description contains the digest of the content, by
which a commit whose answer was lost is recognised.

Every message begins with what is true: published (the address of the commit), not published, or unknown.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdata.errors import PublishError, UnconfirmedError
from prefdata.hub import HubCommit, HubRepo, Kind, UndecidedError
from prefdata.publish.confirming import confirm
from prefdata.publish.leaks import refuse_secrets
from prefdata.publish.outgoing import Outgoing, read_outgoing
from prefdata.publish.planning import PushPlan, plan_push, refuse_problems
from prefdata.spec import JSON

__all__ = ["Pushed", "check_target", "push"]

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REF = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*", re.ASCII)
_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between tries, varied by a third so that two pushes at the same time don't collide again."""
_AGAIN = "run the same command again: it checks this commit, and makes no second one"
_BATCH = 20
"""Files sent at a time."""


@dataclass(frozen=True)
class Pushed:
    """A published dataset or model, read back from the Hub and equal to what was sent."""

    repo: str
    commit: str
    """SHA of the commit that holds it."""
    url: str
    """Address of that commit's page."""
    new: bool
    """Whether this push made the commit; False where the same content was published already."""
    rows: Mapping[str, int]
    """Folder and split (`data/train`) of a dataset → rows, counted on the Hub."""
    tag: str | None = None
    pull_request: str | None = None
    """Ref of the pull request, where the commit is a proposal."""
    kept: Mapping[str, JSON] = field(default_factory=dict)
    """Edited keys of the published card's header, which are kept → their values."""
    kind: Kind = "dataset"
    files: int = 0
    """Number of its files, each compared with that on the Hub."""
    before: tuple[Pushed, ...] = ()
    """Of a run: its other datasets and models, in the order in which they were published; this is the last one."""


def push(
    folder: str | Path,
    repo_id: str,
    *,
    public: bool = False,
    tag: str | None = None,
    branch: str = "main",
    create_pr: bool = False,
    allow_schema_change: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> Pushed:
    """Publishes a dataset or a trained model; `prefdata.push` says the same of its arguments and errors."""
    with _not_published():
        _check_names(repo_id, tag, branch, create_pr)
        outgoing = read_outgoing(folder)
        refuse_problems(outgoing.card)
        _refuse_empty(outgoing)
        repo = HubRepo(repo_id, outgoing.kind)
        refuse_secrets(outgoing, repo.token())
        _make(repo, branch, public)
        sending = _Push(repo, outgoing, branch, create_pr, public, allow_schema_change, tag, log)
        with _stopped(sending):
            commit, new = sending.run()
    url = f"{repo.address}/commit/{commit.sha}"
    for note in sending.plan.notes if new else ():
        log(note)
    log(f"published: {url}" if new else f"the same {repo.kind} is published already: {url}")
    try:
        rows, problems = confirm(repo, commit, sending.expected, public=public, tag=tag)
    except KeyboardInterrupt:
        raise UnconfirmedError(
            f"published: {url}\n    not checked: stopped before all was read back", hint=_AGAIN
        ) from None
    if problems:
        raise UnconfirmedError(
            "\n".join([f"published: {url}", *(f"    {problem.problem}" for problem in problems)]),
            hint=next((problem.hint for problem in problems if problem.hint), None) or _AGAIN,
        )
    files, counted = len(outgoing.files()), f" and {sum(rows.values()):,} rows" if repo.kind == "dataset" else ""
    log(f"read back: {files:,} files{counted}, hashes and schemas are equal")
    plan, proposal = sending.plan, commit.pull_request
    return Pushed(repo_id, commit.sha, url, new, rows, tag, proposal, plan.kept, kind=repo.kind, files=files)


def check_target(repo_id: str) -> None:
    """Finds out, before hours of work, what of a repository would stop a push that comes after them.

    Raises:
        PublishError: this is not a name of a repository, or there is no token.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    _check_names(repo_id, None, "main", False)
    HubRepo(repo_id)


@contextmanager
def _not_published() -> Iterator[None]:
    """Begins the message of an error with what is true of the commit: there is none."""
    try:
        yield
    except UnconfirmedError:
        raise
    except PublishError as error:
        raise PublishError(f"not published: {error.problem}", valid=error.valid, hint=error.hint) from error


def _refuse_empty(outgoing: Outgoing) -> None:
    if outgoing.kind == "dataset" and not sum(
        rows for name, (rows, _) in outgoing.tables().items() if name.startswith("data/")
    ):
        raise PublishError(
            f"the dataset {str(outgoing.folder)!r} has no pair",
            valid="a dataset of at least one row",
            hint=f"prefdata inspect {outgoing.folder} lists why prompts gave no pair",
        )


@contextmanager
def _stopped(sending: _Push) -> Iterator[None]:
    """Says what is true of the commit when somebody stops the push (Ctrl-C)."""
    try:
        yield
    except KeyboardInterrupt:
        if not (sending.sent or sending.lost):
            sending.log("not published: stopped before a commit was sent")
            raise
        raise UnconfirmedError(
            f"unknown: stopped after a commit was sent; look at {sending.repo.address}\n"
            "    not checked: whether the commit is there",
            hint="run the same command again: it looks for its commit first, and makes no second one",
        ) from None


def _make(repo: HubRepo, branch: str, public: bool) -> None:
    """Creates repository and branch where they are not there."""
    repo.create()
    _refuse_public(repo, public)
    if branch != "main" and repo.head(branch) is None:
        repo.make_branch(branch)


def _refuse_public(repo: HubRepo, public: bool) -> None:
    if not public and not repo.is_private():
        raise PublishError(
            f"the {repo.kind} {repo.repo!r} is public, and without --public nothing is published there",
            hint="--public, or another repository",
        )


@dataclass
class _Push:
    repo: HubRepo
    outgoing: Outgoing
    branch: str
    proposed: bool
    public: bool
    any_schema: bool
    tag: str | None
    log: Callable[[str], None]
    plan: PushPlan = field(init=False)
    upon: str | None = None
    """The commit that our own commit was made upon, where it was found and not made in this run of the loop."""
    sent: bool = False
    """Whether a commit was sent whose outcome no answer has shown."""
    lost: bool = False
    """Whether a commit was sent that the Hub may have made."""

    def run(self) -> tuple[HubCommit, bool]:
        """Pushes the dataset; returns the commit that holds the dataset, and whether this push made it."""
        start, problem = self._head(), ""
        tagged_commit = None if self.tag is None else self.repo.tag(self.tag)
        for number, pause in enumerate((*_WAITS, None)):
            head, commit = self._head_and_own_commit(start, looked=number > 0)
            if commit is not None:
                return commit, self.lost
            self.plan = plan_push(self.repo, self.outgoing, head, any_schema=self.any_schema)
            self._check_tag(tagged_commit, head)
            if self.plan.empty:
                return HubCommit(head), False
            try:
                return self._commit(head), True
            except UndecidedError as error:
                problem, self.lost = str(error), self.lost or (self.sent and not error.refused)
                if pause is None:
                    break
                wait = pause if error.wait is None else error.wait
                self.log(f"{problem}; trying again in {wait:.0f} s")
                time.sleep(wait * random.uniform(0.67, 1.33) if error.wait is None else wait)
            except PublishError as error:
                return self._after_refusal(start, error), True
        _, commit = self._head_and_own_commit(start, looked=True)
        if commit is not None:
            return commit, self.lost
        if self.lost:
            raise UnconfirmedError(
                f"unknown: a commit was sent, and it is not known whether {self.repo.address} will have it\n"
                f"    not checked: {problem}",
                hint="run the same command again in some minutes: it looks for its commit first",
            )
        raise PublishError(
            f"the {self.repo.kind} {self.repo.repo!r} could not get a commit in {len(_WAITS) + 1} tries: {problem}. "
            "Nothing has changed there",
            hint="run the same command again in some minutes: files that were sent are not sent again",
        )

    def expected(self) -> PushPlan:
        """Returns the plan of the commit that holds the dataset; it depends on the commit that it was made upon."""
        if self.upon is not None:
            self.plan = plan_push(self.repo, self.outgoing, self.upon, any_schema=True)
        return self.plan

    def _check_tag(self, tagged_commit: str | None, head: str) -> None:
        if tagged_commit is not None and not (self.plan.empty and tagged_commit == head):
            raise PublishError(
                f"the tag {self.tag!r} of {self.repo.repo!r} names the commit {tagged_commit} already",
                hint="another tag: a version never changes",
            )

    def _after_refusal(self, start: str, error: PublishError) -> HubCommit:
        """Looks for the commit after a final error; what answered may have been a proxy, after the Hub had made it."""
        commit = self._head_and_own_commit(start, looked=True)[1] if self.sent else None
        if commit is None:
            raise error
        return commit

    def _head_and_own_commit(self, start: str, *, looked: bool) -> tuple[str, HubCommit | None]:
        """Reads the head, and finds our own commit where it exists already."""
        try:
            head = self._head() if looked else start
            commit = self._own_commit(start, head, looked=looked)
        except PublishError as error:
            if not self.sent:
                raise
            raise UnconfirmedError(
                f"unknown: a commit was sent, and it is not known whether {self.repo.address} has it\n"
                f"    not checked: {error.problem}",
                hint="run the same command again: it looks for its commit first, and makes no second one",
            ) from None
        self.sent = False
        return head, commit

    def _head(self) -> str:
        head = self.repo.head(self.branch)
        if head is None:
            raise PublishError(f"the {self.repo.kind} {self.repo.repo!r} has no branch {self.branch!r}")
        return head

    def _own_commit(self, start: str, head: str, *, looked: bool) -> HubCommit | None:
        """Finds our own commit after a lost answer, or the same proposal of an earlier push."""
        if self.proposed:
            commit = next((commit for commit, message in self.repo.proposals(head) if self._is_ours(message)), None)
        else:
            since = self.repo.since(start, self.branch) if looked and head != start else []
            commit = next((HubCommit(sha) for sha, message in since if self._is_ours(message)), None)
        if commit is not None:
            self.upon = head if self.proposed else self._parent(start, commit.sha)
        return commit

    def _parent(self, start: str, sha: str) -> str:
        commits = [commit for commit, _ in self.repo.since(start, self.branch)]
        return [*commits, start][commits.index(sha) + 1]

    def _is_ours(self, message: str) -> bool:
        return f"prefdata-digest: {self.outgoing.digest}" in message

    def _commit(self, head: str) -> HubCommit:
        # The client keeps in each addition the state of the branch at its request: a new head needs new additions.
        additions = self.repo.additions(self.plan.changed)
        for addition in additions:
            name = addition.path_in_repo
            if addition.upload_info.sha256.hex() != self.plan.outgoing.sha256(name):
                raise PublishError(f"{name!r} was changed while it was sent", hint="make it again, then push")
        for start in range(0, len(additions), _BATCH):
            batch: list[Any] = additions[start : start + _BATCH]
            self.repo.upload(batch, self.branch, proposed=self.proposed)
            self.log(f"sent {start + len(batch):,} of {len(additions):,} files")
        # Sending may have taken hours.
        _refuse_public(self.repo, self.public)
        self.sent = True
        return self.repo.commit(
            additions,
            self.plan.deleted,
            message=f"prefdata push {self.tag}" if self.tag else "prefdata push",
            description=f"prefdata-digest: {self.outgoing.digest}",
            branch=self.branch,
            parent=head,
            proposed=self.proposed,
        )


def _check_names(repo_id: str, tag: str | None, branch: str, create_pr: bool) -> None:
    if not _REPO.fullmatch(repo_id) or len(repo_id) > 96 or ".." in repo_id or "--" in repo_id:
        raise PublishError(
            f"{repo_id!r} is not a valid repository name",
            valid="owner/name of letters, digits, dots, dashes and underscores, at most 96 of them",
        )
    for what, name in (("tag", tag), ("branch", branch)):
        if name is not None and (not _REF.fullmatch(name) or ".." in name or name.endswith((".lock", "."))):
            raise PublishError(
                f"{name!r} is not a valid {what} name", valid="letters, digits, dots, dashes and underscores"
            )
    if tag is not None and create_pr:
        raise PublishError(
            "--tag cannot be combined with --create-pr", hint="tag the commit when the proposal is merged"
        )
