"""Runs the worker of `PairRM`: logits of DeBERTa for a prompt and two answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.errors import ModelError
from prefdata.models.chat import ItemError
from prefdata.scoring.rewards._reward_common import batches, cut, device, loading, same_rows, serve
from prefdata.spec import JSON

__all__ = ["main"]

_NAME = "the pair ranker"
_VALID = "the tensors of llm-blender/PairRM-hf: pretrained_model.* and head_layer.*, in safetensors files"
_PREFIXES = {
    "source_prefix_id": "<|source|>",
    "cand1_prefix_id": "<|candidate1|>",
    "cand2_prefix_id": "<|candidate2|>",
}
"""Name in the configuration → the token with which a part of the input begins."""


def main() -> None:
    """Ranks until every prompt is ranked."""
    serve(lambda config: _Ranker(config).rank)


@dataclass(slots=True)
class _Prompt:
    """A prompt and its answers as token ids; None for an answer that can't be read."""

    result: dict[str, JSON]
    source: list[int]
    answers: list[list[int] | None]
    missing: int
    """Number of logits that are still to come."""


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: _Prompt
    first: int
    second: int

    @property
    def parts(self) -> tuple[list[int], list[int], list[int]]:
        first, second = self.prompt.answers[self.first], self.prompt.answers[self.second]
        assert first is not None and second is not None
        return self.prompt.source, first, second


class _Ranker:
    def __init__(self, config: dict[str, JSON]) -> None:
        import torch

        self._config = config
        self._text = _Text(config)
        self._device = device()
        model_config = self._text.model_config
        self._model = _load(config["folder"], model_config).eval()
        if config["dtype"] != "auto":
            self._model = self._model.to(getattr(torch, config["dtype"]))
        self._model = self._model.to(self._device)

    def rank(self, items: Sequence[dict[str, JSON]]) -> Iterator[dict[str, JSON]]:
        """Yields one result for each prompt, when its last pair is computed."""
        rows: list[_Row] = []
        for item in items:
            try:
                prompt = self._text.read(item)
            except ItemError as error:
                yield error.result(item["key"])
                continue
            if not prompt.missing:
                yield prompt.result
            readable = [i for i, ids in enumerate(prompt.answers) if ids is not None]
            rows += [_Row(prompt, i, j) for i in readable for j in readable if i != j]
        distinct = same_rows(rows, lambda row: tuple(map(tuple, row.parts)))
        lengths = [sum(map(len, group[0].parts)) for group in distinct]
        for indices in batches(lengths, self._config["batch_tokens"]):
            batch = [distinct[index] for index in indices]
            for group, logit in zip(batch, self.logits([group[0].parts for group in batch]), strict=True):
                for row in group:
                    row.prompt.result["logits"][row.first][row.second] = logit if math.isfinite(logit) else None
                    row.prompt.missing -= 1
                    if not row.prompt.missing:
                        yield row.prompt.result

    def logits(self, rows: Sequence[tuple[list[int], list[int], list[int]]]) -> list[float]:
        """Computes, for each row of source, first and second answer, the logit that the first answer is better.

        The head reads the states at the three prefixes: it gives a value to (source, first) and to (source, second).
        The logit is the difference of the two, averaged over the tasks.
        """
        import torch

        ids, prefixes = [], []
        for source, first, second in rows:
            ids.append([*source, first[0], self._text.first, *first[2:], second[0], self._text.second, *second[2:]])
            prefixes.append([1, len(source) + 1, len(source) + len(first) + 1])
        width = max(map(len, ids))
        padded = [row + [self._text.padding] * (width - len(row)) for row in ids]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in ids]
        with torch.inference_mode():
            states = self._model["pretrained_model"](
                input_ids=torch.tensor(padded, device=self._device),
                attention_mask=torch.tensor(mask, device=self._device),
            ).last_hidden_state
            columns = torch.tensor(prefixes, device=self._device)
            at_prefixes = states[torch.arange(len(ids), device=self._device)[:, None], columns]
            source, first, second = at_prefixes.unbind(dim=1)
            values = [self._model["head_layer"](torch.cat([source, answer], dim=-1)) for answer in (first, second)]
        logits: list[float] = (values[0] - values[1]).float().mean(dim=-1).tolist()
        return logits


