"""`pair_frames`: the pairs of a dataset folder, whatever its layout, with how the rule decided."""

from __future__ import annotations

from pathlib import Path

from prefdata.errors import InputError
from prefdata.lazy import pl

__all__ = ["pair_frames"]


def pair_frames(dataset: Path) -> dict[str, pl.DataFrame]:
    """The pairs of every split, with the trace of the rule's decision also where it is published beside them.

    Raises:
        InputError: a file is not a whole Parquet file, or a trace has other rows than its pairs.
    """
    tables: dict[str, dict[str, pl.DataFrame]] = {}
    for folder in ("data", "trace"):
        for file in sorted(dataset.glob(f"{folder}/*.parquet")):
            try:
                frame = pl.read_parquet(file, glob=False)
            except (pl.exceptions.PolarsError, OSError) as error:
                hint = "copy the file again"
                raise InputError(f"{str(file)!r} is not a whole Parquet file: {error}", hint=hint) from error
            ours = tables.setdefault(file.name.partition("-")[0], {})
            ours[folder] = pl.concat([ours[folder], frame]) if folder in ours else frame
    found: dict[str, pl.DataFrame] = {}
    for split, parts in tables.items():
        data, trace = parts.get("data"), parts.get("trace")
        if data is None or (trace is not None and trace["prompt_id"].to_list() != data["prompt_id"].to_list()):
            raise InputError(f"the trace of {str(dataset)!r} has other rows than its pairs", hint="verify says more")
        found[split] = data if trace is None else data.hstack(trace.drop(data.columns, strict=False))
    return found
