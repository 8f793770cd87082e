"""Writes the card of a dataset: `README.md` with the YAML header that the Hub and `load_dataset` read.

It shows no row of the data. Texts of a recipe and names from the data are escaped, so that they can change neither the
rendering of the card nor its header.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from prefdata.publish.card.blocks import NOTICE, block, header_note, inline, prose
from prefdata.publish.card.citations import citations
from prefdata.publish.card.licence import Licence, derive_licence
from prefdata.publish.card.pictures import FLOW, MARGINS, picture_words
from prefdata.publish.card.statistics import FileStats
from prefdata.publish.spec import Publish
from prefdata.spec import JSON

__all__ = ["CardFacts", "card_configs", "card_header", "card_text", "header_text", "ledger_table", "size_category"]

_SIZES = (
    *(("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7)),
    *(("10M<n<100M", 10**8), ("100M<n<1B", 10**9), ("1B<n<10B", 10**10), ("10B<n<100B", 10**11), ("100B<n<1T", 10**12)),
)


@dataclass(frozen=True)
class CardFacts:
    """Facts about a build, in words."""

    name: str
    description: str
    publish: Publish
    steps: Mapping[str, str]
    """Stage → description of how it was done."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Name of what is pinned → its fingerprint."""
    command: str = ""
    """The command that rebuilds this dataset."""


def size_category(rows: int) -> str:
    """Returns the Hub's size category of a number of rows."""
    return next((name for name, bound in _SIZES if rows < bound), "n>1T")


def card_text(
    facts: CardFacts,
    ledger: JSON,
    split_rows: Mapping[str, int],
    *,
    answers: bool = False,
    comparisons: bool = False,
    trace: bool = False,
    also: Mapping[str, Iterable[str]] | None = None,
    audit: JSON | None = None,
    scoring: JSON | None = None,
    recipe: Mapping[str, JSON] | None = None,
    kept: Sequence[str] = (),
    stats: FileStats | None = None,
    pictures: Collection[str] = (),
) -> str:
    """Writes the whole card, each section between marks that separate it from text of other people.

    Args:
        facts: facts about the build.
        ledger: counts of every stage.
        split_rows: rows of each split of the pairs.
        answers: whether the dataset has the configuration `candidates`, with every answer.
        comparisons: whether it has the configuration `comparisons`, with those of a pairwise scorer.
        trace: whether it has the configuration `trace`, with the trace of every pair.
        also: the pairs in further layouts, kind → splits.
        audit: biases and limits, the content of `audit.json`.
        scoring: numbers over all prompts, the content of `scoring.json`.
        recipe: the recipe as JSON; licence and citations are derived from it.
        kept: columns of the input that travel along.
        stats: statistics of the written files.
        pictures: names of the pictures beside the card; see `prefdata.publish.card.pictures`.
    """
    licence = None if recipe is None else derive_licence(recipe)
    configs = card_configs(split_rows, answers=answers, comparisons=comparisons, trace=trace, also=also)
    header = _header(facts, sum(split_rows.values()), configs, licence, stats)
    sections = {
        "about": f"# {inline(facts.publish.title or facts.name)}\n\n{prose(facts.description)}".strip(),
        "load": f"## How to load\n\n{_how_to_load(split_rows, configs, _layout(recipe))}{_kept(kept)}",
        "made": "## How it was made\n\n"
        + "\n".join(f"- **{inline(stage)}**: {inline(words, 2_000)}" for stage, words in facts.steps.items()),
        "statistics": _statistics(stats, pictures),
        "rows": f"## What became of every row\n\n{_flow(ledger, pictures)}{ledger_table(ledger)}\n\n{_drops(ledger)}",
        "scoring": f"## Scores over all prompts\n\n{_scoring_table(scoring)}" if scoring else "",
        "audit": f"## Audit\n\n{_audit_table(audit)}" if audit else "",
        "provenance": f"## Provenance\n\n{_provenance(facts)}\n\n{header_note(_header_to_note(header))}",
        "limitations": f"## Limitations\n\n{prose(facts.publish.limitations)}" if facts.publish.limitations else "",
        "licence": f"## Licence\n\n{_licence(facts.publish, licence)}",
        "citation": _citation(recipe),
    }
    blocks = [block(name, text) for name, text in sections.items() if text]
    return header_text(header) + "\n" + "\n\n".join([NOTICE, *blocks]) + "\n"


