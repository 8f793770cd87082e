"""`commits_behind`: where a commit lies in the history of the branch or tag that it is claimed to be of."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from prefdata.errors import InputError, ModelError
from prefdata.hub._client import Kind, client, translated_errors, with_retries

__all__ = ["commits_behind"]

_HEX = re.compile(r"[0-9a-f]{6,40}")


def commits_behind(kind: Kind, repo: str, revision: str, sha: str) -> int:
    """Counts how many commits of a branch or tag are newer than one of its commits.

    Anybody can open a pull request, whose commits the Hub serves like all others: a commit alone proves nothing.

    Args:
        kind: type of the repository.
        repo: its name.
        revision: the branch or tag; of a (shortened) commit SHA any branch or tag may hold the commit.
        sha: the full commit SHA.

    Raises:
        UserError: the commit is not in that history, or the repository can't be read.
    """
    api = client().HfApi()
    with translated_errors(kind, repo, revision):
        if not _HEX.fullmatch(revision):
            return _place(api, kind, repo, [revision], sha)
        refs = with_retries(lambda: api.list_repo_refs(repo, repo_type=kind))
        names = [ref.name for ref in (*refs.branches, *refs.tags)]
        _place(api, kind, repo, sorted(names, key=lambda name: name != "main"), sha)
        return 0


def _place(api: Any, kind: Kind, repo: str, revisions: list[str], sha: str) -> int:
    for revision in revisions:
        commits = with_retries(partial(api.list_repo_commits, repo, repo_type=kind, revision=revision))
        for place, commit in enumerate(commits):
            if commit.commit_id == sha:
                return place
    where = "a branch or tag" if len(revisions) != 1 else repr(revisions[0])
    own = InputError if kind == "dataset" else ModelError
    raise own(
        f"the commit {sha[:12]} is not in the history of {where} of the {kind} {repo!r}: whoever pinned it may have "
        "taken it from a pull request, which anybody can open",
        valid="a commit of that branch or tag",
        hint="don't use it; ask its author for a commit of that branch",
    )