class _Text:
    """Reads texts as token ids: `[CLS] prefix text [SEP]` for the source and each answer, cut to their limits."""

    def __init__(self, config: dict[str, JSON]) -> None:
        from tokenizers import Tokenizer
        from transformers import AutoConfig

        folder = config["folder"]
        self._config = config
        with loading(folder, _NAME):
            self.model_config = AutoConfig.from_pretrained(folder)
        if self.model_config.model_type != "deberta-v2" or not hasattr(self.model_config, "n_tasks"):
            raise ModelError(
                f"the model in {folder!r} is of type {self.model_config.model_type!r}, and not a pair ranker",
                valid=_VALID,
                hint="name llm-blender/PairRM-hf: the folder of llm-blender/PairRM has another configuration",
            )
        positions = self.model_config.max_position_embeddings
        longest = config["source_max_length"] + 2 * config["candidate_max_length"]
        if self.model_config.position_biased_input and longest > positions:
            raise ModelError(
                f"{longest} tokens of a prompt and two answers are more than the {positions} positions of the ranker",
                hint="lower `source_max_length` and `candidate_max_length`",
            )
        file = Path(folder) / "tokenizer.json"
        if not file.is_file():
            raise ModelError(f"{_NAME} in {folder!r} has no tokenizer.json", hint="check that the files are complete")
        # The file as it is: the tokenizer that transformers makes of it normalises texts differently.
        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._control = [each.content for each in self._tokenizer.get_added_tokens_decoder().values() if each.content]
        self.padding = self.model_config.pad_token_id or 0
        self._source, self.first, self.second = self._prefixes(folder)
        self._separator = self._tokenizer.encode(_PREFIXES["source_prefix_id"]).ids[-1]
        self._separator_text: str = self._tokenizer.id_to_token(self._separator) or ""

    def _prefixes(self, folder: str) -> list[int]:
        """Returns the ids of the three prefixes.

        Raises:
            ModelError: tokenizer and configuration disagree on one.
        """
        prefixes = []
        for name, token in _PREFIXES.items():
            ids = self._tokenizer.encode(token).ids
            configured = getattr(self.model_config, name, None)
            if len(ids) != 3 or ids[1] != configured:
                raise ModelError(
                    f"the tokenizer in {folder!r} writes {token!r} as {ids}, but the configuration has {name} = "
                    f"{configured}",
                    valid="a tokenizer that writes [CLS], the token of the configuration and [SEP]",
                    hint="take tokenizer and configuration of one model",
                )
            prefixes.append(ids[1])
        return prefixes

    def read(self, item: dict[str, JSON]) -> _Prompt:
        """Reads a prompt with its answers. An answer that can't be read has its failure in the result.

        Raises:
            ItemError: the prompt itself can't be read.
        """
        source, cut_from = self._ids(item["source"], "source_prefix_id", self._config["source_max_length"])
        total = self._config["source_max_length"] + 2 * self._config["candidate_max_length"]
        limit = (total - len(source)) // 2
        result: dict[str, JSON] = {"key": item["key"], "answers": []}
        if cut_from is not None:
            result["prompt_truncated_from"] = cut_from
        answers: list[list[int] | None] = []
        for text in item["answers"]:
            try:
                ids, cut_from = self._ids(text, "cand1_prefix_id", limit)
            except ItemError as error:
                answers.append(None)
                result["answers"].append({"failure": error.reason, "detail": error.detail})
                continue
            answers.append(ids)
            truncation = {} if cut_from is None else {"truncated_from": cut_from}
            result["answers"].append({"n_tokens": len(ids), **truncation})
        n = sum(ids is not None for ids in answers)
        result["logits"] = [[None] * len(answers) for _ in answers]
        return _Prompt(result, source, answers, n * (n - 1))

    def _ids(self, text: str, prefix: str, limit: int) -> tuple[list[int], int | None]:
        """Returns the token ids of a text, and their number before they were cut, or None.

        A text that is cut loses its end, but keeps its [SEP].

        Raises:
            ItemError: `control_tokens` or `too_long`.
        """
        if self._config["refuse_control_tokens"]:
            for token in self._control:
                if token in text:
                    raise ItemError("control_tokens", f"a text contains {token!r}")
        # As LLM-Blender does; has an effect only where control tokens are allowed.
        text = text.replace(self._separator_text, " ")
        ids = self._tokenizer.encode(_PREFIXES[prefix] + text).ids
        kept, cut_from = cut(ids, limit, truncate=self._config["truncate"])
        return kept if cut_from is None else [*kept[:-1], self._separator], cut_from


def _load(folder: str, config: Any) -> Any:
    """Loads the body and the head, named like the published tensors.

    Raises:
        ModelError: the folder can't be loaded, or a tensor is missing, unexpected or of another shape.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import DebertaV2Model

    hidden = config.hidden_size
    with loading(folder, _NAME):
        model = torch.nn.ModuleDict(
            {
                "pretrained_model": DebertaV2Model(config),
                "head_layer": torch.nn.Sequential(
                    torch.nn.Dropout(),
                    torch.nn.Linear(2 * hidden, hidden),
                    torch.nn.Tanh(),
                    torch.nn.Dropout(),
                    torch.nn.Linear(hidden, config.n_tasks),
                ),
            }
        )
        tensors = {}
        for file in sorted(Path(folder).glob("*.safetensors")):
            tensors.update(load_file(file))
    # A buffer that older versions of transformers saved.
    tensors.pop("pretrained_model.embeddings.position_ids", None)
    expected = model.state_dict()
    wrong = [f"lack {name}" for name in sorted(expected.keys() - tensors.keys())[:3]]
    wrong += [f"have {name}, which is not used" for name in sorted(tensors.keys() - expected.keys())[:3]]
    wrong += [
        f"have {name} of shape {list(tensors[name].shape)} for {list(expected[name].shape)}"
        for name in sorted(expected.keys() & tensors.keys())
        if tensors[name].shape != expected[name].shape
    ][:3]
    if wrong:
        raise ModelError(
            f"the weights in {folder!r} {', '.join(wrong)}", valid=_VALID, hint="check that the files are complete"
        )
    model.load_state_dict(tensors, assign=True)
    return model


if __name__ == "__main__":
    main()