class _Dumper(yaml.SafeDumper):
    """Writes YAML that is read as what it was, line ends that only Unicode has included."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Quotes a text with such a line end, which would be read as a space otherwise."""
        style = '"' if re.search("[\x85\u2028\u2029]", data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def header_text(header: Mapping[str, JSON]) -> str:
    """Writes a card's header between its lines of dashes."""
    text: str = yaml.dump(dict(header), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n"


def card_configs(
    splits: Iterable[str],
    *,
    answers: bool,
    comparisons: bool = False,
    trace: bool = False,
    also: Mapping[str, Iterable[str]] | None = None,
) -> list[JSON]:
    """Lists the files that `load_dataset` reads: the pairs by default, every other table as its own configuration."""
    names = list(splits)

    def files(folder: str, names: Iterable[str]) -> list[JSON]:
        return [{"split": name, "path": f"{folder}/{name}-*.parquet"} for name in names]

    configs: list[JSON] = [{"config_name": "default", "default": True, "data_files": files("data", names)}]
    for folder, present in (("candidates", answers), ("comparisons", comparisons)):
        if present:
            configs.append({"config_name": folder, "data_files": files(folder, ["train"])})
    if trace:
        configs.append({"config_name": "trace", "data_files": files("trace", names)})
    for kind, kind_splits in (also or {}).items():
        configs.append({"config_name": kind, "data_files": files(kind, kind_splits)})
    return configs


def card_header(text: str) -> JSON:
    """Parses the YAML header of a card; None where it has none that can be parsed."""
    lines = text.split("\n")
    if lines[0].strip() != "---" or "---" not in lines[1:]:
        return None
    try:
        return yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _header(
    facts: CardFacts, rows: int, configs: list[JSON], licence: Licence | None, stats: FileStats | None
) -> dict[str, JSON]:
    publish = facts.publish
    header: dict[str, JSON] = {
        **(_stated_licence(publish) if publish.license or licence is None else licence.header()),
        "language": list(publish.language),
        "pretty_name": publish.title or facts.name,
        "size_categories": [size_category(rows)],
        "task_categories": ["text-generation"],
        "tags": list(dict.fromkeys(["preference", "dpo", "synthetic", "prefdata", *publish.tags])),
        "configs": configs,
        "dataset_info": [] if stats is None else stats.dataset_info,
    }
    return {key: value for key, value in header.items() if value not in (None, [])}


def _stated_licence(publish: Publish) -> dict[str, JSON]:
    return {
        "license": publish.license,
        "license_name": publish.license_name,
        "license_link": publish.license_link,
    }


def _header_to_note(header: Mapping[str, JSON]) -> dict[str, JSON]:
    """Returns what a later merge must know of this header to see which keys somebody has edited."""
    noted = {key: value for key, value in header.items() if key not in ("configs", "dataset_info")}
    return {**noted, "configs": [config["config_name"] for config in header["configs"]]}


def _layout(recipe: Mapping[str, JSON] | None) -> str:
    dataset = (recipe or {}).get("dataset")
    return str(dataset.get("kind", "trl")) if isinstance(dataset, Mapping) else "trl"


def _how_to_load(split_rows: Mapping[str, int], configs: Iterable[JSON], layout: str) -> str:
    splits = ", ".join(f"`{name}` ({rows:,} rows)" for name, rows in split_rows.items())
    first = next(iter(split_rows), "train")
    lines = [f'pairs = load_dataset("FOLDER_OR_REPO_ID", split="{first}")']
    for config in configs:
        name, split = config["config_name"], config["data_files"][0]["split"]
        if name != "default":
            lines.append(f'{name} = load_dataset("FOLDER_OR_REPO_ID", "{name}", split="{split}")')
    code = "\n".join(["```python", "from datasets import load_dataset", "", *lines, "```"])
    columns = (
        "`prompt`, `chosen` and `rejected` are lists of messages, which TRL's `DPOTrainer` takes as they are; the "
        "other columns say how the rule decided."
        if layout == "trl"
        else f"The columns are those of the layout `{inline(layout)}`."
    )
    return f"{code}\n\nSplits: {splits}. {columns}"


def _flow(ledger: JSON, pictures: Collection[str]) -> str:
    return f"![{inline(picture_words(FLOW, ledger=ledger), 1_000)}]({FLOW})\n\n" if FLOW in pictures else ""


def _kept(names: Sequence[str]) -> str:
    if not names:
        return ""
    columns = ", ".join(f"`{inline(name)}`" for name in names)
    return f"\n\nKept from the input, in the tables of pairs, answers and drops: {columns}."


def _statistics(stats: FileStats | None, pictures: Collection[str]) -> str:
    if stats is None or not stats.numbers:
        return ""
    names = {"score_margin": "score margin", "length_difference": "chosen longer by"}
    lines = ["| per pair | mean | 10% | median | 90% |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, numbers in stats.numbers.items():
        lines.append(f"| {names.get(name, name)} | " + " | ".join(f"{number:,.4g}" for number in numbers) + " |")
    note = "\n\nComputed from a million pairs, spread evenly over the dataset." if stats.sampled else ""
    words = inline(picture_words(MARGINS, bars=stats.margins), 1_000)
    picture = f"\n\n![{words}]({MARGINS})" if MARGINS in pictures else ""
    return "## Statistics\n\n" + "\n".join(lines) + picture + note


def ledger_table(ledger: JSON) -> str:
    """Writes the ledger's stages as a Markdown table."""
    lines = ["| stage | in | out | drops |", "| --- | ---: | ---: | --- |"]
    for row in ledger["stages"]:
        drops = ", ".join(f"{inline(reason)} {count:,}" for reason, count in row["drops"].items()) or "none"
        lines.append(f"| {row['stage']} | {row['in']:,} | {row['out']:,} | {drops} |")
    return "\n".join(lines)


def _drops(ledger: JSON) -> str:
    tables = []
    for title, name in (("prompts without a pair", "drops"), ("candidates that were not eligible", "ineligible")):
        if ledger.get(name):
            lines = [f"| {title} | number |", "| --- | ---: |"]
            lines += [f"| {inline(reason)} | {count:,} |" for reason, count in ledger[name].items()]
            tables.append("\n".join(lines))
    tables.append(
        "Rows in = rows out + drops, checked when each stage ended. `drops.parquet` lists the dropped prompts, "
        "`drops_candidates.parquet` the dropped and ineligible candidates, each with its reason."
    )
    return "\n\n".join(tables)


def _audit_table(audit: JSON) -> str:
    """Writes measures and limits; names of sources come from the data and stay in `audit.json`."""
    lines = ["| measure | value |", "| --- | ---: |"]
    lines += [f"| {name} | {value:g} |" for name, value in audit["measures"].items() if value is not None]
    crossed = [limit for limit in audit.get("limits", ()) if not limit["holds"]]
    for limit in crossed:
        bounds = [(word, limit[word]) for word in ("at_least", "at_most") if limit[word] is not None]
        target = " and ".join(f"{word.replace('_', ' ')} {bound:g}" for word, bound in bounds)
        lines.append(f"\n**Over the limit of its recipe:** {limit['measure']} should be {target}.")
    return "\n".join([*lines, "\n`audit.json` has the counts behind them, and each source's share."])


def _scoring_table(scoring: JSON) -> str:
    """Writes every number of `scoring.json`, named by its path."""
    lines = ["| stage | what | value |", "| --- | --- | ---: |"]
    for stage, numbers in scoring.items():
        for path, value in _numbers_in(numbers):
            shown = f"{value:g}" if isinstance(value, float) else f"{value:,}"
            lines.append(f"| {inline(stage)} | {inline(path)} | {shown} |")
    return "\n".join([*lines, "\nAll of these numbers are in `scoring.json`."])


def _numbers_in(value: JSON, path: str = "") -> Iterator[tuple[str, int | float]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers_in(inner, f"{path} {name}".strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def _provenance(facts: CardFacts) -> str:
    lines = "\n".join(f"- {what}: `{value}`" for what, value in facts.fingerprints.items())
    command = f" Made with `{facts.command}`." if facts.command else ""
    rebuild = " `prefdata build --from REPO_ID` rebuilds it; no code comes from the Hub." if facts.command else ""
    return (
        f"{lines}\n\n`recipe.json` is the recipe, `prefdata.lock.json` pins every input, `prefdata.manifest.json` has "
        f"the hash of every file; `prefdata verify REPO_ID` checks them.{command}{rebuild}"
    ).strip()


def _licence(publish: Publish, licence: Licence | None) -> str:
    if publish.license is None and licence is None:
        return (
            "The recipe states no licence. What may be done with this dataset depends on the terms of its prompts, of "
            "the models that answered and of the models that scored."
        )
    stated = f"`{inline(publish.license)}`, as the author of the recipe states it." if publish.license else ""
    if licence is None:
        return stated
    name = f" ({licence.license_name})" if licence.license_name else ""
    derived = f"`{licence.license}`{name}, derived from the terms of its inputs."
    if publish.license and publish.license != licence.license:
        stated += f" The terms of its inputs give {derived}"
    unknown = ", ".join(inline(name) for name in licence.unknown)
    return "\n\n".join(
        part
        for part in (
            stated or derived,
            f"**Not known** are the terms of: {unknown}. They may forbid what others allow." if unknown else "",
            _inputs_table(licence),
            "This is a summary of the publishers' terms, not legal advice.",
        )
        if part
    )


def _inputs_table(licence: Licence) -> str:
    lines = ["| part | what | terms | which ask |", "| --- | --- | --- | --- |"]
    for entry in licence.inputs:
        name, asks = ("not known", "") if entry.terms is None else (entry.terms.name, entry.terms.asks)
        origin = " (as the recipe states)" if entry.stated else ""
        lines.append(f"| {entry.role} | {inline(entry.name)} | {inline(name)}{origin} | {inline(asks)} |")
    return "\n".join(lines)


def _citation(recipe: Mapping[str, JSON] | None) -> str:
    titles = [] if recipe is None else citations(recipe)
    return "## Citation\n\n" + "\n".join(f"- {title}" for title in titles) if titles else ""
