"""Checks the card of a dataset before `datasets` follows it: it may name files of its own repository only.

`datasets` opens whatever a card names: absolute paths of this machine, addresses, and chains such as
`zip://name::/home/me/file.zip`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from prefdata.errors import InputError

__all__ = ["CARDS", "MOST_CARD", "check_card", "check_features", "leads_outside", "read_header"]

CARDS = ("README.md", ".huggingface.yaml")
"""Files of a repository in which `datasets` looks for the names of data files. The keys of the later one are above
those of the earlier one."""
MOST_CARD = 4 << 20
"""Most characters of a card."""
_OUTSIDE = re.compile(r"[/~\\]|.*(://|::|\\)|[A-Za-z]:|(.*/)?\.\.(/.*)?$", re.DOTALL)


def check_card(api: Any, repo: str, text: str, name: str = "README.md") -> None:
    """Checks that a card names files of its own repository only.

    Args:
        api: the package `huggingface_hub`.
        repo: the dataset's repository.
        text: the content of the file, its line ends as they are.
        name: one of `CARDS`.

    Raises:
        InputError: it names something else, or is not a card.
    """
    for path in _named(read_header(api, f"the dataset {repo!r}", text, name).get("configs")):
        if leads_outside(path):
            raise InputError(
                f"the dataset {repo!r} names a data file outside its repository: {path[:200]!r}",
                valid="paths within the repository",
                hint="don't use this dataset: reading it would open files of this machine, or addresses of its choice",
            )


def read_header(api: Any, what: str, text: str, name: str) -> Mapping[str, Any]:
    """Parses the header of a card.

    Args:
        api: the package `huggingface_hub`.
        what: the dataset, for messages.
        text: the content of the file, its line ends as they are.
        name: one of `CARDS`.

    Raises:
        InputError: it is too long, or not a card.
    """
    if len(text) > MOST_CARD:
        raise InputError(f"{name} of {what} is too long", valid=f"at most {MOST_CARD:,} characters")
    import yaml

    try:
        # Each file by the parser that `datasets` reads it with: two that disagree would let a path through.
        header = api.DatasetCard(text).data.to_dict() if name == "README.md" else yaml.safe_load(text) or {}
    except Exception as error:  # noqa: BLE001 - the parser raises whatever a stranger's YAML makes it raise
        raise InputError(f"{name} of {what} has no readable header ({type(error).__name__})") from None
    if not isinstance(header, Mapping):
        raise InputError(f"{name} of {what} is not a mapping")
    return header


def leads_outside(path: str) -> bool:
    """Checks whether the name of a data file leads out of its repository."""
    return _OUTSIDE.match(path) is not None


def check_features(repo: str, features: Mapping[str, Any]) -> None:
    """Checks that no column holds names of files, which `datasets` would open.

    Raises:
        InputError: one does.
    """
    for column, feature in features.items():
        if any(hasattr(inner, "decode_example") and not _is_text(inner) for inner in _inner(feature)):
            raise InputError(
                f"the column {column!r} of the dataset {repo!r} holds files ({type(feature).__name__})",
                valid="columns of texts, numbers, lists and objects",
            )


def _named(configs: object) -> Iterator[str]:
    """Yields every text below `data_files` and `data_dir` of the configurations, whatever their form."""
    seen: set[int] = set()
    for config in configs if isinstance(configs, list) else [configs]:
        if isinstance(config, Mapping):
            for key in ("data_files", "data_dir"):
                yield from _texts(config.get(key), seen)


def _texts(value: object, seen: set[int]) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
        # YAML's aliases make one list part of itself, or of a million others.
        seen.add(id(value))
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item, seen)


def _inner(feature: Any) -> Iterator[Any]:
    yield feature
    if isinstance(feature, Mapping):
        children = list(feature.values())
    elif isinstance(feature, list | tuple):
        children = list(feature)
    else:
        children = [feature.feature] if hasattr(feature, "feature") else []
    for child in children:
        yield from _inner(child)


def _is_text(feature: Any) -> bool:
    """Tells whether a feature only encodes values, as translations and class labels do."""
    return type(feature).__name__ in ("Translation", "TranslationVariableLanguages", "ClassLabel", "Value", "Json")
