"""The card of a dataset: `README.md` with the YAML header that the Hub and `load_dataset` read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import yaml

from prefdata.publish.spec import Publish
from prefdata.spec import JSON

__all__ = ["CardFacts", "card_configs", "card_header", "card_text", "ledger_table", "size_category"]


@dataclass(frozen=True)
class CardFacts:
    """What a build knows of itself, in words."""

    name: str
    description: str
    publish: Publish
    steps: Mapping[str, str]
    """Stage → how it was done, in words."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """What is pinned → its fingerprint."""
    command: str = ""
    """What makes this dataset again."""


def size_category(rows: int) -> str:
    """The Hub's size category of a number of rows."""
    bounds = [("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7)]
    return next((name for name, bound in bounds if rows < bound), "n>10M")


def card_text(
    facts: CardFacts,
    ledger: JSON,
    split_rows: Mapping[str, int],
    *,
    answers: bool = False,
    audit: JSON | None = None,
) -> str:
    """The whole card. It shows no row of the data, so nothing in the data can change how it renders."""
    parts = [
        f"---\n{_header(facts, split_rows, answers)}---",
        f"# {facts.publish.title or facts.name}",
        facts.description,
        "## How to load",
        _how_to_load(split_rows, answers),
        "## How it was made",
        "\n".join(f"- **{stage}**: {words}" for stage, words in facts.steps.items()),
        "## What became of every row",
        ledger_table(ledger),
        "Rows in = rows out + drops, checked when each stage ended. Dropped prompts stand in `drops.parquet`, dropped "
        "and ineligible candidates in `drops_candidates.parquet`, each with its reason.",
        f"## Audit\n\n{_audit_table(audit)}" if audit else "",
        "## Provenance",
        "\n".join(f"- {what}: `{value}`" for what, value in facts.fingerprints.items()),
        "`recipe.json` is the recipe, `prefdata.lock.json` pins every input."
        + (f" Made with `{facts.command}`." if facts.command else ""),
        f"## Limitations\n\n{facts.publish.limitations}" if facts.publish.limitations else "",
        "## Licence",
        _licence(facts.publish),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def card_configs(splits: Iterable[str], *, answers: bool) -> list[JSON]:
    """Which files `load_dataset` reads: the pairs by default, and the answers as a configuration of their own."""
    files = [{"split": name, "path": f"data/{name}-*.parquet"} for name in splits]
    configs: list[JSON] = [{"config_name": "default", "default": True, "data_files": files}]
    if answers:
        path = {"split": "train", "path": "candidates/train-*.parquet"}
        configs.append({"config_name": "candidates", "data_files": [path]})
    return configs


def card_header(text: str) -> JSON:
    """What the YAML header of a card says; None where it has none that can be read."""
    lines = text.split("\n")
    if lines[0].strip() != "---" or "---" not in lines[1:]:
        return None
    try:
        return yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _header(facts: CardFacts, split_rows: Mapping[str, int], answers: bool) -> str:
    publish = facts.publish
    header: dict[str, JSON] = {
        "license": publish.license,
        "language": list(publish.language),
        "pretty_name": publish.title or facts.name,
        "size_categories": [size_category(sum(split_rows.values()))],
        "task_categories": ["text-generation"],
        "tags": list(dict.fromkeys(["preference", "dpo", "synthetic", "prefdata", *publish.tags])),
        "configs": card_configs(split_rows, answers=answers),
    }
    text: str = yaml.safe_dump(
        {key: value for key, value in header.items() if value not in (None, [])}, sort_keys=False, allow_unicode=True
    )
    return text


def _how_to_load(split_rows: Mapping[str, int], answers: bool) -> str:
    splits = ", ".join(f"`{name}` ({rows:,} rows)" for name, rows in split_rows.items())
    more = 'answers = load_dataset("FOLDER_OR_REPO_ID", "candidates", split="train")\n' if answers else ""
    return (
        "```python\nfrom datasets import load_dataset\n\n"
        f'pairs = load_dataset("FOLDER_OR_REPO_ID", split="train")\n{more}```\n\n'
        f"Splits: {splits}. `prompt`, `chosen` and `rejected` are lists of messages, which TRL's `DPOTrainer` takes as "
        "they are; the other columns say how the rule decided."
    )


def ledger_table(ledger: JSON) -> str:
    """The ledger's stages as a table of Markdown."""
    lines = ["| stage | in | out | drops |", "| --- | ---: | ---: | --- |"]
    for row in ledger["stages"]:
        drops = ", ".join(f"{reason} {count:,}" for reason, count in row["drops"].items()) or "none"
        lines.append(f"| {row['stage']} | {row['in']:,} | {row['out']:,} | {drops} |")
    return "\n".join(lines)


def _audit_table(audit: JSON) -> str:
    """Measures and limits; names of sources come from the data and stay in `audit.json`."""
    lines = ["| measure | value |", "| --- | ---: |"]
    lines += [f"| {name} | {value:g} |" for name, value in audit["measures"].items() if value is not None]
    crossed = [limit for limit in audit.get("limits", ()) if not limit["holds"]]
    for limit in crossed:
        bounds = [(word, limit[word]) for word in ("at_least", "at_most") if limit[word] is not None]
        told = " and ".join(f"{word.replace('_', ' ')} {bound:g}" for word, bound in bounds)
        lines.append(f"\n**Over the limit of its recipe:** {limit['measure']} should be {told}.")
    return "\n".join([*lines, "\n`audit.json` has the counts behind them, and each source's share."])


def _licence(publish: Publish) -> str:
    if publish.license is None:
        return (
            "The recipe states no licence. What may be done with this dataset depends on the terms of its prompts, of "
            "the models that answered and of the models that scored."
        )
    return f"`{publish.license}`, as the author of the recipe states it."
