"""`push`: a dataset folder becomes one commit of a dataset on the Hub, or nothing changes there.

Large files are sent first; no reader sees them before the one commit names them. The commit is made upon the head that
was read, so that nobody's commit in between is overwritten unseen. Its description names the dataset by its digest: a
commit whose answer was lost is recognised.
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
from prefdata.publish.planning import Plan, by_split, make_plan, refuse_problems, same_file
from prefdata.spec import JSON

__all__ = ["Pushed", "push"]

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REF = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*", re.ASCII)
_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between tries, each more or less by a third so that two pushers don't meet again."""
_BATCH = 20
"""Files sent at a time."""


@dataclass(frozen=True)
class Pushed:
    """A dataset that is on the Hub, read again and found equal."""

    repo: str
    commit: str
    """SHA of the commit that holds it."""
    url: str
    """Where that commit is shown."""
    new: bool
    """Whether this push made the commit; not when the same dataset was there already."""
    rows: Mapping[str, int]
    """Folder and split (`data/train`) → rows, counted on the Hub."""
    tag: str | None = None
    pull_request: str | None = None
    """Ref of the pull request, where the commit is a proposal."""
    kept: Mapping[str, JSON] = field(default_factory=dict)
    """Keys of the card's header that somebody has edited there, and which stay → what they say."""


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

    The token comes from where the Hub's client keeps it (`hf auth login`, `HF_TOKEN`).

    Args:
        folder: a build folder or a dataset folder.
        repo_id: `owner/name`; made where there is none.
        public: everybody may read the repository; otherwise it is private, and a public one is refused.
        tag: a version that names the commit.
        branch: the branch that gets the commit; made from `main` where there is none.
        create_pr: propose the commit as a pull request.
        allow_schema_change: publish also where columns, types or splits differ from what is there.
        log: takes one line at a time for the person who watches.

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
                f"{name!r} holds the token of the Hub that is in use", hint="take it out of the recipe and build again"
            )
    if not repo.create() and not public and not repo.is_private():
        raise PublishError(
            f"the dataset {repo_id!r} is public, and without --public nothing is shown to everybody",
            hint="--public, or another repository",
        )
    if branch != "main" and repo.head(branch) is None:
        repo.make_branch(branch)
    sending = _Sending(repo, outgoing, branch, create_pr, allow_schema_change, tag, log)
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
class _Sending:
    repo: HubDataset
    outgoing: Outgoing
    branch: str
    proposed: bool
    any_schema: bool
    tag: str | None
    log: Callable[[str], None]
    plan: Plan = field(init=False)

    def run(self) -> tuple[HubCommit, bool]:
        """The commit that holds the dataset, and whether it was made here."""
        first, why, lost = self._head(), "", False
        tagged = None if self.tag is None else self.repo.tag(self.tag)
        for number, pause in enumerate((*_WAITS, None)):
            head, made = self._look(first, looked=number > 0, lost=lost)
            if made is not None:
                return made, lost
            self.plan = make_plan(self.repo, self.outgoing, head, any_schema=self.any_schema)
            if tagged is not None and not (self.plan.empty and tagged == head):
                raise PublishError(
                    f"the tag {self.tag!r} of {self.repo.repo!r} names the commit {tagged} already",
                    hint="another tag: a version never changes",
                )
            if self.plan.empty:
                self.log(f"the same dataset is there already, at {head}")
                return HubCommit(head), False
            try:
                return self._commit(head), True
            except UndecidedError as error:
                why, lost = str(error), lost or not error.refused
                if pause is None:
                    break
                wait = pause if error.wait is None else error.wait
                self.log(f"{why}; trying again in {wait:.0f} s")
                time.sleep(wait * random.uniform(0.67, 1.33) if error.wait is None else wait)
        _, made = self._look(first, looked=True, lost=lost)
        if made is not None:
            return made, lost
        raise PublishError(
            f"the dataset {self.repo.repo!r} could not be given a commit in {len(_WAITS) + 1} tries: {why}. "
            "Nothing has changed there",
            hint="run the same command again in some minutes: files that were sent are not sent again",
        )

    def _look(self, first: str, *, looked: bool, lost: bool) -> tuple[str, HubCommit | None]:
        """The head, and our own commit where it is there already."""
        try:
            head = self._head() if looked else first
            return head, self._found(first, head, looked=looked)
        except PublishError as error:
            if not lost:
                raise
            raise PublishError(
                f"the answer to the commit was lost, and whether {self.repo.repo!r} has it can't be found out: "
                f"{error.problem}",
                hint="run the same command again: it looks for its commit first",
            ) from None

    def _head(self) -> str:
        head = self.repo.head(self.branch)
        if head is None:
            raise PublishError(f"the dataset {self.repo.repo!r} has no branch {self.branch!r}")
        return head

    def _found(self, first: str, head: str, *, looked: bool) -> HubCommit | None:
        """Our own commit, where an answer was lost; or the same proposal of an earlier push."""
        if self.proposed:
            made = next((made for made, message in self.repo.proposals(head) if self._is_ours(message)), None)
        else:
            since = self.repo.since(first, self.branch) if looked and head != first else []
            made = next((HubCommit(sha) for sha, message in since if self._is_ours(message)), None)
        if made is not None:
            # What the commit should hold follows from the head that it was made upon.
            upon = head if self.proposed else self._parent(first, made.sha)
            self.plan = make_plan(self.repo, self.outgoing, upon, any_schema=True)
        return made

    def _parent(self, first: str, sha: str) -> str:
        commits = [commit for commit, _ in self.repo.since(first, self.branch)]
        return [*commits, first][commits.index(sha) + 1]

    def _is_ours(self, message: str) -> bool:
        return f"prefdata-digest: {self.outgoing.digest}" in message

    def _commit(self, head: str) -> HubCommit:
        # The client keeps in each addition what the branch held when it was asked: a new head needs new ones.
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


