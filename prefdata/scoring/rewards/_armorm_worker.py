"""Runs the worker of `ArmoRM`: a Llama backbone, and the heads of the published checkpoint by their published names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from prefdata.errors import ModelError
from prefdata.models.chat import ItemError
from prefdata.scoring.rewards._reward_common import (
    BatchScorer,
    Reward,
    Row,
    cut,
    device,
    load_tokenizer,
    loading,
    serve,
)
from prefdata.spec import JSON

__all__ = ["GATE", "OBJECTIVES", "main"]

GATE = (128009, 128006, 78191, 128007, 271)
"""Llama 3's ids of `<|eot_id|><|start_header_id|>assistant<|end_header_id|>\\n\\n`: the prompt ends at the first."""

OBJECTIVES = (
    *("helpsteer-helpfulness", "helpsteer-correctness", "helpsteer-coherence"),
    *("helpsteer-complexity", "helpsteer-verbosity", "ultrafeedback-overall_score"),
    *("ultrafeedback-instruction_following", "ultrafeedback-truthfulness", "ultrafeedback-honesty"),
    *("ultrafeedback-helpfulness", "beavertails-is_safe", "prometheus-score"),
    *("argilla-overall_quality", "argilla-judge_lm", "code-complexity", "code-style", "code-explanation"),
    *("code-instruction-following", "code-readability"),
)
"""Names of the rows of the regression layer, from the model's card."""

_ARCHITECTURE = "LlamaForRewardModelWithGating"


def main() -> None:
    """Scores until every answer is scored."""
    serve(lambda config: _ArmoRM(config).score)


def gate_position(ids: list[int]) -> int:
    """Finds the end of the last answer's prompt: the last index in `ids` at which `GATE` begins.

    Raises:
        ItemError: `no_gate_position`: `GATE` does not occur.
    """
    for at in range(len(ids) - len(GATE), -1, -1):
        if tuple(ids[at : at + len(GATE)]) == GATE:
            return at
    raise ItemError("no_gate_position", "the template wrote no assistant turn of Llama 3")


