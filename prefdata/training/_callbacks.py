"""What a training writes while it runs, and when it stops. Runs in the training process only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from prefdata.spec import JSON
from prefdata.training.job import COMPLETE

__all__ = ["MarkComplete", "MetricsFile", "StopAt"]


class MetricsFile(TrainerCallback):  # type: ignore[misc]  # transformers is not type-checked here
    """Keeps every logged number as one JSON object a line; a resumed training drops what it does again."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._file.write_text("".join(map(_line, state.log_history)), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Only the trainer's own entry has the step.
        if state.is_world_process_zero and state.log_history:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(_line(state.log_history[-1]))


class StopAt(TrainerCallback):  # type: ignore[misc]  # transformers is not type-checked here
    """Stops after a number of steps, and saves then."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= self._step:
            control.should_training_stop = control.should_save = True


class MarkComplete(TrainerCallback):  # type: ignore[misc]  # transformers is not type-checked here
    """Marks a checkpoint when every process has written its part."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.wait: Callable[[], None] = lambda: None

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.wait()
        if state.is_world_process_zero:
            (self._folder / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def _line(entry: Mapping[str, JSON]) -> str:
    """A line of JSON, which has no NaN and no infinity: they become null."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in entry.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"
