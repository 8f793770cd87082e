"""Turns texts and prompts into messages and conversations, and puts prompts in the order of the pairs."""

from __future__ import annotations

from prefdata.errors import ConservationError
from prefdata.lazy import np, pa, pc

__all__ = ["as_answers", "joined_prompts", "messages_of", "with_answers"]


def joined_prompts(pairs: pa.Table, prompts: pa.Table) -> pa.ListArray:
    """Returns the messages of each pair's prompt, in the order of the pairs.

    Raises:
        ConservationError: a pair's prompt is not among `prompts`.
    """
    from prefdata.tables.schemas import MESSAGES, one_chunk

    messages = one_chunk(prompts["messages"])
    # Prompts that are already in the order of the pairs are not copied.
    if not prompts["prompt_id"].equals(pairs["prompt_id"]):
        rows = pc.index_in(pairs["prompt_id"], value_set=prompts["prompt_id"].combine_chunks())
        if rows.null_count:
            raise ConservationError(f"dataset: {rows.null_count} pairs without their prompt")
        messages = one_chunk(prompts["messages"].take(rows))
    return messages.cast(MESSAGES)


def messages_of(texts: pa.ChunkedArray, role: str, keys: tuple[str, str] = ("role", "content")) -> pa.StructArray:
    """Turns each text into one message of a role; `keys` are the names of the fields for role and text."""
    from prefdata.tables.schemas import one_chunk

    content = one_chunk(texts)
    return pa.StructArray.from_arrays([pa.repeat(pa.scalar(role), len(content)), content], names=list(keys))


def as_answers(texts: pa.ChunkedArray) -> pa.ListArray:
    """Turns each text into a conversation of one assistant turn."""
    turns = messages_of(texts, "assistant")
    return pa.ListArray.from_arrays(pa.array(np.arange(len(turns) + 1, dtype=np.int32)), turns)


def with_answers(messages: pa.ListArray, texts: pa.ChunkedArray) -> pa.ListArray:
    """Appends to each conversation its text, as the assistant's turn."""
    turns, answers = messages.flatten(), messages_of(texts, "assistant")
    ends = np.cumsum(messages.value_lengths().to_numpy(zero_copy_only=False) + 1, dtype=np.int32)
    order = np.empty(len(turns) + len(answers), dtype=np.int64)
    is_answer = np.zeros(len(order), dtype=bool)
    is_answer[ends - 1] = True
    order[is_answer] = np.arange(len(turns), len(order))
    order[~is_answer] = np.arange(len(turns))
    offsets = pa.array(np.concatenate([np.zeros(1, np.int32), ends]))
    return pa.ListArray.from_arrays(offsets, pa.concat_arrays([turns, answers]).take(pa.array(order)))
