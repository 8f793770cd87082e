"""`pair_frames`: reads the pairs of a dataset folder of any layout, with the trace of the rule."""

from __future__ import annotations

from pathlib import Path

from prefdata.errors import InputError
from prefdata.inspection._files import check_types, read_table, table_errors
from prefdata.lazy import pl

__all__ = ["pair_frames"]


def pair_frames(dataset: Path) -> dict[str, pl.DataFrame]:
    """Reads the pairs of every split, with the trace of the rule's decision, also where it is a table of its own.

    Raises:
        InputError: a file is not a whole Parquet file of pairs, or a trace has other rows than its pairs.
    """
    tables: dict[str, dict[str, pl.DataFrame]] = {}
    for folder in ("data", "trace"):
        for file in sorted(dataset.glob(f"{folder}/*.parquet")):
            frame = check_types(repr(str(file)), read_table(file, dataset), {"prompt_id": "id"})
            split_tables = tables.setdefault(file.name.partition("-")[0], {})
            with table_errors(f"{str(file)!r} has other columns than the files before it"):
                split_tables[folder] = pl.concat([split_tables[folder], frame]) if folder in split_tables else frame
    frames: dict[str, pl.DataFrame] = {}
    for split, split_tables in tables.items():
        data, trace = split_tables.get("data"), split_tables.get("trace")
        if data is None or (trace is not None and trace["prompt_id"].to_list() != data["prompt_id"].to_list()):
            raise InputError(
                f"the trace of {str(dataset)!r} has other rows than its pairs",
                hint="prefdata verify lists the differences",
            )
        frames[split] = data if trace is None else data.hstack(trace.drop(data.columns, strict=False))
    return frames
