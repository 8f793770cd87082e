"""The time left goes by what this run has done since its first result."""

from __future__ import annotations

import io
from typing import Any

from tqdm import tqdm

from prefdata.flow.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def bar(total: int) -> tuple[Any, Clock]:
    made: Any = tqdm(total=total, file=io.StringIO(), mininterval=0)
    clock = made._time = Clock()
    made.start_t = made.last_print_t = clock.now
    return made, clock


def test_the_time_left_ignores_the_start_of_an_engine_and_what_was_there_before():
    shown, clock = bar(100)
    progress = Progress("answers", 100, "answers", shown)
    progress.advance(40, fresh=False)
    clock.now = 900.0
    progress.advance(1)
    for _ in range(9):
        clock.now += 2.0
        progress.advance(1)
    assert progress.done == 50
    facts = shown.format_dict
    assert (facts["n"] - facts["initial"], facts["elapsed"]) == (9, 18.0)
    # 50 left at 2 seconds each.
    assert "01:40" in str(shown).partition("<")[2]


def test_slow_work_has_a_rate_as_fast_work_has():
    with Progress.of("answers", 10, "answers") as progress:
        shown = progress._bar
        line = shown.format_meter(**{**shown.format_dict, "n": 4, "elapsed": 8.0, "rate": 0.5})
    assert "4/10 [00:08<00:12,  0.50 answers/s]" in line
