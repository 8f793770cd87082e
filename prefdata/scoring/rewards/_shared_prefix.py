"""Computes a prompt once for all its answers: the answers of a batch attend to the prompt's cached keys and values.

A row is a conversation with its answer. Rows of one group begin with the same tokens; what a causal model computes
there is the same in each of them, so it is computed once. In float32 the results are those of whole rows to about 1e-6.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.scoring.rewards._reward_common import batches

__all__ = ["SharedPrefix"]

_CAUSAL = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Model types whose every layer sees all earlier tokens and nothing else, when none of them slides."""
_WORTH = 16
"""Tokens that a group has to save; below, its rows are computed whole."""
_HELD = 4
"""Batches' worth of tokens whose keys and values are held at a time."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A row in two: where in the table of prefixes its first part stands (None: it has none), and the rest."""

    place: int
    prefix: int | None
    shared: int
    rest: list[int]


@dataclass(frozen=True, slots=True)
class _Bank:
    """Keys and values of prefixes, one after the other: for each layer two tensors [heads, tokens, head width]."""

    layers: list[tuple[Any, Any]]
    starts: list[int]
    lengths: list[int]


class SharedPrefix:
    """Hidden states at the last token of each row."""

    def __init__(self, base: Any, batch_tokens: int) -> None:
        self._base = base
        self._batch_tokens = batch_tokens

    @staticmethod
    def fits(config: Any) -> bool:
        """Whether a model of this configuration can take its prompts from a cache."""
        layers = getattr(config, "layer_types", None)
        whole = set(layers) == {"full_attention"} if layers else getattr(config, "sliding_window", None) is None
        # These turn positions by an angle that depends on the length of the text.
        by_length = (getattr(config, "rope_parameters", None) or {}).get("rope_type") in ("dynamic", "longrope")
        return config.model_type in _CAUSAL and whole and not by_length

    def last_states(self, rows: Sequence[list[int]], groups: Sequence[Hashable]) -> Iterator[tuple[list[int], Any]]:
        """Yields places of rows, and their states [places, width], until every row has had its turn."""
        prefixes, cuts = _split(rows, groups)
        for chunk in _chunks(prefixes, cuts, _HELD * self._batch_tokens):
            used = sorted({cut.prefix for cut in chunk if cut.prefix is not None})
            bank = self._bank([prefixes[number] for number in used])
            where = {number: slot for slot, number in enumerate(used)}
            rests, shared = [len(cut.rest) for cut in chunk], [cut.shared for cut in chunk]
            for numbers in batches(rests, self._batch_tokens, shared):
                batch = [chunk[number] for number in numbers]
                slots = [None if cut.prefix is None else where[cut.prefix] for cut in batch]
                yield [cut.place for cut in batch], self._states([cut.rest for cut in batch], slots, bank)

    def _bank(self, prefixes: Sequence[list[int]]) -> _Bank:
        import torch

        pieces: dict[int, list[tuple[Any, Any]]] = {}
        for places in batches(list(map(len, prefixes)), self._batch_tokens):
            ids, mask = _padded([prefixes[place] for place in places], self._base.device)
            cache = self._base(input_ids=ids, attention_mask=mask, use_cache=True).past_key_values
            for row, place in enumerate(places):
                end = len(prefixes[place])
                pieces[place] = [(layer.keys[row, :, :end], layer.values[row, :, :end]) for layer in cache.layers]
        lengths = list(map(len, prefixes))
        starts = [sum(lengths[:place]) for place in range(len(lengths))]
        n_layers = len(pieces[0]) if pieces else 0
        layers = [
            tuple(torch.cat([pieces[place][layer][part] for place in range(len(prefixes))], dim=1) for part in (0, 1))
            for layer in range(n_layers)
        ]
        return _Bank([(keys, values) for keys, values in layers], starts, lengths)

    def _states(self, rests: Sequence[list[int]], slots: Sequence[int | None], bank: _Bank) -> Any:
        """The last hidden state of each row, its prefix taken from the bank."""
        import torch
        from transformers import DynamicCache

        device = self._base.device
        ids, mask = _padded(rests, device)
        shared = [0 if slot is None else bank.lengths[slot] for slot in slots]
        n, width = len(rests), max(shared)
        options: dict[str, Any] = {}
        if width:
            # Tokens of the bank in the order of the batch; what stands beyond a prefix is masked.
            at = torch.zeros((n, width), dtype=torch.long)
            seen = torch.zeros((n, width), dtype=torch.long)
            for row, slot in enumerate(slots):
                if slot is not None:
                    start = bank.starts[slot]
                    at[row, : shared[row]] = torch.arange(start, start + shared[row])
                    seen[row, : shared[row]] = 1
            at, seen = at.flatten().to(device), seen.to(device)
            cache = DynamicCache()
            for number, (keys, values) in enumerate(bank.layers):
                parts = [part[:, at].unflatten(1, (n, width)).transpose(0, 1) for part in (keys, values)]
                cache.update(*parts, number)
            mask = torch.cat([seen, mask], dim=1)
            lengths = torch.tensor(shared, device=device)[:, None]
            options = {"past_key_values": cache, "position_ids": lengths + torch.arange(ids.shape[1], device=device)}
        states = self._base(input_ids=ids, attention_mask=mask, use_cache=False, **options).last_hidden_state
        return states[torch.arange(n, device=device), torch.tensor([len(rest) - 1 for rest in rests], device=device)]


def _padded(rows: Sequence[list[int]], device: Any) -> tuple[Any, Any]:
    """Ids and mask, padded on the right with an id that attention never sees."""
    import torch

    width = max(map(len, rows))
    ids = [row + [0] * (width - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _split(rows: Sequence[list[int]], groups: Sequence[Hashable]) -> tuple[list[list[int]], list[_Cut]]:
    """The prefixes that are worth sharing, and every row cut at its own; a rest has a token at least."""
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    prefixes: list[list[int]] = []
    cuts = []
    for places in members.values():
        first, most = rows[places[0]], min(len(rows[place]) for place in places) - 1
        # Of several texts, the least and the greatest have the least in common.
        low, high = min(rows[place] for place in places), max(rows[place] for place in places)
        shared = next((at for at in range(most) if low[at] != high[at]), most)
        if shared * (len(places) - 1) < _WORTH:
            cuts += [_Cut(place, None, 0, rows[place]) for place in places]
            continue
        cuts += [_Cut(place, len(prefixes), shared, rows[place][shared:]) for place in places]
        prefixes.append(first[:shared])
    return prefixes, cuts


def _chunks(prefixes: Sequence[list[int]], cuts: Sequence[_Cut], most: int) -> Iterator[list[_Cut]]:
    """Cuts whose prefixes hold at most `most` tokens together; rows of one prefix stay together."""
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