class _ArmoRM(BatchScorer):
    def __init__(self, config: dict[str, JSON]) -> None:
        backbone, heads = _load(Path(config["folder"]), config["dtype"])
        self._device = device()
        self._backbone = backbone.to(self._device).eval()
        self._heads = heads.to(self._device)
        super().__init__(config, load_tokenizer(config["folder"]), backbone.config)

    def _row(self, item: dict[str, JSON]) -> Row:
        ids = self._ids(item)
        # Searched in the whole text: in one that was cut, the last gate could be that of an earlier turn.
        gate = gate_position(ids)
        kept, truncated_from = cut(ids, self._limit, truncate=self._config["truncate"])
        if gate + len(GATE) >= len(kept):
            raise ItemError("prompt_fills_the_limit", f"the prompt alone fills the limit of {self._limit} tokens")
        return Row(item["key"], kept, truncated_from)

    def _rewards(self, rows: list[list[int]]) -> list[Reward]:
        """Scores one batch, padded on the right: positions and gates count from the left."""
        import torch

        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=self._device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self._device)
        every = torch.arange(len(rows), device=self._device)
        last = mask.sum(dim=1) - 1
        gates = torch.tensor([gate_position(row) for row in rows], device=self._device)
        with torch.inference_mode():
            states = self._backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            scores, rewards = self._heads(states[every, last].float(), states[every, gates].float())
        if not self._config["objectives"]:
            return [Reward(score) for score in scores.tolist()]
        names = OBJECTIVES if rewards.shape[1] == len(OBJECTIVES) else list(map(str, range(rewards.shape[1])))
        return [
            Reward(score, {"rewards": {name: float(f"{one:.6g}") for name, one in zip(names, each, strict=True)}})
            for score, each in zip(scores.tolist(), rewards.tolist(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Heads:
    """The published heads, by their published names, in float32."""

    tensors: dict[str, Any]
    n_hidden: int
    temperature: float

    @staticmethod
    def shapes(config: Any) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each tensor."""
        n = getattr(config, "num_objectives", 19)
        width: int = getattr(config, "gating_hidden_dim", 1024)
        shapes: dict[str, tuple[int, ...]] = {
            "regression_layer.weight": (n, config.hidden_size),
            "reward_transform_matrix": (n, n),
            "gating.logit_scale": (1,),
        }
        widths = [config.hidden_size, *[width] * getattr(config, "gating_n_hidden", 3), n]
        for layer, (before, after) in enumerate(pairwise(widths)):
            shapes[f"gating.layers.{layer}.weight"] = (after, before)
            shapes[f"gating.layers.{layer}.bias"] = (after,)
        return shapes

    def to(self, device: str) -> _Heads:
        return replace(self, tensors={name: tensor.to(device) for name, tensor in self.tensors.items()})

    def __call__(self, last: Any, prompt: Any) -> tuple[Any, Any]:
        """Computes scores [rows] and rewards [rows, objectives] from states [rows, width] at last token and gate."""
        import torch
        from torch.nn import functional

        rewards = last @ self.tensors["regression_layer.weight"].T
        for layer in range(self.n_hidden + 1):
            weight, bias = (self.tensors[f"gating.layers.{layer}.{part}"] for part in ("weight", "bias"))
            prompt = functional.linear(functional.relu(prompt) if layer else prompt, weight, bias)
        gate = torch.softmax(prompt / self.temperature, dim=1) * self.tensors["gating.logit_scale"]
        return (gate * (rewards @ self.tensors["reward_transform_matrix"])).sum(dim=1), rewards


def _load(folder: Path, dtype: str) -> tuple[Any, _Heads]:
    """Loads the backbone and the heads.

    Raises:
        ModelError: the folder can't be loaded, is not an ArmoRM, or has other tensors.
    """
    from transformers import LlamaConfig, LlamaModel

    with loading(str(folder)):
        config = LlamaConfig.from_pretrained(folder)
        if _ARCHITECTURE not in (config.architectures or []):
            raise ModelError(
                f"the model in {str(folder)!r} is not an ArmoRM but {', '.join(config.architectures or ['unnamed'])}",
                valid=f"a checkpoint of {_ARCHITECTURE}",
                hint="name RLHFlow/ArmoRM-Llama3-8B-v0.1, or score with `reward_model`",
            )
        shapes = _Heads.shapes(config)
        files = _files(folder)
        _check_tensors(folder, files, {**_backbone_shapes(config), **shapes})
        tensors = {}
        for name in shapes:
            with _opened(files[name]) as weights:
                tensors[name] = weights.get_tensor(name).float()
        # The heads are in the same files; transformers reads the backbone past them.
        backbone = LlamaModel.from_pretrained(folder, config=config, dtype=dtype, use_safetensors=True)
    n_hidden = getattr(config, "gating_n_hidden", 3)
    return backbone, _Heads(tensors, n_hidden, float(getattr(config, "gating_temperature", 10)))


def _backbone_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    import torch
    from transformers import LlamaModel

    with torch.device("meta"):
        model = LlamaModel(config)
    return {f"model.{name}": tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _opened(path: Path) -> Any:
    from safetensors import safe_open

    return safe_open(path, framework="pt")


def _files(folder: Path) -> dict[str, Path]:
    """Returns the file of each tensor, by the tensor's name."""
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with _opened(path) as weights:
            files |= dict.fromkeys(weights.keys(), path)
    return files


def _check_tensors(folder: Path, files: dict[str, Path], shapes: dict[str, tuple[int, ...]]) -> None:
    """Checks names and shapes of all tensors.

    Raises:
        ModelError: one is missing, unexpected or of another shape.
    """
    wrong = {"missing": sorted(shapes.keys() - files.keys()), "unexpected": sorted(files.keys() - shapes.keys())}
    for name in sorted(shapes.keys() & files.keys()):
        with _opened(files[name]) as weights:
            stored = tuple(weights.get_slice(name).get_shape())
        if stored != shapes[name]:
            wrong.setdefault("of another shape", []).append(f"{name} {list(stored)} for {list(shapes[name])}")
    problems = [
        f"{kind}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for kind, names in wrong.items()
        if names
    ]
    if problems:
        raise ModelError(
            f"the tensors in {str(folder)!r} are not those of an ArmoRM; {'; '.join(problems)}",
            valid=f"the tensors of {_ARCHITECTURE} in safetensors files, each with its published name and shape",
            hint="check that every shard is there and belongs to this configuration",
        )


if __name__ == "__main__":
    main()
