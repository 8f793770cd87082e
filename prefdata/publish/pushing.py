"""`push`: publishes a dataset folder as one commit of a dataset on the Hub, or changes nothing there.

Large files are sent first; no reader sees them before the one commit names them. The commit is made upon the head that
was read, so that it never overwrites a commit made in between. Its description contains the digest of the dataset, by
which a commit whose answer was lost is recognised.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdata.errors import PublishError
from prefdata.hub import HubCommit, HubDataset, UndecidedError
from prefdata.lazy import pa
from prefdata.publish.outgoing import Outgoing, read_outgoing
from prefdata.publish.planning import PushPlan, by_split, plan_push, refuse_problems, same_file
from prefdata.spec import JSON

__all__ = ["Pushed", "push"]

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REF = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*", re.ASCII)
_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between tries, varied by a third so that two pushes at the same time don't collide again."""
_BATCH = 20
"""Files sent at a time."""


@dataclass(frozen=True)
class Pushed:
    """A published dataset, read back from the Hub and equal to what was sent."""

    repo: str
    commit: str
    """SHA of the commit that holds the dataset."""
    url: str
    """Address of that commit's page."""
    new: bool
    """Whether this push made the commit; False where the same dataset was published already."""
    rows: Mapping[str, int]
    """Folder and split (`data/train`) → rows, counted on the Hub."""
    tag: str | None = None
    pull_request: str | None = None
    """Ref of the pull request, where the commit is a proposal."""
    kept: Mapping[str, JSON] = field(default_factory=dict)
    """Edited keys of the published card's header, which are kept → their values."""


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
    """Publishes a dataset; pushing the same one again makes no commit.

    The Hub's client supplies the token (`hf auth login`, `HF_TOKEN`).

    Args:
        folder: a build folder or a dataset folder.
        repo_id: `owner/name`; created where there is none.
        public: make the repository public; otherwise it is private, and a public one is refused.
        tag: a version that names the commit.
        branch: the branch that gets the commit; created from `main` where there is none.
        create_pr: propose the commit as a pull request.
        allow_schema_change: publish also where columns, types or splits differ from the published ones.
        log: receives progress, one line a call.

    Raises:
        PublishError: the dataset was not published, and why. Unless the message names a commit, nothing has changed.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    _check_names(repo_id, tag, branch, create_pr)
    outgoing = read_outgoing(folder)
    refuse_problems(outgoing.card)
    repo = HubDataset(repo_id)
    for name, content in outgoing.files().items():
        if not name.endswith(".parquet") and repo.holds_token(_bytes(content)):
            raise PublishError(
                f"{name!r} contains the token for the Hub that is in use",
                hint="take it out of the recipe and build again",
            )
    if not repo.create() and not public and not repo.is_private():
        raise PublishError(
            f"the dataset {repo_id!r} is public, and without --public nothing is published there",
            hint="--public, or another repository",
        )
    if branch != "main" and repo.head(branch) is None:
        repo.make_branch(branch)
    sending = _Push(repo, outgoing, branch, create_pr, allow_schema_change, tag, log)
    commit, new = sending.run()
    rows = _read_back(repo, commit.sha, sending.plan)
    log(f"read back: {sum(rows.values()):,} rows, hashes and schemas are equal")
    if tag is not None:
        _tag(repo, tag, commit.sha)
    if public and repo.is_private():
        repo.make_public()
    url = f"{repo.address}/commit/{commit.sha}"
    return Pushed(repo_id, commit.sha, url, new, rows, tag, commit.pull_request, sending.plan.kept)


@dataclass
class _Push:
    repo: HubDataset
    outgoing: Outgoing
    branch: str
    proposed: bool
    any_schema: bool
    tag: str | None
    log: Callable[[str], None]
    plan: PushPlan = field(init=False)

    def run(self) -> tuple[HubCommit, bool]:
        """Pushes the dataset; returns the commit that holds the dataset, and whether this push made it."""
        start, problem, lost = self._head(), "", False
        tagged_commit = None if self.tag is None else self.repo.tag(self.tag)
        for number, pause in enumerate((*_WAITS, None)):
            head, commit = self._head_and_own_commit(start, looked=number > 0, lost=lost)
            if commit is not None:
                return commit, lost
            self.plan = plan_push(self.repo, self.outgoing, head, any_schema=self.any_schema)
            if tagged_commit is not None and not (self.plan.empty and tagged_commit == head):
                raise PublishError(
                    f"the tag {self.tag!r} of {self.repo.repo!r} names the commit {tagged_commit} already",
                    hint="another tag: a version never changes",
                )
            if self.plan.empty:
                self.log(f"the same dataset is published already, at {head}")
                return HubCommit(head), False
            try:
                return self._commit(head), True
            except UndecidedError as error:
                problem, lost = str(error), lost or not error.refused
                if pause is None:
                    break
                wait = pause if error.wait is None else error.wait
                self.log(f"{problem}; trying again in {wait:.0f} s")
                time.sleep(wait * random.uniform(0.67, 1.33) if error.wait is None else wait)
        _, commit = self._head_and_own_commit(start, looked=True, lost=lost)
        if commit is not None:
            return commit, lost
        raise PublishError(
            f"the dataset {self.repo.repo!r} could not get a commit in {len(_WAITS) + 1} tries: {problem}. "
            "Nothing has changed there",
            hint="run the same command again in some minutes: files that were sent are not sent again",
        )

    def _head_and_own_commit(self, start: str, *, looked: bool, lost: bool) -> tuple[str, HubCommit | None]:
        """Reads the head, and finds our own commit where it exists already."""
        try:
            head = self._head() if looked else start
            return head, self._own_commit(start, head, looked=looked)
        except PublishError as error:
            if not lost:
                raise
            raise PublishError(
                f"the answer to the commit was lost, and it is not known whether {self.repo.repo!r} has it: "
                f"{error.problem}",
                hint="run the same command again: it looks for its commit first",
            ) from None

    def _head(self) -> str:
        head = self.repo.head(self.branch)
        if head is None:
            raise PublishError(f"the dataset {self.repo.repo!r} has no branch {self.branch!r}")
        return head

    def _own_commit(self, start: str, head: str, *, looked: bool) -> HubCommit | None:
        """Finds our own commit after a lost answer, or the same proposal of an earlier push."""
        if self.proposed:
            commit = next((commit for commit, message in self.repo.proposals(head) if self._is_ours(message)), None)
        else:
            since = self.repo.since(start, self.branch) if looked and head != start else []
            commit = next((HubCommit(sha) for sha, message in since if self._is_ours(message)), None)
        if commit is not None:
            # The expected content of the commit depends on the head that it was made upon.
            upon = head if self.proposed else self._parent(start, commit.sha)
            self.plan = plan_push(self.repo, self.outgoing, upon, any_schema=True)
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
                raise PublishError(f"{name!r} was changed while it was sent", hint="build the dataset again, then push")
        for start in range(0, len(additions), _BATCH):
            batch: list[Any] = additions[start : start + _BATCH]
            self.repo.upload(batch, self.branch, proposed=self.proposed)
            self.log(f"sent {start + len(batch):,} of {len(additions):,} files")
        return self.repo.commit(
            additions,
            self.plan.deleted,
            message=f"prefdata push {self.tag}" if self.tag else "prefdata push",
            description=f"prefdata-digest: {self.outgoing.digest}",
            branch=self.branch,
            parent=head,
            proposed=self.proposed,
        )


def _read_back(repo: HubDataset, sha: str, plan: PushPlan) -> dict[str, int]:
    """Compares the content of the commit with the dataset; returns the rows of each split.

    Raises:
        PublishError: they differ.
    """
    remote, outgoing = repo.files(sha), plan.outgoing
    wrong = [name for name in outgoing.files() if not same_file(outgoing, name, remote.get(name))]
    wrong += [name for name in plan.deleted if name in remote]
    tables, rows = outgoing.tables(), {}
    for split, names in by_split(tables).items():
        footers: list[tuple[int, pa.Schema]] = [repo.parquet(sha, name) for name in names if name not in wrong]
        expected = [tables[name] for name in names if name not in wrong]
        if [count for count, _ in footers] != [count for count, _ in expected] or not all(
            schema.equals(other) for (_, schema), (_, other) in zip(footers, expected, strict=True)
        ):
            wrong.append(split)
        if "/" in split:
            rows[split] = sum(count for count, _ in footers)
    if wrong:
        raise PublishError(
            f"the commit {repo.address}/commit/{sha} was made, but does not hold what was sent: {', '.join(wrong[:5])}",
            hint="push again; if this error repeats, the Hub is at fault: report it to its operator",
        )
    return rows


def _tag(repo: HubDataset, tag: str, sha: str) -> None:
    tagged_commit = repo.tag(tag)
    if tagged_commit is None:
        repo.make_tag(tag, sha)
        tagged_commit = repo.tag(tag)
    if tagged_commit != sha:
        raise PublishError(
            f"the commit {repo.address}/commit/{sha} was made, but the tag {tag!r} names another one, {tagged_commit}",
            hint="another tag: a version never changes",
        )


def _check_names(repo_id: str, tag: str | None, branch: str, create_pr: bool) -> None:
    if not _REPO.fullmatch(repo_id) or len(repo_id) > 96 or ".." in repo_id or "--" in repo_id:
        raise PublishError(
            f"{repo_id!r} is not a valid dataset name",
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


def _bytes(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()
