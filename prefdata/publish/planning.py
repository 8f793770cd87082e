"""`plan_push`: plans the changes that make a commit of the Hub hold a dataset, and refuses some."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefdata.errors import InputError, PublishError
from prefdata.hub import HubFile, HubRepo, git_digest
from prefdata.publish.card.lint import lint_card
from prefdata.publish.card.merge import merge_card
from prefdata.publish.loadable import is_model_file
from prefdata.publish.manifest import MANIFEST, MANIFEST_BYTES
from prefdata.publish.outgoing import CARD, Outgoing, is_name
from prefdata.publish.view import STANDALONE, check_view
from prefdata.spec import JSON

__all__ = ["PushPlan", "by_split", "plan_push", "refuse_problems", "same_file"]

_CARD_BYTES = 8 << 20


@dataclass(frozen=True)
class PushPlan:
    """Changes of a commit that make its content a dataset."""

    outgoing: Outgoing
    """The dataset, with the card that is published."""
    changed: Mapping[str, Path | bytes]
    """Name → content of files that the commit lacks or has with another content."""
    deleted: Sequence[str]
    """Files of an earlier push that the dataset no longer has."""
    kept: Mapping[str, JSON]
    """Edited keys of the card's header, which are kept → their values."""
    notes: Sequence[str] = ()
    """What changes for readers of what others have published there, a line each."""

    @property
    def empty(self) -> bool:
        """Whether the commit already holds the dataset."""
        return not self.changed and not self.deleted


def plan_push(repo: HubRepo, outgoing: Outgoing, head: str, *, any_schema: bool) -> PushPlan:
    """Plans the changes that make a commit hold the dataset.

    Raises:
        PublishError: other people's files are in the way, the schema differs, or the card can't be merged.
    """
    remote = repo.files(head)
    ours = _files_of_ours(repo, head, remote)
    foreign = sorted(name for name in remote if name not in ours and _would_collide(name, outgoing))
    if foreign:
        raise PublishError(
            f"the {repo.kind} {repo.repo!r} holds files that prefdata did not write: {', '.join(foreign[:5])}",
            valid="a new repository or branch, or one that prefdata has published to",
            hint="choose another repository, or delete these files there",
        )
    if not any_schema:
        changes = _schema_changes(repo, head, outgoing, [name for name in ours if name in remote])
        if changes:
            raise PublishError(
                f"the dataset {repo.repo!r} has another schema:\n" + "\n".join(f"    {line}" for line in changes),
                hint="--allow-schema-change publishes it anyway",
            )
    kept: Mapping[str, JSON] = {}
    cards = {name: _their_card(repo, head, name, remote[name]) for name in (CARD, STANDALONE) if name in remote}
    if CARD in cards:
        merged = merge_card(outgoing.card, cards[CARD])
        outgoing, kept = outgoing.with_card(merged.text), merged.kept
        refuse_problems(merged.text)
    notes: list[str] = []
    if repo.kind == "dataset":
        with _unreadable(repo):
            notes = check_view(repo.repo, cards, remote.keys(), ours, outgoing)
    files = outgoing.files()
    changed = {name: file for name, file in files.items() if not same_file(outgoing, name, remote.get(name))}
    deleted = sorted(name for name in ours if name in remote and name not in files)
    return PushPlan(outgoing, changed, deleted, kept, notes)


def _their_card(repo: HubRepo, head: str, name: str, card: HubFile) -> str:
    # A card that is read in part, or with characters replaced, would lose its prose.
    if card.size <= _CARD_BYTES:
        try:
            return repo.read(head, name, card).decode()
        except UnicodeDecodeError:
            pass
    raise PublishError(
        f"the card of {repo.repo!r} is larger than {_CARD_BYTES >> 20} MB or not UTF-8, so its prose can't be kept",
        hint=f"fix or delete {name} on its page",
    )


@contextmanager
def _unreadable(repo: HubRepo) -> Iterator[None]:
    """Refuses a repository of which it can't be said what it shows."""
    try:
        yield
    except InputError as error:
        raise PublishError(
            f"it can't be said what the dataset {repo.repo!r} shows: {error.problem}",
            valid=error.valid,
            hint="fix its card on its page, or choose another repository",
        ) from error


def _files_of_ours(repo: HubRepo, head: str, remote: Mapping[str, HubFile]) -> set[str]:
    """Lists the files that an earlier push wrote."""
    if MANIFEST not in remote:
        return set()
    if remote[MANIFEST].size > MANIFEST_BYTES:
        return {MANIFEST}
    content = repo.read(head, MANIFEST, remote[MANIFEST])
    try:
        files = json.loads(content)["files"]
        return {MANIFEST, *(name for name in files if is_name(name))}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {MANIFEST}


def _would_collide(name: str, outgoing: Outgoing) -> bool:
    """Checks whether a push would replace a file, or whoever loads the dataset or model would read it with ours."""
    if name in (CARD, MANIFEST):
        return False
    if outgoing.kind == "model":
        return name in outgoing.entries or is_model_file(name)
    folder, _, file = name.rpartition("/")
    splits = {
        entry.rpartition("/")[2].partition("-")[0] for entry in outgoing.entries if entry.startswith(f"{folder}/")
    }
    return name in outgoing.entries or (bool(folder) and file.endswith(".parquet") and file.partition("-")[0] in splits)


def same_file(outgoing: Outgoing, name: str, remote: HubFile | None) -> bool:
    """Checks whether the Hub's file has the content that is published."""
    if remote is None:
        return False
    if remote.large:
        return remote.digest == outgoing.sha256(name)
    return remote.digest == git_digest(outgoing.content(name))


def by_split(names: Iterable[str]) -> dict[str, list[str]]:
    """Groups Parquet files by split: `data/train` → its files."""
    files: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        if name.endswith(".parquet"):
            folder, _, file = name.rpartition("/")
            files[f"{folder}/{file.partition('-')[0]}" if folder else file.removesuffix(".parquet")].append(name)
    return files


def _schema_changes(repo: HubRepo, head: str, outgoing: Outgoing, published: Sequence[str]) -> list[str]:
    """Lists columns and splits that differ from the published ones, a line each."""
    tables = outgoing.tables()
    ours, theirs = (
        {split: files for split, files in by_split(names).items() if "/" in split} for names in (tables, published)
    )
    lines = [f"{split}: gone" for split in theirs if split not in ours]
    if theirs:
        lines += [f"{split}: new" for split in ours if split not in theirs]
    for split in sorted(ours.keys() & theirs.keys()):
        new = {column.name: column.type for column in tables[ours[split][0]][1]}
        old = {column.name: column.type for column in repo.parquet(head, theirs[split][0])[1]}
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                lines.append(f"{split}: {name}: {old.get(name, '-')} → {new.get(name, '-')}")
    return lines


def refuse_problems(card: str) -> None:
    """Refuses a card whose header the Hub would refuse or misread.

    Raises:
        PublishError: the header has problems; the message lists each in a line.
    """
    problems = lint_card(card)
    if problems:
        raise PublishError(
            "the Hub would refuse or misread the card's header:\n"
            + "\n".join(f"    {problem}" for problem in problems),
            hint="fix the recipe's `publish` and build again, or fix the card on its page",
        )
