"""A small dataset folder, and what a Hub holds of it."""

from __future__ import annotations

from pathlib import Path


def dataset_folder(where: Path, words: str = "good", *, test: int = 2, rows: int = 6, **changes: object) -> Path:
    """A small dataset as a build writes it; other words make another dataset."""
    import pyarrow as pa

    from prefdata.dataset import TRLPairs
    from prefdata.publish import Publish
    from prefdata.publish.card.text import CardFacts
    from prefdata.publish.folder import DatasetFolder, write_dataset_folder
    from prefdata.tables.schemas import ANSWERS, CANDIDATE_DROPS, DROPS, PAIRS, PROMPTS

    ids = [f"p{number}" for number in range(rows)]
    prompts = [{"prompt_id": i, "messages": [{"role": "user", "content": f"{i}?"}], "origin": ""} for i in ids]
    pairs = [
        {"prompt_id": i, "pair_index": 0, "response_chosen": f"{words} {i}", "response_rejected": f"bad {i}"}
        | {"score_chosen": 5.0, "score_rejected": float(n % 4), "score_margin": 5.0 - n % 4}
        | {"length_chosen": 9, "length_rejected": 6}
        for n, i in enumerate(ids)
    ]
    answers = [
        {"prompt_id": i, "prompt": [{"role": "user", "content": f"{i}?"}], "source": "policy", "index": index}
        | {"response": text, "score": score}
        for i in ids
        for index, (text, score) in enumerate(((f"{words} {i}", 5.0), (f"bad {i}", 1.0)))
    ]
    where.mkdir(parents=True)
    given = {
        "rows": [TRLPairs().rows(pa.Table.from_pylist(pairs, PAIRS), pa.Table.from_pylist(prompts, PROMPTS))],
        "answers": [pa.Table.from_pylist(answers, ANSWERS)],
        "test_ids": set(ids[:test]),
        "drops": DROPS.empty_table(),
        "candidate_drops": CANDIDATE_DROPS.empty_table(),
        "ledger": {"prompts": rows, "pairs": rows, "drops": {}, "ineligible": {}, "stages": []},
        "recipe": {"name": "small", "prompts": {"kind": "sample"}, "pairs": {"kind": "best_vs_worst"}},
        "lock": {"format": 2},
        "card": CardFacts(name="small", description="About it.", publish=Publish(language=("en",)), steps={}),
        **changes,
    }
    write_dataset_folder(where, DatasetFolder(**given))
    return where


def repository(hub, repo="alice/prefs"):
    """The one repository of this name, of a dataset or a model."""
    (found,) = (found for (_, name), found in hub.repos.items() if name == repo)
    return found


def files(hub, revision="main", repo="alice/prefs"):
    """Path → content of everything at a revision."""
    found = repository(hub, repo)
    return {path: hub.read(entry) for path, entry in found.resolve(revision).tree.items() if path != ".gitattributes"}


def local(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commits(hub, revision="main"):
    return [commit.id for commit in repository(hub).history(revision)]
