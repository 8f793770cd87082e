"""`shown_files`: which files `load_dataset` reads for each configuration and split, by the rules of `datasets` itself.

The rules see a list of names, never a disk or an address, so a hostile card reaches nothing.
"""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from prefdata.errors import InputError, MissingExtraError, first_line
from prefdata.hub._client import client
from prefdata.hub.cards import CARDS, leads_outside, read_header

__all__ = ["ShownFiles", "shown_files"]

_SCHEME = "prefdata-names"
_OWN_TABLES = re.compile(r"(?:candidates|comparisons|trace)/[^/]+|drops(?:_candidates)?\.parquet|splits\.parquet")
"""Tables of a dataset folder of ours that are not its pairs; only where its card is lost they look like shards."""
_PARTS = re.compile(r"[-._ 0-9]+")
"""What may stand around a split in a name."""
_MOST_PATTERNS = 2_000
"""Most patterns of one card."""
_MOST_WILDCARDS = 6
"""Most wildcards in a part of a pattern: the time of a match grows with a power of their number."""


@dataclass(frozen=True, slots=True)
class ShownFiles:
    """What `load_dataset` shows of a folder or a repository."""

    configs: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Configuration → split → names of its files, in order. A pattern that leads outside is listed as it is."""
    default: str | None
    """The configuration that is read without a name; None where one must be named."""
    format: str | None
    """The format in which `load_dataset` reads every file: that of its first configuration."""


def shown_files(names: Sequence[str], cards: Mapping[str, str], what: str) -> ShownFiles:
    """Resolves data files as `datasets` does: by the card's `configs`, else by names of folders and files.

    One difference: without a card, files of one split in several folders (`en/train.parquet`, `fr/train.parquet`, or
    `CONFIG/SPLIT/0000.parquet` of an export) are several configurations. `datasets` would mix their rows.

    Args:
        names: paths of all files, relative to the folder.
        cards: name → text of those of `prefdata.hub.cards.CARDS` that are there, in any order: a later one of `CARDS`
            is above an earlier one.
        what: the folder or repository, for messages.

    Raises:
        InputError: the card can't be read, or its patterns are too many or too complex.
        MissingExtraError: `datasets` is not installed.
    """
    rules = _rules()
    header: dict[str, Any] = {}
    for name in CARDS:
        if name in cards:
            header.update(read_header(client(), what, cards[name], name))
    configs = _card_configs(rules, header, what)
    ours = any(name in ("ledger.json", "prefdata.manifest.json") for name in names)
    seen = [name for name in names if configs or not (ours and _OWN_TABLES.fullmatch(name))]
    with _listed(seen) as base:
        if configs:
            found = {str(name): _of_config(rules, base, config, what) for name, config in configs.items()}
            first = next(iter(configs))
            files = found[str(first)] if "data_files" in configs[first] else _inferred(rules, base)
            return ShownFiles(found, _default(configs), _format(rules, files))
        splits = _inferred(rules, base)
        found = _by_folders(rules, splits)
        return ShownFiles(found, "default" if "default" in found else None, _format(rules, splits))


@functools.cache
def _rules() -> Any:
    client()
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError.of("a folder or repository of tables", "datasets", "hub") from error
    from types import SimpleNamespace

    from datasets.data_files import SPLIT_KEYWORDS, EmptyDatasetError, get_data_patterns, resolve_pattern
    from datasets.load import infer_module_for_data_files_list
    from datasets.packaged_modules import _EXTENSION_TO_MODULE, _MODULE_TO_EXTENSIONS
    from datasets.utils.metadata import MetadataConfigs

    assert datasets
    return SimpleNamespace(
        SPLIT_KEYWORDS={str(split): tuple(words) for split, words in SPLIT_KEYWORDS.items()},
        EmptyDatasetError=EmptyDatasetError,
        get_data_patterns=get_data_patterns,
        resolve_pattern=resolve_pattern,
        infer_module=infer_module_for_data_files_list,
        extensions=[*_EXTENSION_TO_MODULE, ".zip"],
        extensions_of=_MODULE_TO_EXTENSIONS,
        MetadataConfigs=MetadataConfigs,
    )


def _card_configs(rules: Any, header: Mapping[str, Any], what: str) -> Any:
    try:
        return rules.MetadataConfigs.from_dataset_card_data(header)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        first = first_line(error)
        raise InputError(
            f"{what}: the `configs` of its card are not valid: {first[:300]}",
            valid="a list of configurations, each with config_name and data_files",
            hint="fix its README.md",
        ) from None


def _default(configs: Any) -> str | None:
    try:
        name = configs.get_default_config_name()
    except ValueError:
        # Several claim to be it.
        return None
    return None if name is None else str(name)


def _of_config(rules: Any, base: str, config: Mapping[str, Any], what: str) -> dict[str, tuple[str, ...]]:
    folder, files = config.get("data_dir"), config.get("data_files")
    if isinstance(folder, str) and leads_outside(folder):
        return {"train": (folder,)}
    here = f"{base}/{folder.strip('/')}" if isinstance(folder, str) and folder.strip("/.") else base
    if files is None:
        return _inferred(rules, here)
    patterns = {str(split): _as_texts(given) for split, given in _by_split(files)}
    _check_patterns([pattern for given in patterns.values() for pattern in given], what)
    return {split: _resolved(rules, here, given, rules.extensions) for split, given in patterns.items()}


def _by_split(files: Any) -> Iterator[tuple[str, Any]]:
    """Yields split and patterns of `data_files`, which `datasets` has checked."""
    if isinstance(files, list) and any(isinstance(item, Mapping) for item in files):
        yield from ((item["split"], item["path"]) for item in files if isinstance(item, Mapping))
    else:
        yield "train", files


def _as_texts(given: Any) -> list[str]:
    return [str(pattern) for pattern in given] if isinstance(given, list) else [str(given)]


def _check_patterns(patterns: Sequence[str], what: str) -> None:
    if len(patterns) > _MOST_PATTERNS:
        raise InputError(f"the card of {what} has too many patterns", valid=f"at most {_MOST_PATTERNS:,}")
    for pattern in patterns:
        if any(len(re.findall(r"\*+|\?|\[", part)) > _MOST_WILDCARDS for part in pattern.split("/")):
            raise InputError(
                f"the card of {what} has a pattern with too many wildcards: {pattern[:200]!r}",
                valid=f"at most {_MOST_WILDCARDS} between two slashes",
            )


def _resolved(rules: Any, base: str, patterns: Sequence[str], extensions: Sequence[str]) -> tuple[str, ...]:
    files: dict[str, None] = {}
    for pattern in patterns:
        if leads_outside(pattern):
            files[pattern] = None
            continue
        try:
            matched = rules.resolve_pattern(pattern, base, allowed_extensions=extensions)
        except FileNotFoundError:
            continue
        files.update(dict.fromkeys(_relative(path) for path in matched))
    return tuple(files)


def _inferred(rules: Any, base: str) -> dict[str, tuple[str, ...]]:
    """Infers splits from names, and keeps files of the format that most have, as `datasets` does."""
    try:
        patterns = rules.get_data_patterns(base)
    except (rules.EmptyDatasetError, FileNotFoundError, ValueError):
        return {}
    splits = {str(split): _resolved(rules, base, given, rules.extensions) for split, given in patterns.items()}
    splits = {split: files for split, files in splits.items() if files}
    plain = {split: tuple(name for name in files if not name.endswith(".zip")) for split, files in splits.items()}
    if not any(plain.values()):
        # Only archives: they would have to be opened to know what is inside.
        return splits
    kind = rules.infer_module(next(list(files) for files in plain.values() if files))[0]
    endings = set(rules.extensions_of.get(kind, ()))
    kept = {
        split: tuple(name for name in files if endings.intersection(_endings(name))) for split, files in plain.items()
    }
    return {split: files for split, files in kept.items() if files}


def _format(rules: Any, splits: Mapping[str, tuple[str, ...]]) -> str | None:
    """Names the format of the first files by their endings, with its options; None of archives."""
    files = next((list(files) for files in splits.values() if files), [])
    plain = [name for name in files if not name.endswith(".zip") and "::" not in name]
    if not plain:
        return None
    kind, options = rules.infer_module(plain)
    return " ".join([str(kind), *(f"{name}={value!r}" for name, value in options.items())])


def _endings(name: str) -> list[str]:
    return [f".{part}" for part in name.rpartition("/")[2].split(".")[1:]]


def _by_folders(rules: Any, splits: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Parts what stands in different folders; a folder that names a split is part of the split."""
    configs: dict[str, dict[str, list[str]]] = {}
    for split, files in splits.items():
        words = {split, *rules.SPLIT_KEYWORDS.get(split, ())}
        for name in files:
            config = _folder_before(words, name)
            configs.setdefault(config, {}).setdefault(split, []).append(name)
    if len(configs) == 1:
        configs = {"default": next(iter(configs.values()))}
    return {
        name or "(top)": {split: tuple(files) for split, files in config.items()} for name, config in configs.items()
    }


