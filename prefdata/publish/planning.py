"""`make_plan`: what must change at a commit of the Hub so that it holds a dataset, and whether it may."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefdata.errors import PublishError
from prefdata.hub import HubDataset, HubFile
from prefdata.publish.card.lint import lint_card
from prefdata.publish.card.merge import merge_card
from prefdata.publish.manifest import MANIFEST
from prefdata.publish.outgoing import CARD, Outgoing, git_digest, is_name
from prefdata.spec import JSON

__all__ = ["Plan", "by_split", "make_plan", "refuse_problems", "same_file"]

_CARD_BYTES = 8 << 20
_MANIFEST_BYTES = 64 << 20


@dataclass(frozen=True)
class Plan:
    """What makes the dataset of a commit ours."""

    outgoing: Outgoing
    """With the card that goes there."""
    changed: Mapping[str, Path | bytes]
    """Name → content of what is not there, or is there with another content."""
    deleted: Sequence[str]
    """Files of an earlier push that the dataset has no more."""
    kept: Mapping[str, JSON]
    """Keys of the card's header that somebody has edited, and which stay."""

    @property
    def empty(self) -> bool:
        """Whether the commit holds the dataset already."""
        return not self.changed and not self.deleted


def make_plan(repo: HubDataset, outgoing: Outgoing, head: str, *, any_schema: bool) -> Plan:
    """What must change at a commit so that it holds the dataset.

    Raises:
        PublishError: files of somebody else stand in the way, the schema differs, or the card can't be merged.
    """
    there = repo.files(head)
    listed = _listed(repo, head, there)
    foreign = sorted(name for name in there if name not in listed and _in_the_way(name, outgoing))
    if foreign:
        raise PublishError(
            f"the dataset {repo.repo!r} holds files that prefdata did not write: {', '.join(foreign[:5])}",
            valid="a new repository or branch, or one that prefdata has published to",
            hint="choose another repository, or delete these files there",
        )
    if not any_schema:
        changes = _schema_changes(repo, head, outgoing, [name for name in listed if name in there])
        if changes:
            raise PublishError(
                f"the dataset {repo.repo!r} has another schema:\n" + "\n".join(f"    {line}" for line in changes),
                hint="--allow-schema-change publishes it all the same",
            )
    kept: Mapping[str, JSON] = {}
    if CARD in there:
        merged = merge_card(outgoing.card, _their_card(repo, head, there[CARD].size))
        outgoing, kept = outgoing.with_card(merged.text), merged.kept
        refuse_problems(merged.text)
    files = outgoing.files()
    changed = {name: file for name, file in files.items() if not same_file(outgoing, name, there.get(name))}
    deleted = sorted(name for name in listed if name in there and name not in files)
    return Plan(outgoing, changed, deleted, kept)


def _their_card(repo: HubDataset, head: str, size: int) -> str:
    # A card that is read in part, or with letters replaced, would not keep its prose.
    if size <= _CARD_BYTES:
        try:
            return repo.read(head, CARD, _CARD_BYTES).decode()
        except UnicodeDecodeError:
            pass
    raise PublishError(
        f"the card of {repo.repo!r} is larger than {_CARD_BYTES >> 20} MB or no UTF-8, so its prose can't be kept",
        hint=f"mend or delete {CARD} on its page",
    )


def _listed(repo: HubDataset, head: str, there: Mapping[str, HubFile]) -> set[str]:
    """The files that an earlier push of ours wrote."""
    if MANIFEST not in there:
        return set()
    try:
        files = json.loads(repo.read(head, MANIFEST, _MANIFEST_BYTES))["files"]
        return {MANIFEST, *(name for name in files if is_name(name))}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {MANIFEST}


def _in_the_way(name: str, outgoing: Outgoing) -> bool:
    """Whether writing would replace a file, or `load_dataset` would read it with ours."""
    if name in (CARD, MANIFEST):
        return False
    folder, _, file = name.rpartition("/")
    splits = {
        entry.rpartition("/")[2].partition("-")[0] for entry in outgoing.entries if entry.startswith(f"{folder}/")
    }
    return name in outgoing.entries or (bool(folder) and file.endswith(".parquet") and file.partition("-")[0] in splits)


def same_file(outgoing: Outgoing, name: str, remote: HubFile | None) -> bool:
    """Whether the Hub has a file as it is to be published."""
    if remote is None:
        return False
    if remote.large:
        return remote.digest == outgoing.sha256(name)
    return remote.digest == git_digest(outgoing.content(name))


def by_split(names: Iterable[str]) -> dict[str, list[str]]:
    """`data/train` → its files."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        if name.endswith(".parquet"):
            folder, _, file = name.rpartition("/")
            found[f"{folder}/{file.partition('-')[0]}" if folder else file.removesuffix(".parquet")].append(name)
    return found


def _schema_changes(repo: HubDataset, head: str, outgoing: Outgoing, listed: Sequence[str]) -> list[str]:
    """What a reader of the published columns and splits would miss or find changed; a line each."""
    tables = outgoing.tables()
    ours, theirs = (
        {split: files for split, files in by_split(names).items() if "/" in split} for names in (tables, listed)
    )
    lines = [f"{split}: gone" for split in theirs if split not in ours]
    if theirs:
        lines += [f"{split}: new" for split in ours if split not in theirs]
    for split in sorted(ours.keys() & theirs.keys()):
        now = {column.name: column.type for column in tables[ours[split][0]][1]}
        before = {column.name: column.type for column in repo.parquet(head, theirs[split][0])[1]}
        for name in dict.fromkeys([*before, *now]):
            if before.get(name) != now.get(name):
                lines.append(f"{split}: {name}: {before.get(name, '-')} → {now.get(name, '-')}")
    return lines


def refuse_problems(card: str) -> None:
    """Refuses a card whose header would not be understood.

    Raises:
        PublishError: it has problems, each told in a line.
    """
    problems = lint_card(card)
    if problems:
        raise PublishError(
            "the card's header would not be understood:\n" + "\n".join(f"    {problem}" for problem in problems),
            hint="mend the recipe's `publish` and build again, or the card on its page",
        )
