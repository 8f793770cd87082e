"""`check_view`: refuses a push after which `load_dataset` would no longer give what it gave of others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from prefdata.errors import PublishError
from prefdata.hub import ShownFiles, leads_outside, shown_files
from prefdata.publish.card.text import card_header
from prefdata.publish.manifest import MANIFEST, NOTICES
from prefdata.publish.outgoing import CARD, Outgoing
from prefdata.spec import JSON

__all__ = ["STANDALONE", "check_view"]

STANDALONE = ".huggingface.yaml"
"""A file whose keys `datasets` puts above those of the card."""
_HINT = (
    "choose another repository or branch; or give that data a configuration of its own, of another name, under "
    "`configs` on the dataset's page: it is kept beside ours"
)


def check_view(
    repo: str, cards: Mapping[str, str], names: Collection[str], ours: Collection[str], outgoing: Outgoing
) -> list[str]:
    """Compares what `load_dataset` reads before and after a push.

    Args:
        repo: the dataset.
        cards: name → text of the card and of `STANDALONE`, where they are there.
        names: all files that are there.
        ours: those that an earlier push wrote.
        outgoing: the dataset, with the card as it would be published.

    Returns:
        What changes for readers and takes nothing from view, a line each.

    Raises:
        PublishError: data of others would no longer be shown, or be mixed with ours, or hide ours.
    """
    foreign = [name for name in names if name not in ours and not _is_no_data(name)]
    if not foreign and STANDALONE not in cards and not _shows_elsewhere(cards):
        return []
    before = shown_files([*foreign, *(name for name in names if name in ours)], cards, f"the dataset {repo!r}")
    kept = [name for name in names if name not in ours]
    after = shown_files(
        [name for name in {*kept, *outgoing.entries} if not _is_no_data(name)],
        {**cards, CARD: outgoing.card},
        f"the dataset {repo!r}",
    )
    lost = list(_lost(before, after, ours))
    if lost:
        raise PublishError(
            f"the dataset {repo!r} shows data that prefdata did not write, and this push would take it from view:\n"
            + "\n".join(f"    {line}" for line in lost),
            valid="a new repository or branch, or one that prefdata has published to",
            hint=_HINT,
        )
    hidden = list(_hidden(after, outgoing))
    if hidden:
        raise PublishError(
            f"the dataset {repo!r} would not show what is published:\n" + "\n".join(f"    {line}" for line in hidden),
            hint=f"remove {STANDALONE} or its `configs` there, or choose another repository",
        )
    return _changed_default(repo, cards, before, after, ours)


def _is_no_data(name: str) -> bool:
    # `datasets` reads Markdown and TOML as tasks of agents. Whether a picture is data depends on what else is there.
    return name == MANIFEST or name.endswith((".md", ".toml")) or NOTICES.fullmatch(name) is not None


def _shows_elsewhere(cards: Mapping[str, str]) -> bool:
    """Checks whether a card names data that is in no file of its repository."""
    header = card_header(cards[CARD]) if CARD in cards else None
    configs = header.get("configs") if isinstance(header, dict) else None
    return any(leads_outside(text) for text in _texts(configs))


def _texts(value: JSON) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _lost(before: ShownFiles, after: ShownFiles, ours: Collection[str]) -> Iterator[str]:
    for config, splits in before.configs.items():
        for split, files in splits.items():
            theirs = [name for name in files if name not in ours]
            shown = after.configs.get(config, {}).get(split, ())
            # Where both were read together already, only theirs must stay.
            same = set(theirs) <= set(shown) if len(theirs) < len(files) else set(theirs) == set(shown)
            if theirs and not (same and before.format == after.format):
                more = f" and {len(theirs) - 1:,} more" if len(theirs) > 1 else ""
                why = f" ({before.format}; all of a repository is read as one format, ours is {after.format})"
                yield f"configuration {config!r}, split {split!r}: {theirs[0]}{more}{why if same else ''}"


def _hidden(after: ShownFiles, outgoing: Outgoing) -> Iterator[str]:
    for config in card_header(outgoing.folder_card)["configs"]:
        for item in config["data_files"]:
            shown = after.configs.get(config["config_name"], {}).get(item["split"], ())
            if not shown or not set(shown) <= set(outgoing.entries):
                yield f"configuration {config['config_name']!r}, split {item['split']!r}: {item['path']}"


def _changed_default(
    repo: str, cards: Mapping[str, str], before: ShownFiles, after: ShownFiles, ours: Collection[str]
) -> list[str]:
    """Says what is read without a name from now on.

    Raises:
        PublishError: somebody has stated another default.
    """
    name = before.default
    files = [file for split in before.configs.get(name or "", {}).values() for file in split]
    if name is None or name == after.default or all(file in ours for file in files):
        return []
    header = card_header(cards.get(CARD, ""))
    configs = header.get("configs") if isinstance(header, dict) else None
    for config in configs if isinstance(configs, list) else []:
        if isinstance(config, dict) and config.get("config_name") == name and config.get("default"):
            raise PublishError(
                f"the dataset {repo!r} states that {name!r} is its default configuration, and prefdata's would "
                "take its place",
                valid="a repository without another default configuration",
                hint="choose another repository or branch, or remove `default: true` from the card on its page",
            )
    return [f"load_dataset({repo!r}) gave the configuration {name!r}; from now on that is read by its name"]
