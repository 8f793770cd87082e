"""Computes a prompt once for all its answers: the answers of a batch attend to the prompt's cached keys and values.

A row is a conversation with its answer. Rows of one group begin with the same tokens. A causal model computes the same
there in each of them, so it is computed once. In float32 the results equal those of whole rows to about 1e-6.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.scoring.rewards._reward_common import batches

__all__ = ["SharedPrefix"]

_CAUSAL = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Model types whose every layer sees exactly all earlier tokens, if no layer has a sliding window."""
_LEAST_SAVED = 16
"""Tokens that a group has to save; the rows of a group that would save fewer are computed whole."""
_BATCHES_CACHED = 4
"""Keys and values are held for at most this many times `batch_tokens` tokens at a time."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A row that is cut in two."""

    row: int
    """Index of the row."""
    prefix: int | None
    """Index of its first part in the list of prefixes; None if the row is computed whole."""
    shared: int
    """Number of tokens in the first part."""
    rest: list[int]
    """Token ids of the second part."""


@dataclass(frozen=True, slots=True)
class _Bank:
    """Keys and values of prefixes, concatenated: for each layer two tensors [heads, tokens, head width]."""

    layers: list[tuple[Any, Any]]
    starts: list[int]
    lengths: list[int]


class SharedPrefix:
    """Computes hidden states at the last token of each row.

    Args:
        base: a causal model of transformers, without its head.
        batch_tokens: most tokens of a batch, padding and cached tokens included.
    """

    def __init__(self, base: Any, batch_tokens: int) -> None:
        self._base = base
        self._batch_tokens = batch_tokens

    @staticmethod
    def supports(config: Any) -> bool:
        """Returns whether a model of this configuration can take its prompts from a cache."""
        layers = getattr(config, "layer_types", None)
        full = set(layers) == {"full_attention"} if layers else getattr(config, "sliding_window", None) is None
        # These rotate positions by an angle that depends on the length of the text.
        by_length = (getattr(config, "rope_parameters", None) or {}).get("rope_type") in ("dynamic", "longrope")
        return config.model_type in _CAUSAL and full and not by_length

    def last_states(self, rows: Sequence[list[int]], groups: Sequence[Hashable]) -> Iterator[tuple[list[int], Any]]:
        """Computes the states of all rows, batch by batch.

        Args:
            rows: token ids.
            groups: of each row; rows of equal groups begin with the same tokens.

        Yields:
            Indices of a batch's rows, and their states [rows of the batch, width].
        """
        prefixes, cuts = _split(rows, groups)
        for chunk in _chunks(prefixes, cuts, _BATCHES_CACHED * self._batch_tokens):
            used = sorted({cut.prefix for cut in chunk if cut.prefix is not None})
            bank = self._bank([prefixes[number] for number in used])
            slot_of = {number: slot for slot, number in enumerate(used)}
            rests, shared = [len(cut.rest) for cut in chunk], [cut.shared for cut in chunk]
            for numbers in batches(rests, self._batch_tokens, shared):
                batch = [chunk[number] for number in numbers]
                slots = [None if cut.prefix is None else slot_of[cut.prefix] for cut in batch]
                yield [cut.row for cut in batch], self._states([cut.rest for cut in batch], slots, bank)

    def _bank(self, prefixes: Sequence[list[int]]) -> _Bank:
        import torch

        states: dict[int, list[tuple[Any, Any]]] = {}
        for numbers in batches(list(map(len, prefixes)), self._batch_tokens):
            ids, mask = _padded([prefixes[number] for number in numbers], self._base.device)
            cache = self._base(input_ids=ids, attention_mask=mask, use_cache=True).past_key_values
            for row, number in enumerate(numbers):
                end = len(prefixes[number])
                states[number] = [(layer.keys[row, :, :end], layer.values[row, :, :end]) for layer in cache.layers]
        lengths = list(map(len, prefixes))
        starts = [sum(lengths[:number]) for number in range(len(lengths))]
        n_layers = len(states[0]) if states else 0
        layers = [
            tuple(torch.cat([states[number][layer][part] for number in range(len(prefixes))], dim=1) for part in (0, 1))
            for layer in range(n_layers)
        ]
        return _Bank([(keys, values) for keys, values in layers], starts, lengths)

    def _states(self, rests: Sequence[list[int]], slots: Sequence[int | None], bank: _Bank) -> Any:
        """Computes the last hidden state of each row, its prefix taken from the bank."""
        import torch
        from transformers import DynamicCache

        device = self._base.device
        ids, mask = _padded(rests, device)
        shared = [0 if slot is None else bank.lengths[slot] for slot in slots]
        n, width = len(rests), max(shared)
        options: dict[str, Any] = {}
        if width:
            # Tokens of the bank in the order of the batch; tokens beyond a row's prefix are masked.
            columns = torch.zeros((n, width), dtype=torch.long)
            prefix_mask = torch.zeros((n, width), dtype=torch.long)
            for row, slot in enumerate(slots):
                if slot is not None:
                    start = bank.starts[slot]
                    columns[row, : shared[row]] = torch.arange(start, start + shared[row])
                    prefix_mask[row, : shared[row]] = 1
            columns, prefix_mask = columns.flatten().to(device), prefix_mask.to(device)
            cache = DynamicCache()
            for number, (keys, values) in enumerate(bank.layers):
                parts = [part[:, columns].unflatten(1, (n, width)).transpose(0, 1) for part in (keys, values)]
                cache.update(*parts, number)
            mask = torch.cat([prefix_mask, mask], dim=1)
            lengths = torch.tensor(shared, device=device)[:, None]
            options = {"past_key_values": cache, "position_ids": lengths + torch.arange(ids.shape[1], device=device)}
        states = self._base(input_ids=ids, attention_mask=mask, use_cache=False, **options).last_hidden_state
        return states[torch.arange(n, device=device), torch.tensor([len(rest) - 1 for rest in rests], device=device)]


