"""`read_file_stats`: statistics of the written Parquet files of a dataset, for its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from prefdata.lazy import np, pa, pc, pq
from prefdata.publish.manifest import TABLES
from prefdata.spec import JSON

__all__ = ["FileStats", "bars_of", "margin_bars", "read_file_stats", "schema_features"]

_MAX_GROUPS = 1_000
"""Most row groups that are read for the statistics, spread evenly; of 1,000 rows each, this is a million pairs."""
_BINS = 12
_CONFIGS = {"default": "data", **{name: name for name in TABLES if name != "data"}}


@dataclass(frozen=True)
class FileStats:
    """Statistics of the files of a dataset folder."""

    dataset_info: list[JSON] = field(default_factory=list)
    """The key `dataset_info` of the YAML header: features, splits and bytes of each configuration."""
    numbers: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)
    """Column → mean, 10%, median and 90% of its values."""
    margins: Sequence[tuple[str, int]] = ()
    """Histogram of the score margins: label and number of pairs of each bar; empty without pairs."""
    sampled: bool = False
    """Whether the numbers are computed from a part of the pairs."""


def read_file_stats(folder: Path) -> FileStats:
    """Reads the footers of all Parquet files of a dataset folder, and three columns of its pairs."""
    info = []
    for config, folder_name in _CONFIGS.items():
        files = sorted((folder / folder_name).glob("*.parquet"))
        if files:
            info.append({"config_name": config, **_info(files)})
    traced = folder / "trace" if (folder / "trace").is_dir() else folder / "data"
    columns, sampled = _columns(sorted(traced.glob("*.parquet")))
    numbers = {name: _numbers(values) for name, values in columns.items() if len(values)}
    return FileStats(info, numbers, _margins(columns), sampled)


def margin_bars(files: Sequence[Path]) -> Sequence[tuple[str, int]]:
    """Computes the histogram of the score margins.

    Args:
        files: the Parquet files with the trace of the pairs, in order.
    """
    return _margins(_columns(files)[0])


def _margins(columns: Mapping[str, np.ndarray[Any, Any]]) -> Sequence[tuple[str, int]]:
    margins = columns.get("score_margin")
    return bars_of(margins) if margins is not None and len(margins) else ()


def _info(files: Sequence[Path]) -> dict[str, JSON]:
    splits: dict[str, dict[str, JSON]] = {}
    schema: pa.Schema = None
    for file in files:
        table = pq.read_metadata(file)
        schema = table.schema.to_arrow_schema()
        name = file.name.partition("-")[0]
        split = splits.setdefault(name, {"name": name, "num_bytes": 0, "num_examples": 0})
        split["num_bytes"] += sum(table.row_group(group).total_byte_size for group in range(table.num_row_groups))
        split["num_examples"] += table.num_rows
    return {
        "features": schema_features(schema),
        "splits": list(splits.values()),
        "download_size": sum(file.stat().st_size for file in files),
        "dataset_size": sum(split["num_bytes"] for split in splits.values()),
    }


def schema_features(schema: pa.Schema) -> list[JSON]:
    """Writes a schema in the form in which `datasets` writes features into a card."""
    return [{"name": column.name, **_feature(column.type)} for column in schema]


def _feature(kind: pa.DataType) -> dict[str, JSON]:
    if pa.types.is_list(kind):
        inner = _feature(kind.value_type)
        return {"list": inner.get("struct", inner.get("dtype", inner))}
    if pa.types.is_struct(kind):
        return {
            "struct": [
                {"name": kind.field(position).name, **_feature(kind.field(position).type)}
                for position in range(kind.num_fields)
            ]
        }
    names = {"double": "float64", "float": "float32"}
    return {"dtype": names.get(str(kind), str(kind))}


def _columns(files: Sequence[Path]) -> tuple[dict[str, np.ndarray[Any, Any]], bool]:
    """Reads score margins and length differences, and returns whether only a part of the row groups was read."""
    groups = [(file, group) for file in files for group in range(pq.read_metadata(file).num_row_groups)]
    step = max(1, -(-len(groups) // _MAX_GROUPS))
    parts: dict[str, list[Any]] = {"score_margin": [], "length_difference": []}
    for file, file_groups in _by_file(groups[::step]):
        with pq.ParquetFile(file) as opened:
            if not {"score_margin", "length_chosen", "length_rejected"} <= set(opened.schema_arrow.names):
                continue
            table = opened.read_row_groups(file_groups, ["score_margin", "length_chosen", "length_rejected"])
        longer = pc.subtract(table["length_chosen"], table["length_rejected"])
        for name, column in (("score_margin", table["score_margin"]), ("length_difference", longer)):
            parts[name].append(column.drop_null().to_numpy().astype("float64"))
    joined = {name: np.concatenate(chunks_of_column) for name, chunks_of_column in parts.items() if chunks_of_column}
    return {name: values[np.isfinite(values)] for name, values in joined.items()}, step > 1


def _by_file(groups: Sequence[tuple[Path, int]]) -> Iterator[tuple[Path, list[int]]]:
    files: dict[Path, list[int]] = {}
    for file, group in groups:
        files.setdefault(file, []).append(group)
    yield from files.items()


def _numbers(values: np.ndarray[Any, Any]) -> tuple[float, float, float, float]:
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9), method="nearest")
    return float(values.mean()), float(low), float(middle), float(high)


def bars_of(values: np.ndarray[Any, Any]) -> list[tuple[str, int]]:
    """Counts finite numbers: one bar for each value of a few whole numbers, otherwise twelve bins."""
    kinds, counts = np.unique(values, return_counts=True)
    if len(kinds) == 1 or (len(kinds) <= _BINS and all(float(kind).is_integer() for kind in kinds)):
        labels = [f"{kind:g}" for kind in kinds]
    else:
        # A few outliers would press all other values into one bin: the last bin takes all values above its start.
        edges = np.unique(np.linspace(kinds[0], np.quantile(values, 0.99), _BINS + 1))
        edges = np.append(edges[:-1], kinds[-1]) if len(edges) > 1 else kinds[[0, -1]]
        counts, _ = np.histogram(values, edges)
        labels = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    return list(zip(labels, counts.tolist(), strict=True))
