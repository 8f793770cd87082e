"""Runs the worker of `GPM`: a language model's body, and the heads that embed each answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.errors import ModelError
from prefdata.models.chat import ItemError, common_length, mark_id
from prefdata.scoring.rewards._reward_common import (
    batches,
    chat_template,
    check_answer_is_read,
    cut,
    device,
    length_limit,
    load_tokenizer,
    loading,
    same_rows,
    serve,
)
from prefdata.spec import JSON

__all__ = ["main"]

_NAME = "the preference model"
_HEADS = ("value_head.weight", "prompt_head.weight")
_VALID = (
    "a checkpoint of general-preference/GPM-*: the tensors of a language model, value_head.weight of shape "
    "[2k, hidden size] and, for weights that depend on the prompt, prompt_head.weight of shape [k, hidden size]"
)


def main() -> None:
    """Embeds until every answer is embedded."""
    serve(lambda config: _Embedder(config).embed)


@dataclass(frozen=True, slots=True)
class _Row:
    key: JSON
    ids: list[int]
    gate_at: int
    """Index of the prompt's last token."""
    truncated_from: int | None


class _Embedder:
    def __init__(self, config: dict[str, JSON]) -> None:
        self._config = config
        self._device = device()
        self._tokenizer = load_tokenizer(config["folder"])
        self._template = chat_template(self._tokenizer, config)
        self._eos = mark_id(self._tokenizer, "eos")
        if self._eos is None and config["last_token"] == "end_of_text":
            raise ModelError(
                f"the tokenizer in {config['folder']!r} has no end-of-text token, at which the embedding is read",
                hint="set eos_token in tokenizer_config.json",
            )
        model, value_head, prompt_head = _load(config["folder"], config["dtype"])
        self._limit = length_limit(config["max_length"], self._tokenizer, model.config.get_text_config())
        self._model = model.to(self._device).eval()
        self._value_head = value_head.to(self._device)
        self._prompt_head = None if prompt_head is None else prompt_head.to(self._device)

    def embed(self, items: Sequence[dict[str, JSON]]) -> Iterator[dict[str, JSON]]:
        """Yields one result for each answer, batch by batch."""
        rows = []
        for item in items:
            try:
                rows.append(self.row(item))
            except ItemError as error:
                yield error.result(item["key"])
        distinct = same_rows(rows, lambda row: (row.gate_at, *row.ids))
        for indices in batches([len(group[0].ids) for group in distinct], self._config["batch_tokens"]):
            batch = [distinct[index] for index in indices]
            for group, (embedding, gate) in zip(batch, self.embeddings([rows[0] for rows in batch]), strict=True):
                yield from (_result(row, embedding, gate) for row in group)

    def row(self, item: dict[str, JSON]) -> _Row:
        """Reads one answer with its prompt as tokens: cut at the end, and ended as `last_token` says.

        Raises:
            ItemError: the text can't be read.
        """
        prompt, answer = item["prompt"], {"role": "assistant", "content": item["answer"]}
        self._template.check([*prompt, answer])
        if len(prompt) == 1:
            # After the check: the form may hold control tokens.
            prompt = [{**prompt[0], "content": self._config["prompt_form"].replace("{prompt}", prompt[0]["content"])}]
        ids = self._ids([*prompt, answer])
        beginning = self._ids(prompt[:1] if self._config["gate_at"] == "first_message" else prompt)
        kept, truncated_from = cut(ids, self._limit, truncate=self._config["truncate"])
        if not kept or not beginning:
            raise ItemError("template_failed", "the chat template writes nothing")
        forced = self._config["last_token"] == "end_of_text"
        if truncated_from is not None:
            check_answer_is_read(common_length(self._ids(prompt), ids), self._limit - forced)
        gate_at = min(len(beginning), len(kept)) - 1
        last = self._eos if forced and self._eos is not None else kept[-1]
        return _Row(item["key"], [*kept[:-1], last], gate_at, truncated_from)

    def _ids(self, messages: list[dict[str, JSON]]) -> list[int]:
        """Reads the template's text with the tokenizer, as in training: its BOS tokens are those of `GPM.bos`."""
        text = self._template.text(messages)
        bos, bos_id = self._tokenizer.bos_token, mark_id(self._tokenizer, "bos")
        if self._config["bos"] == "none" and bos:
            text = text.replace(bos, "")
        ids: list[int] = self._tokenizer(text, add_special_tokens=self._config["bos"] != "none")["input_ids"]
        if self._config["bos"] == "once":
            while bos_id is not None and ids[:2] == [bos_id, bos_id]:
                ids = ids[1:]
        return ids

    def embeddings(self, rows: Sequence[_Row]) -> list[tuple[list[float], list[float]]]:
        """Computes embedding and gate of each row, in one batch padded at the left."""
        import torch

        width = max(len(row.ids) for row in rows)
        padding = [width - len(row.ids) for row in rows]
        ids = [[row.ids[-1]] * pad + row.ids for row, pad in zip(rows, padding, strict=True)]
        mask = [[0] * pad + [1] * len(row.ids) for row, pad in zip(rows, padding, strict=True)]
        # The positions of the padding have no effect, as attention never sees it.
        positions = [[1] * pad + list(range(len(row.ids))) for row, pad in zip(rows, padding, strict=True)]
        with torch.inference_mode():
            states = self._model(
                input_ids=torch.tensor(ids, device=self._device),
                attention_mask=torch.tensor(mask, device=self._device),
                position_ids=torch.tensor(positions, device=self._device),
                use_cache=False,
            ).last_hidden_state
            vectors = states[:, -1].float() @ self._value_head.T
            embeddings = torch.nn.functional.normalize(vectors, p=2, dim=-1)
            if self._prompt_head is None:
                gates = torch.ones(len(rows), embeddings.shape[1] // 2)
            else:
                ends = [pad + row.gate_at for row, pad in zip(rows, padding, strict=True)]
                at_ends = states[torch.arange(len(rows)), torch.tensor(ends)].float()
                gates = torch.softmax(at_ends @ self._prompt_head.T, dim=-1)
        return list(zip(embeddings.tolist(), gates.tolist(), strict=True))


def _result(row: _Row, embedding: list[float], gate: list[float]) -> dict[str, JSON]:
    result: dict[str, JSON] = {"key": row.key, "n_tokens": len(row.ids)}
    if row.truncated_from is not None:
        result["truncated_from"] = row.truncated_from
    if all(map(math.isfinite, [*embedding, *gate])):
        return result | {"embedding": embedding, "gate": gate}
    return result | {"failure": "not_finite", "detail": "the model's output is not finite"}


def _load(folder: str, dtype: str) -> tuple[Any, Any, Any]:
    """Loads the body, the value head, and the prompt head or None; the heads in float32.

    Raises:
        ModelError: the folder can't be loaded, or a tensor is missing, unexpected or of the wrong shape.
    """
    from transformers import AutoModel

    with loading(folder, _NAME):
        heads = _heads(folder)
        model, report = AutoModel.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, use_safetensors=True
        )
    # The language model's own head may be there and is not used.
    unexpected = set(report["unexpected_keys"]) - {*_HEADS, "lm_head.weight"}
    wrong = [f"lack {name}" for name in sorted(report["missing_keys"])[:3]]
    wrong += [f"have {name}, which is not used" for name in sorted(unexpected)[:3]]
    wrong += [f"have {name} of shape {list(shape)}" for name, shape, _ in sorted(report["mismatched_keys"])[:3]]
    wrong += [f"lack {_HEADS[0]}"] if _HEADS[0] not in heads else []
    hidden = model.config.get_text_config().hidden_size
    shapes = {name: list(head.shape) for name, head in heads.items()}
    width = shapes.get(_HEADS[0], [2])[0]
    expected = {_HEADS[0]: [width + width % 2, hidden], _HEADS[1]: [width // 2, hidden]}
    wrong += [f"have {name} of shape {shape}" for name, shape in shapes.items() if shape != expected[name]]
    if wrong:
        raise ModelError(
            f"the weights in {folder!r} {', '.join(wrong)}",
            valid=_VALID,
            hint="name a preference model, not a language model or a pointwise reward model",
        )
    return model, heads[_HEADS[0]], heads.get(_HEADS[1])


def _heads(folder: str) -> dict[str, Any]:
    from safetensors import safe_open

    """Reads the heads that the folder has, in float32."""
    heads = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            names = set(tensors.keys())
            heads.update({name: tensors.get_tensor(name).float() for name in _HEADS if name in names})
    return heads


if __name__ == "__main__":
    main()
