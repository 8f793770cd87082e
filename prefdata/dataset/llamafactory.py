"""`LlamaFactory`: the ShareGPT preference layout of LLaMA-Factory, with the `dataset_info.json` that describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from prefdata.dataset._turns import joined_prompts, messages_of
from prefdata.dataset.base import Layout
from prefdata.errors import InputError
from prefdata.lazy import pa, pc
from prefdata.spec import JSON

__all__ = ["LlamaFactory"]

_TAGS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
"""Role of a message → LLaMA-Factory's default name for it."""
_ASKING = ("user", "tool")
_DESCRIPTION: Mapping[str, JSON] = {
    # The dataset folder, which `datasets` opens: its card lists the files of each split. As `file_name`, a folder would
    # include the test split, and a file only one part of the rows.
    "script_url": ".",
    "formatting": "sharegpt",
    "ranking": True,
    "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    # All tags: as soon as one is set, the others have no default.
    "tags": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "observation_tag": "observation",
        "function_tag": "function_call",
        "system_tag": "system",
    },
}


class LlamaFactory(Layout):
    """`prompt_id`, `conversations`, `chosen` and `rejected` in turns of `from` and `value`, and `dataset_info.json`.

    A system prompt is the first turn of `conversations`. After it, turns of the user or a tool and turns of the
    assistant alternate and end in one to be answered: LLaMA-Factory skips other rows with a warning, so other
    prompts are refused.

    `dataset_info.json` describes the train split under the dataset's name, and every other split under the
    dataset's name and its own.

    Source: data/README.md of LLaMA-Factory (sharegpt, preference dataset), its parser.py, loader.py and converter.py.
    """

    kind: Literal["llamafactory"] = "llamafactory"

    @property
    def traced(self) -> bool:
        """False: LLaMA-Factory does not use the trace."""
        return False

    def documents(self, name: str, splits: Sequence[str]) -> Mapping[str, JSON]:
        """Returns `dataset_info.json`, which describes the splits when the dataset folder is the `dataset_dir`."""
        entries = {
            name if split == self.train_split else f"{name}_{split}": {
                **_DESCRIPTION,
                "subset": self.kind,
                "split": split,
            }
            for split in splits
        }
        return {"dataset_info.json": entries}

    def rows(self, pairs: pa.Table, prompts: pa.Table, answers: pa.Table | None = None) -> pa.Table:
        """Makes the rows: see `Layout.rows`.

        Raises:
            InputError: LLaMA-Factory would skip a prompt.
        """
        messages = joined_prompts(pairs, prompts)
        turns = messages.flatten()
        ends = pc.cumulative_sum(messages.value_lengths())
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends.cast(pa.int32())])
        _check(pairs["prompt_id"].to_pylist(), pa.ListArray.from_arrays(offsets, turns.field("role")).to_pylist())
        tags = pa.array(_TAGS.values()).take(pc.index_in(turns.field("role"), value_set=pa.array(_TAGS)))
        conversations = pa.StructArray.from_arrays([tags, turns.field("content")], names=["from", "value"])
        columns = {
            "prompt_id": pairs["prompt_id"],
            "conversations": pa.ListArray.from_arrays(offsets, conversations),
            "chosen": messages_of(pairs["response_chosen"], "gpt", ("from", "value")),
            "rejected": messages_of(pairs["response_rejected"], "gpt", ("from", "value")),
        }
        return pa.table(columns)


def _check(prompt_ids: Sequence[str], prompts: Sequence[Sequence[str]]) -> None:
    for prompt_id, roles in zip(prompt_ids, prompts, strict=True):
        why = _problem(roles)
        if why is not None:
            raise InputError(
                f"prompt {prompt_id!r} does not fit the layout 'llamafactory': {why}, and LLaMA-Factory would skip it",
                valid="a system prompt or none, then turns of user (or tool) and assistant in turn, the last to be "
                "answered",
                hint="leave the layout out of the recipe, or such prompts out of its source; all answers and "
                "scores are kept",
            )


def _problem(roles: Sequence[str]) -> str | None:
    start = 1 if roles and roles[0] == "system" else 0
    for position, role in enumerate(roles[start:]):
        if role not in (_ASKING if position % 2 == 0 else ("assistant",)):
            return f"its turn {start + position + 1} is {role!r}"
    return None if (len(roles) - start) % 2 else "it does not end in a turn to be answered"
