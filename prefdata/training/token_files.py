"""Writes the token ids of a dataset, one Parquet file a split, or finds those that are there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from prefdata.lazy import np, pa, pq
from prefdata.spec import JSON, fingerprint, sha256_of_file
from prefdata.training.base import Training
from prefdata.training.preflight import Preflight
from prefdata.training.rows import Answers, SplitFiles
from prefdata.training.tokens import Encoder, token_schema, token_tables

__all__ = ["write_token_files"]


def write_token_files(
    work: Path,
    splits: Mapping[str, SplitFiles],
    training: Training,
    encoder: Encoder,
    pins: Mapping[str, JSON],
    limit: int | None,
) -> tuple[dict[str, Path], list[Preflight]]:
    """Writes the files of tokens, or finds those that are there: their folder is named after all that they depend on.

    Args:
        work: the folder of the job.
        splits: role (`train`, `test`) → files of rows.
        training: says limits and columns.
        encoder: of the model's tokenizer.
        pins: of the model.
        limit: at most this many rows of the train split.

    Returns:
        Role → file of tokens, and the counts of each split; a test split of which no row is left is not among them.
    """
    fields = ("max_length", "max_prompt_length", "truncation", "add_marks", "template_date", "seed")
    depends_on: list[JSON] = [
        # Of the kind of an objective, what acts on the files; the kind of one of the user's own is always `python`.
        [training.trainer, list(training.columns)],
        {name: getattr(training, name) for name in fields},
        *([training.chat_template_kwargs] if training.chat_template_kwargs else []),
        [[sha256_of_file(file) for file in split.files] for split in splits.values()],
        [pins["tokenizer_sha256"], pins["chat_template_sha256"], limit],
    ]
    folder = work / f"tokens-{fingerprint(depends_on)[:16]}"
    folder.mkdir(exist_ok=True)
    files: dict[str, Path] = {}
    preflights = []
    for role, split in splits.items():
        files[role], report = folder / f"{role}.parquet", folder / f"{role}.json"
        if not report.is_file():
            preflight = _write_tokens(files[role], role, split, training, encoder, limit if role == "train" else None)
            # Written last: it says that the tokens are whole.
            report.write_text(
                json.dumps(preflight.dump(), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
            )
        preflights.append(Preflight.load(json.loads(report.read_text(encoding="utf-8"))))
    kept = {role: file for role, file in files.items() if role == "train" or pq.read_metadata(file).num_rows}
    return kept, [preflight for preflight in preflights if preflight.split in kept]


def _write_tokens(
    file: Path, role: str, split: SplitFiles, training: Training, encoder: Encoder, limit: int | None
) -> Preflight:
    paired = training.trainer != "kto"
    schema, preflight = token_schema(training.columns, paired=paired), Preflight(role)
    dropped: list[dict[str, JSON]] = []
    rows = split.read(training.columns, limit)
    if split.paired and not paired:
        rows = _halves(rows)
    tables = token_tables(rows, encoder, preflight, schema, dropped=dropped)
    if paired:
        with pq.ParquetWriter(file, schema) as writer:
            for table in tables:
                writer.write_table(table)
    else:
        table = pa.concat_tables([schema.empty_table(), *tables])
        order = np.random.default_rng(training.seed).permutation(table.num_rows)
        pq.write_table(table.take(pa.array(order)), file)
    drops = pa.schema([("row", pa.int64()), ("id", pa.string()), ("reason", pa.string())])
    pq.write_table(pa.Table.from_pylist(dropped, drops), file.with_name(f"{role}-dropped.parquet"))
    return preflight


def _halves(rows: Iterator[Answers]) -> Iterator[Answers]:
    """Each answer of a pair as a row of its own, the chosen one desirable."""
    for row in rows:
        for label, answer in zip((True, False), row.answers, strict=True):
            yield Answers(row.row, row.id, row.prompt, (answer,), label=label, prompts_differ=row.prompts_differ)
