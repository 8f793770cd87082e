"""The card of a trained model: what it was trained on, how, with what, and what became of every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefdata.publish.card.blocks import NOTICE, block, header_note, inline
from prefdata.publish.card.licence import Licence, derive_licence
from prefdata.publish.card.text import header_text
from prefdata.spec import JSON

__all__ = ["model_card"]

_PAPERS = {
    "dpo": "Direct Preference Optimization: Your Language Model is Secretly a Reward Model, arXiv:2305.18290",
    "dpo_norm": "Tulu 3: Pushing Frontiers in Open Language Model Post-Training, arXiv:2411.15124",
    "wpo": "WPO: Enhancing RLHF with Weighted Preference Optimization, arXiv:2406.11827",
    "sppo": "Self-Play Preference Optimization for Language Model Alignment, arXiv:2405.00675",
    "sppo_single": "Self-Play Preference Optimization for Language Model Alignment, arXiv:2405.00675",
    "gpo": "Beyond Bradley-Terry Models: A General Preference Model for Language Model Alignment, arXiv:2410.02197",
    "simpo": "SimPO: Simple Preference Optimization with a Reference-Free Reward, arXiv:2405.14734",
    "cpo": "Contrastive Preference Optimization, arXiv:2401.08417",
    "kto": "KTO: Model Alignment as Prospect Theoretic Optimization, arXiv:2402.01306",
}
"""Kind of objective → the paper that it is from."""


def model_card(name: str, facts: JSON, recipe: Mapping[str, JSON] | None, meanings: Mapping[str, str]) -> str:
    """Writes the card of a model.

    Args:
        name: of the model, its heading.
        facts: `training.json`.
        recipe: `recipe.json` of the dataset, where it has one; the licence follows from it.
        meanings: of the reasons for which rows were dropped or counted.
    """
    training, lineage = facts["training"], facts["lineage"]
    base = str(training["model"])
    parent = str(lineage.get("parent_repo") or base)
    licence = _licence(recipe, base)
    header = _header(facts, licence)
    kind = inline(str(training["kind"]))
    sections = {
        "about": f"# {inline(name)}\n\n`{inline(parent)}`, trained by `{kind}` on {_dataset(lineage)}.",
        "curves": "## Curves\n\n![loss and rewards by step](curves.svg)\n\nEvery logged number is in `metrics.jsonl`.",
        "hyper-parameters": f"## Hyper-parameters\n\n{_parameters(facts)}",
        "rows": f"## What became of every row\n\n{_rows(facts['preflight'], meanings)}",
        "provenance": f"## Provenance\n\n{_provenance(facts)}\n\n{header_note(header)}",
        "licence": f"## Licence\n\n{_licence_text(licence, base)}",
        "citation": f"## Citation\n\n- {_PAPERS[training['kind']]}" if training["kind"] in _PAPERS else "",
    }
    blocks = [block(title, text) for title, text in sections.items() if text]
    return header_text(header) + "\n" + "\n\n".join([NOTICE, *blocks]) + "\n"


def _header(facts: JSON, licence: Licence) -> dict[str, JSON]:
    training, lineage = facts["training"], facts["lineage"]
    repo, base, first = lineage.get("repo"), training["model"], lineage.get("base_model")
    header: dict[str, JSON] = {
        **licence.header(),
        "library_name": "peft" if training.get("lora") else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["preference", "prefdata", "trl", str(training["kind"])],
        # Only a model of the Hub, which has a commit, means something to others: a folder may have its name.
        "base_model": lineage.get("parent_repo") or (base if facts["model"]["model_pins"].get("sha") else first),
        "datasets": [repo] if repo else None,
    }
    return {key: value for key, value in header.items() if value is not None}


def _dataset(lineage: JSON) -> str:
    name = inline(str(lineage.get("repo") or lineage.get("name") or "a dataset without a name"))
    revision = lineage.get("revision")
    return f"`{name}`" + (f" at commit `{inline(str(revision))}`" if revision else "")


def _parameters(facts: JSON) -> str:
    plan, result = facts["plan"], facts["result"]
    shown = {
        name: value
        for name, value in facts["parameters"].items()
        if name not in ("kind", "model", "revision") and value is not None
    }
    shown |= {f"lora.{name}": value for name, value in (facts["training"].get("lora") or {}).items()}
    shown |= {f"trl.{name}": value for name, value in (facts["training"].get("trl") or {}).items()}
    shown |= {
        "batch (pairs an optimiser step)": plan["batch_size"],
        "processes": plan["processes"],
        "accumulation steps of this run": plan["accumulation"],
        "steps of the schedule": plan["steps"],
        "steps trained": result["steps"],
        "precision": facts["precision"],
        "batches grouped by length": "yes" if facts["grouped"] else "no",
        "tokens computed / real": f"{plan['padding']:g}",
    }
    lines = ["| name | value |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {inline(name)} | {inline(str(value))} |" for name, value in shown.items())])


def _rows(preflights: Sequence[JSON], meanings: Mapping[str, str]) -> str:
    lines = ["| split | rows in | trained on | dropped |", "| --- | ---: | ---: | ---: |"]
    for preflight in preflights:
        numbers = (preflight["rows_in"], preflight["rows_trained"], preflight["rows_dropped"])
        lines.append(f"| {inline(preflight['split'])} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
    counted = [
        (preflight["split"], reason, count) for preflight in preflights for reason, count in preflight["counts"].items()
    ]
    if counted:
        lines += ["", "| split | reason | rows | meaning |", "| --- | --- | ---: | --- |"]
        lines += [
            f"| {inline(split)} | {inline(reason)} | {count:,} | {inline(meanings.get(reason, ''))} |"
            for split, reason, count in counted
        ]
    lines.append("\nRows in = rows trained on + rows dropped. Ids of dropped rows are in `train-dropped.parquet`.")
    return "\n".join(lines)


def _provenance(facts: JSON) -> str:
    lineage, model = facts["lineage"], facts["model"]
    reference = model.get("reference_pins") or {}
    pins = {
        **{name.replace("_", " "): value for name, value in lineage.items() if value},
        **{f"model {name}": value for name, value in model["model_pins"].items() if value},
        **{f"reference {name}": value for name, value in reference.items() if value},
        **{f"reference of {split}": entry["key"] for split, entry in facts["references"].items()},
        **({"date that the chat template saw": model["template_date"]} if model.get("template_date") else {}),
        **facts["versions"],
        "device": facts["result"]["device"],
    }
    return "\n".join(f"- {inline(name)}: `{inline(str(value))}`" for name, value in pins.items())


def _licence(recipe: Mapping[str, JSON] | None, base: str) -> Licence:
    """The terms of the dataset's inputs and of the model that training started from."""
    parts = dict(recipe or {})
    candidates = parts.get("candidates")
    answered = list(candidates) if isinstance(candidates, list | tuple) else []
    return derive_licence({**parts, "candidates": [*answered, {"model": base}]})


def _licence_text(licence: Licence, base: str) -> str:
    name = f" ({licence.license_name})" if licence.license_name else ""
    lines = [
        f"`{licence.license}`{name}, derived from the terms of the base model and of what the dataset is made of.",
        "",
        "| part | what | terms | which ask |",
        "| --- | --- | --- | --- |",
    ]
    for entry in licence.inputs:
        term, asks = ("not known", "") if entry.terms is None else (entry.terms.name, entry.terms.asks)
        role = "base model" if entry.name == base else entry.role
        lines.append(f"| {role} | {inline(entry.name)} | {inline(term)} | {inline(asks)} |")
    return "\n".join([*lines, "\nA summary of the publishers' terms, and no legal advice."])
