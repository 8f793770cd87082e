"""In which order pairs are trained on, so that a batch holds sequences of nearly the same length."""

from __future__ import annotations

from collections.abc import Sequence

from prefdata.lazy import np

__all__ = ["batches_by_length", "grouped_order", "padding_ratio"]

_BATCHES_SORTED_TOGETHER = 50


def grouped_order(lengths: Sequence[int], batch: int, *, seed: int, epoch: int) -> list[int]:
    """Returns an order of all rows in which each run of `batch` rows has nearly one length.

    Rows are shuffled, sorted by length within stretches of 50 batches, and the batches of each stretch are shuffled
    again. So every batch is random among rows of its length, and neither length nor time follows the other. Rows that
    fill no batch come last.

    Args:
        lengths: of each row, in tokens.
        batch: rows that are computed together, over all devices.
        seed: of the training.
        epoch: each has an order of its own.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    sizes = np.asarray(lengths)
    batches: list[list[int]] = []
    stretch = batch * _BATCHES_SORTED_TOGETHER
    for start in range(0, len(order), stretch):
        rows = order[start : start + stretch]
        rows = rows[np.argsort(-sizes[rows], kind="stable")]
        whole = [rows[place : place + batch].tolist() for place in range(0, len(rows), batch)]
        rest = whole.pop() if len(whole[-1]) < batch else []
        batches += [whole[place] for place in random.permutation(len(whole)).tolist()]
        # Only the last stretch has a rest.
        batches += [rest] if rest else []
    return [row for rows in batches for row in rows]


def padding_ratio(sides: Sequence[tuple[int, int]], order: Sequence[int], batch: int) -> float:
    """Returns tokens computed over real tokens, where each batch is padded to its longest sequence.

    Args:
        sides: tokens of both sequences of each row.
        order: in which rows are computed.
        batch: rows that are computed together.
    """
    computed = real = 0
    for start in range(0, len(order), batch):
        rows = [sides[row] for row in order[start : start + batch]]
        computed += 2 * len(rows) * max(max(row) for row in rows)
        real += sum(map(sum, rows))
    return computed / real


def batches_by_length(rows: Sequence[int], lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Puts rows into batches of at most `most_tokens` padded tokens, the longest rows first.

    Args:
        rows: positions of pairs.
        lengths: of the longer sequence of every pair, by position.
        most_tokens: of a batch, both answers counted; a longer pair is a batch by itself.
    """
    batches: list[list[int]] = []
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        if batches and 2 * (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= most_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
