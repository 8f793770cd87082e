"""Keeps a finished dataset from being replaced by one of another size that was made with another limit or profile."""

from __future__ import annotations

from pathlib import Path

from prefdata.errors import StoreError
from prefdata.flow.disk import write_bytes
from prefdata.flow.documents import read_object
from prefdata.flow.reader import BuildReader
from prefdata.flow.store import BuildFolder
from prefdata.spec import JSON

__all__ = ["check_same_size", "refuse_other_size", "written_documents"]


def written_documents(folder: BuildFolder) -> dict[Path, bytes]:
    """Reads the recipe and the lock of a build folder, for a build that is refused after it has written its own."""
    return {path: path.read_bytes() for path in (folder.recipe_file, folder.lock_file) if path.is_file()}


def check_same_size(build: BuildReader, documents: dict[Path, bytes]) -> None:
    """Checks the finished dataset of a build, if there is one, against what the build would write.

    Args:
        build: its prompts are read.
        documents: what the recipe and the lock of the folder were before; a refusal writes them back.

    Raises:
        StoreError: the dataset has another number of prompts, and another limit or profile.
    """
    recipe = build.recipe
    try:
        refuse_other_size(build.folder.dataset, {"name": recipe.name, "limit": recipe.limit}, build.tables.n_prompts)
    except StoreError:
        for path, content in documents.items():
            write_bytes(path, content)
        raise


def refuse_other_size(dataset: Path, made_with: dict[str, JSON], prompts: int) -> None:
    """Refuses to replace a finished dataset of another size.

    Args:
        dataset: the folder to be replaced.
        made_with: what of the new recipe decides how many prompts there are.
        prompts: that are to be paired.

    Raises:
        StoreError: the dataset has another number of prompts, and was made with something else.
    """
    try:
        recipe = read_object(dataset / "recipe.json", "the recipe of the dataset") or {}
        ledger = read_object(dataset / "ledger.json", "the counts of the dataset") or {}
    except StoreError:
        # What can't be read is not a finished dataset; making it again is what repairs it.
        return
    before = _paired_prompts(ledger)
    differing = [name for name, value in made_with.items() if recipe.get(name) != value]
    if not differing or before in (None, prompts):
        return
    then, now = (
        ", ".join(f"{name} {values.get(name) or 'none'}" for name in differing) for values in (recipe, made_with)
    )
    raise StoreError(
        f"{str(dataset)!r} holds a finished dataset of {before:,} prompts ({then}), and this one would have "
        f"{prompts:,} ({now})",
        valid="another folder, or --replace (in Python: replace=True)",
        hint="choose another folder with --out, or run the same command with --replace: answers and scores are kept",
    )


def _paired_prompts(ledger: dict[str, JSON]) -> int | None:
    """Reads how many prompts were to be paired; None where a damaged ledger does not say it."""
    stages = ledger.get("stages")
    counts = [
        stage.get("in")
        for stage in (stages if isinstance(stages, list) else ())
        if isinstance(stage, dict) and stage.get("stage") == "pairs"
    ]
    return counts[0] if counts and isinstance(counts[0], int) else None
