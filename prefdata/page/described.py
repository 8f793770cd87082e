"""Describes a dataset folder from its documents: recipe, lock, ledger, audit, and the verdict of a verification."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from prefdata.errors import UserError
from prefdata.inspection.meanings import measure_lines
from prefdata.page.answers import PromptRows
from prefdata.page.flows import answer_flow, prompt_flow
from prefdata.page.sources import Overview
from prefdata.pairing import AnyRule
from prefdata.pairing.words import rule_words
from prefdata.spec import JSON, sha256_of_file
from prefdata.tables.documents import read_object
from prefdata.verification import verify

__all__ = ["described_dataset", "document", "models_of", "rule_in_words", "stage_table"]

_VERIFIED_ROWS = 5_000
"""Up to this many pairs a page is written with the verdict of a verification; larger datasets name the command."""
_SHORT = 16


def document(folder: Path, name: str) -> dict[str, Any]:
    """Reads a document of a dataset folder; one that is not there is empty.

    Raises:
        InputError: it is not a JSON object.
    """
    path = folder / name
    return read_object(path, folder) if path.exists() or path.is_symlink() else {}


def described_dataset(folder: Path, title: str, commit: str | None, made: PromptRows) -> Overview:
    """Describes a dataset that prefdata has written.

    Args:
        folder: the dataset folder.
        title: its name.
        commit: of a dataset of the Hub.
        made: the counts of the rows that were read.

    Raises:
        InputError: a document is not as prefdata writes it.
    """
    recipe, lock = document(folder, "recipe.json"), document(folder, "prefdata.lock.json")
    ledger, audit = document(folder, "ledger.json"), document(folder, "audit.json")
    facts = [("Dataset", str(recipe.get("name") or title))]
    facts += [("Pairs", f"{ledger['pairs']:,}")] if isinstance(ledger.get("pairs"), int) else []
    facts += [("Prompts", f"{ledger['prompts']:,}")] if isinstance(ledger.get("prompts"), int) else []
    facts += [("Revision", commit)] if commit else []
    fingerprint = lock.get("recipe") or lock.get("rule")
    facts += [("Fingerprint", str(fingerprint)[:_SHORT])] if fingerprint else []
    manifest = folder / "prefdata.manifest.json"
    facts += [("Manifest", sha256_of_file(manifest)[:_SHORT])] if manifest.is_file() else []
    overview = Overview(facts, rule_in_words(recipe), _verdict(folder, ledger))
    overview.flows = [prompt_flow(made.outcomes), *([answer_flow(made.sources)] if made.sources else [])]
    overview.measures = measure_lines(audit)
    overview.tables = [stage_table(ledger)] if ledger.get("stages") else []
    overview.models = models_of(lock)
    return overview


def rule_in_words(recipe: Mapping[str, JSON]) -> str | None:
    """Writes the pair rule of a recipe's JSON in words; None where it can't be read."""
    try:
        return rule_words(TypeAdapter(AnyRule).validate_python(recipe.get("pairs")))
    except (ValidationError, UserError, RecursionError):
        return None


def _verdict(folder: Path, ledger: Mapping[str, Any]) -> tuple[str, str]:
    pairs = ledger.get("pairs")
    if not isinstance(pairs, int) or pairs > _VERIFIED_ROWS:
        return "open", "Not verified when this page was written: `prefdata verify` rebuilds every pair."
    try:
        report = verify(folder)
    except UserError as error:
        return "open", f"Not verified: {error.problem}"
    if not report.holds:
        counts = ", ".join(f"{what} {count:,}" for what, count in sorted(report.counts.items()))
        return "bad", f"Verification found differences: {counts}."
    left = f" Not checked: {'; '.join(report.not_checked)}." if report.not_checked else ""
    return "good", f"Verified: every pair follows from the answers, the scores and the recipe.{left}"


def stage_table(ledger: Mapping[str, Any]) -> JSON:
    """Makes the table of the ledger: rows in, rows out and drops of each stage."""
    rows = []
    for stage in ledger.get("stages") or ():
        drops = ", ".join(f"{reason} {count:,}" for reason, count in sorted((stage.get("drops") or {}).items()))
        rows.append([str(stage.get("stage")), f"{stage.get('in'):,}", f"{stage.get('out'):,}", drops or "none"])
    return {"title": "Stages: rows in = rows out + drops", "head": ["stage", "in", "out", "drops"], "rows": rows}


def models_of(lock: Mapping[str, Any]) -> dict[str, str]:
    """Gives what the lock pins of each source of answers."""
    found = {}
    parts = lock.get("parts")
    for name, part in (parts if isinstance(parts, dict) else {}).items():
        kind, _, source = name.partition("-")
        pins = part.get("pins") if isinstance(part, dict) else None
        if pins and (kind in ("candidates", "backfill") or name == "scores"):
            text = json.dumps(pins, ensure_ascii=False, sort_keys=True, allow_nan=False)
            found[source or name] = text[:600]
    return found
