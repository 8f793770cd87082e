"""`confirm`: reads a published commit back, tags it, and checks who can see it.

The commit is there, whatever fails here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefdata.errors import PublishError
from prefdata.hub import HubCommit, HubRepo
from prefdata.lazy import pa
from prefdata.publish.planning import PushPlan, by_split, same_file

__all__ = ["confirm"]


def confirm(
    repo: HubRepo, commit: HubCommit, expected: Callable[[], PushPlan], *, public: bool, tag: str | None
) -> tuple[dict[str, int], list[PublishError]]:
    """Compares a commit with what was sent, then tags it and makes it public where that was asked.

    Args:
        repo: the repository.
        commit: the commit that holds what was sent.
        expected: returns what the commit should hold.
        public: whether everybody may read it.
        tag: a version that names the commit.

    Returns:
        The rows of each split, counted on the Hub; and what could not be checked or done, none for a whole push.
    """
    rows: dict[str, int] = {}
    problems: list[PublishError] = []
    with _noted("not checked", "content", problems):
        rows = _read_back(repo, commit.sha, expected())
    if tag is not None and problems:
        problems.append(PublishError(f"not done: the tag {tag!r}"))
    elif tag is not None:
        with _noted("not done", f"the tag {tag!r}", problems):
            _tag(repo, tag, commit.sha)
    if public and problems:
        problems.append(PublishError("not done: --public; who can read it was not changed"))
        return rows, problems
    with _noted("not done" if public else "not checked", "who can read it", problems):
        _set_visibility(repo, public)
    return rows, problems


@contextmanager
def _noted(what: str, of: str, problems: list[PublishError]) -> Iterator[None]:
    try:
        yield
    except PublishError as error:
        if isinstance(error, _WrongError):
            problems.append(error)
            return
        problems.append(PublishError(f"{what}: {of}: {error.problem}", hint=_after(error.hint)))


class _WrongError(PublishError):
    """Raised when something was checked and is not as it should be."""


def _read_back(repo: HubRepo, sha: str, plan: PushPlan) -> dict[str, int]:
    """Compares the content of the commit with what was sent; returns the rows of each split of a dataset."""
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
        raise _WrongError(
            f"wrong: this commit does not hold what was sent: {', '.join(wrong[:5])}",
            hint="push again; if this error repeats, the Hub is at fault: report it to its operator",
        )
    return rows


def _tag(repo: HubRepo, tag: str, sha: str) -> None:
    tagged_commit = repo.tag(tag)
    if tagged_commit is None:
        repo.make_tag(tag, sha)
        tagged_commit = repo.tag(tag)
    if tagged_commit != sha:
        raise _WrongError(
            f"wrong: the tag {tag!r} names another commit, {tagged_commit}",
            hint="another tag: a version never changes",
        )


def _set_visibility(repo: HubRepo, public: bool) -> None:
    """Makes a repository public that was asked to be; finds one that was made public during the push."""
    private = repo.is_private()
    if public and private:
        repo.make_public()
        if repo.is_private():
            raise _WrongError("wrong: it is still private", hint=_after(None))
    elif not public and not private:
        raise _WrongError(
            "wrong: everybody can read it: the repository was made public while this push ran",
            hint=f"make it private: {repo.address}/settings",
        )


def _after(hint: str | None) -> str:
    again = "run the same command again: it checks this commit, and makes no second one"
    return again if hint is None or "same command" in hint else f"{hint}; then {again}"