def _folder_before(words: Collection[str], name: str) -> str:
    """Returns the folders of a file up to the one that names its split."""
    before: list[str] = []
    for folder in name.split("/")[:-1]:
        if any(part in words for part in _PARTS.split(folder)):
            break
        before.append(folder)
    return "/".join(before)


def _relative(path: str) -> str:
    return path.removeprefix(f"{_SCHEME}://").partition("/")[2]


@contextmanager
def _listed(names: Sequence[str]) -> Iterator[str]:
    """Lets patterns be resolved against a list of names, and yields the address of its root."""
    system = _system()
    root = uuid.uuid4().hex
    entries = {f"{root}/{name}": {"name": f"{root}/{name}", "size": 0, "type": "file"} for name in sorted(names)}
    folders = {path.rpartition("/")[0] for path in entries}
    for folder in folders:
        while folder:
            entries.setdefault(folder, {"name": folder, "size": 0, "type": "directory"})
            folder = folder.rpartition("/")[0]
    system.entries[root] = dict(sorted(entries.items()))
    try:
        yield f"{_SCHEME}://{root}"
    finally:
        del system.entries[root]


@functools.cache
def _system() -> Any:
    """Makes the file system of names."""
    import fsspec
    from fsspec import AbstractFileSystem

    class Names(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
        """A file system that has names and nothing else."""

        protocol = _SCHEME
        cachable = False
        entries: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {}

        def find(
            self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **_: Any
        ) -> Any:
            """Lists everything, whatever the depth: patterns are matched against whole paths."""
            root = self._strip_protocol(path).partition("/")[0]
            found = {name: entry for name, entry in self.entries[root].items() if withdirs or entry["type"] == "file"}
            return found if detail else list(found)

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            """Describes one name."""
            path = self._strip_protocol(path)
            try:
                return self.entries[path.partition("/")[0]][path]
            except KeyError:
                raise FileNotFoundError(path) from None

    fsspec.register_implementation(_SCHEME, Names)
    return Names
