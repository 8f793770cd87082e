"""The order of the rows: all of them, seeded, in batches of nearly one length."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from prefdata.training.batches import grouped_order, padding_ratio


@given(st.lists(st.integers(1, 2000), max_size=400), st.integers(1, 16), st.integers(0, 3), st.integers(0, 3))
def test_every_row_once_an_epoch_and_the_same_by_seed(lengths, batch, seed, epoch):
    order = grouped_order(lengths, batch, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert order == grouped_order(lengths, batch, seed=seed, epoch=epoch)


def test_another_epoch_has_another_order_and_other_batches():
    draw = random.Random(3)
    lengths = [draw.randrange(20, 1000) for _ in range(1000)]
    first, second = (grouped_order(lengths, 4, seed=1, epoch=epoch) for epoch in (0, 1))
    together = [{tuple(sorted(order[at : at + 4])) for at in range(0, 1000, 4)} for order in (first, second)]
    assert len(together[0] & together[1]) < 25


def test_length_does_not_follow_time():
    draw = random.Random(4)
    lengths = [draw.randrange(20, 1000) for _ in range(2000)]
    order = grouped_order(lengths, 4, seed=0, epoch=0)
    quarters = [sum(lengths[row] for row in order[at : at + 500]) / 500 for at in range(0, 2000, 500)]
    assert max(quarters) < 1.15 * min(quarters)


def test_little_is_padding():
    """Pairs like those of UltraFeedback: both answers of a pair are alike, pairs are not."""
    draw = random.Random(5)
    sides = []
    for _ in range(1000):
        prompt, common = min(900, round(draw.lognormvariate(4.7, 1.0))), draw.gauss(5.3, 0.7)
        sides.append(tuple(min(1024, prompt + round(2.718 ** (common + draw.gauss(0, 0.4)))) for _ in range(2)))
    lengths = [max(pair) for pair in sides]
    for batch in (2, 4, 8):
        grouped = padding_ratio(sides, grouped_order(lengths, batch, seed=0, epoch=0), batch)
        shuffled = padding_ratio(sides, draw.sample(range(1000), 1000), batch)
        assert grouped < 1.25 < shuffled
