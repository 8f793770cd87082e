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
"""Roles of messages → what LLaMA-Factory calls them by default."""
_ASKS = ("user", "tool")
_DESCRIPTION: Mapping[str, JSON] = {
    # A folder beside dataset_info.json, which `datasets` opens: its card says which files are which split, however
    # many there are. As `file_name`, a folder would bring the test split along, and a file one part of the rows.
    "script_url": ".",
    "formatting": "sharegpt",
    "ranking": True,
    "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    # All of them: where there are tags, one that is left out has no default.
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
    assistant alternate and end in one to be answered: LLaMA-Factory skips other rows with a warning, so prompts that
    don't fit are refused.

    `dataset_info.json` describes the train split by the dataset's name, and any other one by the name and the split's.

    Source: data/README.md of LLaMA-Factory (sharegpt, preference dataset), its parser.py, loader.py and converter.py.
    """

    kind: Literal["llamafactory"] = "llamafactory"

    @property
    def traced(self) -> bool:
        """Never: LLaMA-Factory has no use for it."""
        return False

    def documents(self, name: str, splits: Sequence[str]) -> Mapping[str, JSON]:
        """`dataset_info.json`: how LLaMA-Factory reads the splits, when the dataset folder is its `dataset_dir`."""
        described = {
            name if split == self.train_split else f"{name}_{split}": {
                **_DESCRIPTION,
                "subset": self.kind,
                "split": split,
            }
            for split in splits
        }
        return {"dataset_info.json": described}

    def rows(self, pairs: pa.Table, prompts: pa.Table, answers: pa.Table | None = None) -> pa.Table:
        """See `Layout.rows`.

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
        why = _unfit(roles)
        if why is not None:
            raise InputError(
                f"prompt {prompt_id!r} does not fit the layout 'llamafactory': {why}, and LLaMA-Factory would skip it",
                valid="a system prompt or none, then turns of user (or tool) and assistant in turn, the last to be "
                "answered",
                hint="leave the layout out of the recipe, or such prompts out of its source; what was sampled and "
                "scored is kept",
            )


def _unfit(roles: Sequence[str]) -> str | None:
    first = 1 if roles and roles[0] == "system" else 0
    for place, role in enumerate(roles[first:]):
        if role not in (_ASKS if place % 2 == 0 else ("assistant",)):
            return f"its turn {first + place + 1} is {role!r}"
    return None if (len(roles) - first) % 2 else "it does not end in a turn to be answered"
