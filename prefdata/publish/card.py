"""The card of a dataset: `README.md` with the YAML header that the Hub and `load_dataset` read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from prefdata.publish.spec import Publish
from prefdata.spec import JSON

__all__ = ["CardFacts", "card_text", "size_category"]


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


def card_text(facts: CardFacts, ledger: JSON, split_rows: Mapping[str, int]) -> str:
    """The whole card. It shows no row of the data, so nothing in the data can change how it renders."""
    parts = [
        f"---\n{_header(facts, split_rows)}---",
        f"# {facts.publish.title or facts.name}",
        facts.description,
        "## How to load",
        _how_to_load(split_rows),
        "## How it was made",
        "\n".join(f"- **{stage}**: {words}" for stage, words in facts.steps.items()),
        "## What became of every row",
        _ledger_table(ledger),
        "Rows in = rows out + drops, checked when each stage ended. Dropped prompts stand in `drops.parquet`, dropped "
        "and ineligible candidates in `drops_candidates.parquet`, each with its reason.",
        "## Provenance",
        "\n".join(f"- {what}: `{value}`" for what, value in facts.fingerprints.items()),
        "`recipe.json` is the recipe, `prefdata.lock.json` pins every input."
        + (f" Made with `{facts.command}`." if facts.command else ""),
        f"## Limitations\n\n{facts.publish.limitations}" if facts.publish.limitations else "",
        "## Licence",
        _licence(facts.publish),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(facts: CardFacts, split_rows: Mapping[str, int]) -> str:
    publish = facts.publish
    header: dict[str, JSON] = {
        "license": publish.license,
        "language": list(publish.language),
        "pretty_name": publish.title or facts.name,
        "size_categories": [size_category(sum(split_rows.values()))],
        "task_categories": ["text-generation"],
        "tags": list(dict.fromkeys(["preference", "dpo", "synthetic", "prefdata", *publish.tags])),
        "configs": [
            {
                "config_name": "default",
                "default": True,
                "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in split_rows],
            }
        ],
    }
    text: str = yaml.safe_dump(
        {key: value for key, value in header.items() if value not in (None, [])}, sort_keys=False, allow_unicode=True
    )
    return text


def _how_to_load(split_rows: Mapping[str, int]) -> str:
    splits = ", ".join(f"`{name}` ({rows:,} rows)" for name, rows in split_rows.items())
    return (
        "```python\nfrom datasets import load_dataset\n\n"
        'pairs = load_dataset("FOLDER_OR_REPO_ID", split="train")\n```\n\n'
        f"Splits: {splits}. `prompt`, `chosen` and `rejected` are lists of messages, which TRL's `DPOTrainer` takes as "
        "they are; the other columns say how the rule decided."
    )


def _ledger_table(ledger: JSON) -> str:
    lines = ["| stage | in | out | drops |", "| --- | ---: | ---: | --- |"]
    for row in ledger["stages"]:
        drops = ", ".join(f"{reason} {count:,}" for reason, count in row["drops"].items()) or "none"
        lines.append(f"| {row['stage']} | {row['in']:,} | {row['out']:,} | {drops} |")
    return "\n".join(lines)


def _licence(publish: Publish) -> str:
    if publish.license is None:
        return (
            "The recipe states no licence. What may be done with this dataset depends on the terms of its prompts, of "
            "the models that answered and of the models that scored."
        )
    return f"`{publish.license}`, as the author of the recipe states it."
