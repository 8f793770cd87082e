"""A part in words, as `check` and the card show it."""

from __future__ import annotations

from prefdata.flow.plan import describe
from prefdata.models import VLLM
from prefdata.sampling import Samples


def test_a_part_in_words_is_one_line_whatever_its_texts_hold() -> None:
    sampler = Samples(name="policy", generator=VLLM(model="m"), stop=("\n\n", "\x1b[31m", " end", "###"))
    words = describe(sampler)
    assert words.isprintable()
    assert words.endswith(r"stop '\n\n', '\x1b[31m', ' end', ###)")
