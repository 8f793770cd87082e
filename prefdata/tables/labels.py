"""Labels of `datasets`: columns of numbers that stand for names, which the features in an Arrow schema list.

A number is not a name: `source` 0 would be a source "0", and which model that is would be lost.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from prefdata.lazy import pa

__all__ = ["Labels", "labels_of", "named_batch", "named_schema", "named_value"]

Labels: TypeAlias = Any
"""Where a column has labels: a tuple of names, a list of one element for what each item of a list has, a dict for the
keys of an object, or None for no labels."""

_FEATURES = b"huggingface"
_LISTS = ("Sequence", "List", "LargeList")


def labels_of(schema: pa.Schema) -> dict[str, Labels]:
    """Reads the columns that have labels, alone or within lists and objects; what is written otherwise has none."""
    try:
        value = json.loads((schema.metadata or {}).get(_FEATURES, b"null"))
        features = value["info"]["features"]
        found = {str(name): _labels(feature) for name, feature in features.items()}
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return {}
    return {name: labels for name, labels in found.items() if labels is not None}


def named_value(value: Any, labels: Labels) -> Any:
    """Gives a cell with the names in place of its numbers; a number without a name, as -1 is, is None."""
    if isinstance(labels, tuple):
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        return labels[value] if 0 <= value < len(labels) else None
    if isinstance(labels, list) and isinstance(value, list):
        return [named_value(item, labels[0]) for item in value]
    if isinstance(labels, dict | list) and isinstance(value, dict):
        return {key: named_value(inner, _of_key(labels, key)) for key, inner in value.items()}
    return value


def named_schema(schema: pa.Schema, labels: dict[str, Labels]) -> pa.Schema:
    """Gives the types that columns have with names in place of numbers."""
    return pa.schema([field.with_type(_type(field.type, labels.get(field.name))) for field in schema])


def named_batch(batch: pa.RecordBatch, labels: dict[str, Labels]) -> pa.RecordBatch:
    """Gives columns of plain types with names in place of numbers."""
    for at, name in enumerate(batch.schema.names):
        if name in labels:
            column = batch.column(at)
            values = [named_value(value, labels[name]) for value in column.to_pylist()]
            batch = batch.set_column(at, name, pa.array(values, _type(column.type, labels[name])))
    return batch


def _labels(feature: Any) -> Labels:
    if isinstance(feature, list):
        return _of_items(feature[0] if len(feature) == 1 else None)
    if not isinstance(feature, dict):
        return None
    kind = feature.get("_type")
    if not isinstance(kind, str):
        keys = {key: labels for key, inner in feature.items() if (labels := _labels(inner)) is not None}
        return keys or None
    if kind == "ClassLabel":
        names = feature.get("names")
        return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
    return _of_items(feature.get("feature")) if kind in _LISTS else None


def _of_items(feature: Any) -> Labels:
    labels = _labels(feature)
    return None if labels is None else [labels]


def _of_key(labels: Labels, key: str) -> Labels:
    """Gives the labels of a key; a list of objects may be stored as an object of lists."""
    if isinstance(labels, dict):
        return labels.get(key)
    inner = labels[0].get(key) if isinstance(labels[0], dict) else None
    return None if inner is None else [inner]


def _type(kind: pa.DataType, labels: Labels) -> pa.DataType:
    types = pa.types
    if isinstance(labels, tuple):
        return pa.string() if types.is_integer(kind) else kind
    if isinstance(labels, list):
        for is_kind, make in ((types.is_list, pa.list_), (types.is_large_list, pa.large_list)):
            if is_kind(kind):
                return make(kind.value_field.with_type(_type(kind.value_type, labels[0])))
        if types.is_fixed_size_list(kind):
            return pa.list_(kind.value_field.with_type(_type(kind.value_type, labels[0])), kind.list_size)
    if isinstance(labels, dict | list) and types.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        return pa.struct([field.with_type(_type(field.type, _of_key(labels, field.name))) for field in fields])
    return kind