def _padded(rows: Sequence[list[int]], device: Any) -> tuple[Any, Any]:
    """Returns ids and mask, padded on the right with an id that attention never sees."""
    import torch

    width = max(map(len, rows))
    ids = [row + [0] * (width - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _split(rows: Sequence[list[int]], groups: Sequence[Hashable]) -> tuple[list[list[int]], list[_Cut]]:
    """Finds the prefixes that are worth sharing, and cuts every row after its own; a rest has at least one token."""
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    prefixes: list[list[int]] = []
    cuts = []
    for indices in members.values():
        first, most = rows[indices[0]], min(len(rows[row]) for row in indices) - 1
        # The lexicographically first and last of several texts have the shortest common prefix.
        low, high = min(rows[row] for row in indices), max(rows[row] for row in indices)
        shared = next((position for position in range(most) if low[position] != high[position]), most)
        if shared * (len(indices) - 1) < _LEAST_SAVED:
            cuts += [_Cut(row, None, 0, rows[row]) for row in indices]
            continue
        cuts += [_Cut(row, len(prefixes), shared, rows[row][shared:]) for row in indices]
        prefixes.append(first[:shared])
    return prefixes, cuts


def _chunks(prefixes: Sequence[list[int]], cuts: Sequence[_Cut], most: int) -> Iterator[list[_Cut]]:
    """Groups cuts whose prefixes have at most `most` tokens together; rows of one prefix stay together."""
    chunk: list[_Cut] = []
    held: set[int] = set()
    tokens = 0
    for cut in cuts:
        if cut.prefix is not None and cut.prefix not in held:
            if chunk and tokens + len(prefixes[cut.prefix]) > most:
                yield chunk
                chunk, held, tokens = [], set(), 0
            held.add(cut.prefix)
            tokens += len(prefixes[cut.prefix])
        chunk.append(cut)
    if chunk:
        yield chunk