def _read_back(repo: HubDataset, sha: str, plan: Plan) -> dict[str, int]:
    """Compares what the commit holds with what was to be published; rows of each split.

    Raises:
        PublishError: they differ.
    """
    there, outgoing = repo.files(sha), plan.outgoing
    wrong = [name for name in outgoing.files() if not same_file(outgoing, name, there.get(name))]
    wrong += [name for name in plan.deleted if name in there]
    tables, rows = outgoing.tables(), {}
    for split, names in by_split(tables).items():
        found: list[tuple[int, pa.Schema]] = [repo.parquet(sha, name) for name in names if name not in wrong]
        expected = [tables[name] for name in names if name not in wrong]
        if [count for count, _ in found] != [count for count, _ in expected] or not all(
            schema.equals(other) for (_, schema), (_, other) in zip(found, expected, strict=True)
        ):
            wrong.append(split)
        if "/" in split:
            rows[split] = sum(count for count, _ in found)
    if wrong:
        raise PublishError(
            f"the commit {repo.address}/commit/{sha} was made, but does not hold what was sent: {', '.join(wrong[:5])}",
            hint="push again; if it stays so, the Hub is at fault: tell its operator",
        )
    return rows


def _tag(repo: HubDataset, tag: str, sha: str) -> None:
    at = repo.tag(tag)
    if at is None:
        repo.make_tag(tag, sha)
        at = repo.tag(tag)
    if at != sha:
        raise PublishError(
            f"the commit {repo.address}/commit/{sha} was made, but the tag {tag!r} names another one, {at}",
            hint="another tag: a version never changes",
        )


def _check_names(repo_id: str, tag: str | None, branch: str, create_pr: bool) -> None:
    if not _REPO.fullmatch(repo_id) or len(repo_id) > 96 or ".." in repo_id or "--" in repo_id:
        raise PublishError(
            f"{repo_id!r} is no dataset's name",
            valid="owner/name of letters, digits, dots, dashes and underscores, at most 96 of them",
        )
    for what, name in (("tag", tag), ("branch", branch)):
        if name is not None and (not _REF.fullmatch(name) or ".." in name or name.endswith((".lock", "."))):
            raise PublishError(f"{name!r} is no {what}'s name", valid="letters, digits, dots, dashes and underscores")
    if tag is not None and create_pr:
        raise PublishError(
            "a proposal has no version: --tag stands beside --create-pr", hint="tag it when it is merged"
        )


def _bytes(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()
