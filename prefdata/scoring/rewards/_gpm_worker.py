"""The worker of `GPM`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.errors import ModelError
from prefdata.scoring.rewards._reward_common import (
    UnscorableError,
    batches,
    control_tokens,
    cut,
    device,
    length_limit,
    load_tokenizer,
    loading,
    refuse_control_tokens,
    serve,
)
from prefdata.spec import JSON

__all__ = ["main"]

_WHAT = "the preference model"
_HEADS = ("value_head.weight", "prompt_head.weight")
_VALID = (
    "a checkpoint of general-preference/GPM-*: the tensors of a language model, value_head.weight of shape "
    "[2k, hidden size] and, where prompts weigh, prompt_head.weight of shape [k, hidden size]"
)


def main() -> None:
    """Serves until every answer is embedded."""
    serve(lambda config: _Embedder(config).embed)


@dataclass(frozen=True, slots=True)
class _Row:
    key: JSON
    ids: list[int]
    gate_at: int
    """Place of the prompt's last token."""
    truncated_from: int | None


class _Embedder:
    def __init__(self, config: dict[str, JSON]) -> None:
        self._config = config
        self._device = device()
        self._tokenizer = load_tokenizer(config["folder"])
        if self._tokenizer.eos_token_id is None:
            raise ModelError(
                f"the tokenizer in {config['folder']!r} has no end-of-text token, which the embedding is read at",
                hint="set eos_token in tokenizer_config.json",
            )
        model, value_head, prompt_head = _load(config["folder"], config["dtype"])
        self._limit = length_limit(config["max_length"], self._tokenizer, model.config.get_text_config())
        self._model = model.to(self._device).eval()
        self._value_head = value_head.to(self._device)
        self._prompt_head = None if prompt_head is None else prompt_head.to(self._device)
        self._control = control_tokens(self._tokenizer) if config["refuse_control_tokens"] else []

    def embed(self, items: Sequence[dict[str, JSON]]) -> Iterator[dict[str, JSON]]:
        """One result for each answer, batch by batch."""
        rows = []
        for item in items:
            try:
                rows.append(self.row(item))
            except UnscorableError as error:
                yield {"key": item["key"], "failure": error.reason, "detail": error.detail}
        for places in batches([len(row.ids) for row in rows], self._config["batch_tokens"]):
            batch = [rows[place] for place in places]
            for row, (embedding, gate) in zip(batch, self.embeddings(batch), strict=True):
                result: dict[str, JSON] = {"key": row.key, "n_tokens": len(row.ids)}
                if row.truncated_from is not None:
                    result["truncated_from"] = row.truncated_from
                if all(map(math.isfinite, [*embedding, *gate])):
                    yield result | {"embedding": embedding, "gate": gate}
                else:
                    yield result | {"failure": "not_finite", "detail": "the model's output is not finite"}

    def row(self, item: dict[str, JSON]) -> _Row:
        """The tokens of one answer with its prompt: cut at the end, the last one made the end-of-text token.

        Raises:
            UnscorableError: the text can't be read.
        """
        prompt, answer = item["prompt"], {"role": "assistant", "content": item["answer"]}
        refuse_control_tokens([*prompt, answer], self._control)
        ids = self._ids([*prompt, answer])
        beginning = self._ids(prompt[:1] if self._config["gate_at"] == "first_message" else prompt)
        kept, truncated_from = cut(ids, self._limit, truncate=self._config["truncate"])
        if not kept or not beginning:
            raise UnscorableError("template_failed", "the chat template writes nothing")
        gate_at = min(len(beginning), len(kept)) - 1
        return _Row(item["key"], [*kept[:-1], self._tokenizer.eos_token_id], gate_at, truncated_from)

    def _ids(self, messages: list[dict[str, JSON]]) -> list[int]:
        # A template is a program of the model's authors: it raises whatever its engine or its filters raise.
        try:
            text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=False, tokenize=False)
        except Exception as error:
            raise UnscorableError("template_failed", f"{type(error).__name__}: {error}") from error
        bos, bos_id = self._tokenizer.bos_token, self._tokenizer.bos_token_id
        if self._config["bos"] == "none" and bos:
            text = text.replace(bos, "")
        ids: list[int] = self._tokenizer(text, add_special_tokens=self._config["bos"] != "none")["input_ids"]
        if self._config["bos"] == "once":
            while bos_id is not None and ids[:2] == [bos_id, bos_id]:
                ids = ids[1:]
        return ids

    def embeddings(self, rows: Sequence[_Row]) -> list[tuple[list[float], list[float]]]:
        """Embedding and gate of each row, in one batch padded at the left."""
        import torch

        width = max(len(row.ids) for row in rows)
        padding = [width - len(row.ids) for row in rows]
        ids = [[row.ids[-1]] * pad + row.ids for row, pad in zip(rows, padding, strict=True)]
        mask = [[0] * pad + [1] * len(row.ids) for row, pad in zip(rows, padding, strict=True)]
        # Those of the padding mean nothing, as attention never sees it.
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


def _load(folder: str, dtype: str) -> tuple[Any, Any, Any]:
    """The body, the value head and the prompt head if there is one; the heads in float32.

    Raises:
        ModelError: the folder can't be loaded, or a tensor is missing, too many or of the wrong shape.
    """
    from transformers import AutoModel

    with loading(folder, _WHAT):
        heads = _heads(folder)
        model, report = AutoModel.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    # The language model's own head is of no use here, and may be there.
    unknown = set(report["unexpected_keys"]) - {*_HEADS, "lm_head.weight"}
    wrong = [f"lack {name}" for name in sorted(report["missing_keys"])[:3]]
    wrong += [f"have {name}, which is of no use" for name in sorted(unknown)[:3]]
    wrong += [f"have {name} of shape {list(found)}" for name, found, _ in sorted(report["mismatched_keys"])[:3]]
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
            hint="name a preference model, not the language model or the pointwise reward model that it is made of",
        )
    return model, heads[_HEADS[0]], heads.get(_HEADS[1])


def _heads(folder: str) -> dict[str, Any]:
    from safetensors import safe_open

    found = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            there = set(tensors.keys())
            found.update({name: tensors.get_tensor(name).float() for name in _HEADS if name in there})
    return found


if __name__ == "__main__":
    main()
