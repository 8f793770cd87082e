"""Runs the worker of `VLLM`: sends requests into the engine when they arrive, and answers out when they finish."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from prefdata.errors import ModelError, closest
from prefdata.models.chat import ItemError
from prefdata.models.hosted._prompts import Prompts
from prefdata.models.worker import WorkerChannel, open_channel
from prefdata.spec import JSON
from prefdata.tables.finish_reasons import ending_of


def main() -> None:
    """Answers until every request is answered."""
    with open_channel() as channel:
        engine = _start(channel.config)
        loop = _Loop(channel, engine)
        for options in channel.rounds():
            loop.run(options["decoding"])


def _start(config: dict[str, JSON]) -> Any:
    from vllm import EngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    names = [field.name for field in dataclasses.fields(EngineArgs)]
    for option in config["engine"]:
        if option not in names:
            raise ModelError(
                f"vLLM has no engine option {option!r}",
                valid=closest(option, names),
                hint="fix `engine` of the generator 'vllm'",
            )
    # Eager: compiling takes two minutes at every start and gives other texts for a tenth more speed. Blocks of 32:
    # the samples of a prompt share whole blocks only, and the default of 128 is longer than most prompts.
    # Whole prefills: after a partial one vLLM puts the random number back, which a CPU's generator can't do.
    on_cpu = {"enforce_eager": True, "block_size": 32, "enable_chunked_prefill": False}
    on_cpu = on_cpu if current_platform.is_cpu() else {}
    limit = {} if config["max_model_len"] is None else {"max_model_len": config["max_model_len"]}
    options = {
        "model": config["folder"],
        "dtype": config["dtype"],
        "trust_remote_code": config["trust_remote_code"],
        "max_num_seqs": config["max_num_seqs"],
        "gpu_memory_utilization": config["gpu_memory_utilization"],
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        # Free white space in JSON is a loop that small models don't leave before their token limit.
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
        **on_cpu,
        **limit,
        **_lora_options(config["lora"], config["folder"]),
        **config["engine"],
    }
    try:
        # The context chooses the default number of tokens in a step; without it, vLLM's offline default is halved.
        return LLMEngine.from_engine_args(EngineArgs(**options), usage_context=UsageContext.LLM_CLASS)
    except _refusals() as error:
        # An impossible value: a length beyond the model's, a cache too small for it, an unknown quantisation, ...
        raise ModelError(
            f"vLLM can't start: {error}", hint="fix the fields or the `engine` options of the generator 'vllm'"
        ) from error


def _lora_options(adapter: str | None, model: str) -> dict[str, JSON]:
    """Returns the engine options for an adapter, above all the room for its rank; empty without one.

    Raises:
        ModelError: the adapter is for another model, or its rank is too large for vLLM.
    """
    if adapter is None:
        return {}
    _check_adapter(adapter, model)
    from vllm.config.lora import MaxLoRARanks

    adapter_config = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))
    rank = max(map(int, [adapter_config.get("r", 8), *(adapter_config.get("rank_pattern") or {}).values()]))
    rooms = [room for room in sorted(get_args(MaxLoRARanks)) if room >= rank]
    if not rooms:
        raise ModelError(
            f"the adapter in {adapter!r} has rank {rank}",
            valid=f"at most {max(get_args(MaxLoRARanks))}, the limit of vLLM",
            hint="merge the adapter into its base model and save that",
        )
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": rooms[0]}


def _check_adapter(adapter: str, model: str) -> None:
    """Checks that an adapter is for this model: vLLM silently copies weights that are too small into a corner.

    Raises:
        ModelError: the shapes of adapter and model differ.
    """
    from safetensors import safe_open

    def shapes(folder: str) -> dict[str, list[int]]:
        by_name = {}
        for file in sorted(Path(folder).glob("*.safetensors")):
            with safe_open(file, "np") as weights:
                for name in weights.keys():  # noqa: SIM118 - it is not a dict and can't be iterated
                    tensor = weights.get_slice(name)
                    # Packed weights of quantised models have shapes of their own.
                    if tensor.get_dtype() in ("F32", "F16", "BF16"):
                        by_name[name] = list(tensor.get_shape())
        return by_name

    model_shapes = shapes(model)
    for name, shape in shapes(adapter).items():
        for half, side in ((".lora_A.weight", 1), (".lora_B.weight", 0)):
            base = model_shapes.get(name.removeprefix("base_model.model.").replace(half, ".weight"))
            if name.endswith(half) and base is not None and base[side] != shape[side]:
                raise ModelError(
                    f"the adapter in {adapter!r} is for another model: {name!r} has the shape {shape}, "
                    f"but the weight that it changes has the shape {base}",
                    hint="name the model that the adapter was trained on",
                )


def _tokenizer(config: dict[str, JSON]) -> Any:
    """Loads the model's own tokenizer: vLLM may replace it by a class without a chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(config["folder"], trust_remote_code=config["trust_remote_code"])


def _refusals() -> tuple[type[Exception], ...]:
    """Lists what vLLM raises for values that it does not take: its own error, and three of Python's."""
    from vllm import exceptions

    return (getattr(exceptions, "VLLMClientError", ValueError), ValueError, TypeError, NotImplementedError)


@dataclass
class _Pending:
    """A request under way."""

    item: dict[str, JSON]
    ids: list[int]
    """Token ids of the prompt."""
    result: dict[str, JSON] | None = None
    """The answer, while a second pass computes its log-probabilities."""


class _Loop:
    """Feeds the engine and steps it, so that it is never idle while a request waits."""

    def __init__(self, channel: WorkerChannel, engine: Any) -> None:
        self._channel = channel
        self._engine = engine
        self._decoding: dict[str, JSON] = {}
        self._prompts = Prompts.of(_tokenizer(channel.config), channel.config, engine.model_config.max_model_len)
        self._refusals = _refusals()
        self._lora = _lora_request(engine, channel.config["lora"])
        self._structure_of_all = _checked_structure(channel.config["structured_outputs"])
        self._numbers = itertools.count()
        self._under_way: dict[str, _Pending] = {}
        """Requests by their number in the engine."""

    def run(self, decoding: dict[str, JSON]) -> None:
        self._decoding = decoding
        while not (self._channel.ended and not self._under_way):
            for item in self._channel.receive(at_least=0 if self._under_way else 1):
                self._add(item)
            if self._under_way:
                for output in self._engine.step():
                    if output.finished:
                        self._finish(self._under_way.pop(output.request_id), output)

    def _add(self, item: dict[str, JSON]) -> None:
        try:
            ids = self._prompts.render(item["messages"])
            params = self._params(item, room=self._prompts.room(ids))
            self._send(_Pending(item, ids), ids, params)
        except ItemError as error:
            self._channel.send(error.result(item["key"]))
        except self._refusals as error:
            # vLLM does not take the request, for example because its JSON schema has an unknown keyword.
            self._fail(item, f"{type(error).__name__}: {error}")

    def _send(self, pending: _Pending, ids: list[int], params: Any) -> None:
        name = str(next(self._numbers))
        (prompt,) = self._engine.renderer.render_cmpl([{"prompt_token_ids": ids}])
        self._engine.add_request(name, prompt, params, lora_request=self._lora)
        self._under_way[name] = pending

    def _fail(self, item: dict[str, JSON], detail: str) -> None:
        self._channel.send(ItemError("request_failed", detail).result(item["key"]))

    def _params(self, item: dict[str, JSON], *, room: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        structure = self._structure(item["json_schema"])
        return SamplingParams(
            temperature=self._decoding["temperature"],
            top_p=self._decoding["top_p"],
            max_tokens=min(self._decoding["max_tokens"], room),
            stop=list(self._decoding["stop"]),
            top_k=self._decoding.get("top_k") or 0,
            presence_penalty=self._decoding.get("presence_penalty", 0.0),
            frequency_penalty=self._decoding.get("frequency_penalty", 0.0),
            seed=item["seed"],
            structured_outputs=structure,
            # vLLM reads them after the grammar, so those of a structured answer come from a second pass.
            logprobs=item["top_logprobs"] or None if structure is None else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _structure(self, schema: JSON) -> Any:
        from vllm.sampling_params import StructuredOutputsParams

        if schema is not None and self._structure_of_all is not None:
            raise ModelError(
                "a request has a JSON schema, but the generator 'vllm' has `structured_outputs` for every answer",
                hint="leave `structured_outputs` out of the generator of a sampler or judge that asks for JSON",
            )
        if schema is not None:
            return StructuredOutputsParams(json=schema)
        return None if self._structure_of_all is None else StructuredOutputsParams(**self._structure_of_all)

    def _finish(self, pending: _Pending, output: Any) -> None:
        answer, key, n_likeliest = output.outputs[0], pending.item["key"], pending.item["top_logprobs"]
        if ending_of(answer.finish_reason) not in ("whole", "cut_off"):
            self._fail(pending.item, f"vLLM ended it with {answer.finish_reason!r}")
            return
        if pending.result is not None:
            # The first token of the prompt has none; the positions of the answer are the last ones.
            positions = [*output.prompt_logprobs[len(pending.ids) :], answer.logprobs[0]]
            self._channel.send({**pending.result, "top_logprobs": self._likeliest(positions, n_likeliest)})
            return
        result: dict[str, JSON] = {
            "key": key,
            "text": self._text(answer),
            "finish_reason": answer.finish_reason,
            "n_prompt_tokens": len(output.prompt_token_ids),
            "n_tokens": len(answer.token_ids),
        }
        if pending.item["json_schema"] is None and self._structure_of_all is None:
            # A grammar begins with the answer itself, also after a mark that the prompt ends with.
            result["opened"] = self._prompts.opened(pending.ids)
        if not n_likeliest:
            self._channel.send(result)
        elif answer.logprobs is not None:
            self._channel.send({**result, "top_logprobs": self._likeliest(answer.logprobs, n_likeliest)})
        else:
            self._read_logprobs(dataclasses.replace(pending, result=result), list(answer.token_ids))

    def _text(self, answer: Any) -> str:
        text = self._prompts.revealed(answer.token_ids, answer.text)
        cuts = [at for stop in self._decoding["stop"] if (at := text.find(stop)) >= 0]
        return text[: min(cuts)] if cuts else text

    def _read_logprobs(self, pending: _Pending, answer: list[int]) -> None:
        """Requests the model's own log-probabilities of an answer that a grammar has shaped."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        n_likeliest = pending.item["top_logprobs"]
        params = SamplingParams(
            temperature=0,
            max_tokens=1,
            logprobs=n_likeliest,
            prompt_logprobs=n_likeliest,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        # The last token itself is left out: the one new token takes its position and shows its log-probabilities.
        try:
            self._send(pending, pending.ids + answer[:-1], params)
        except self._refusals as error:
            self._fail(pending.item, f"{type(error).__name__}: {error}")

    def _likeliest(self, positions: list[Mapping[int, Any]], n: int) -> list[list[list[JSON]]]:
        """Returns the `n` likeliest tokens at each position."""
        return [
            self._prompts.likeliest([(token, entry.logprob) for token, entry in logprobs.items()], n)
            for logprobs in positions
        ]


def _checked_structure(structure: dict[str, JSON] | None) -> dict[str, JSON] | None:
    """Checks the structure of every answer, because vLLM itself ignores names that it does not have.

    Raises:
        ModelError: vLLM does not take it.
    """
    from vllm.sampling_params import StructuredOutputsParams

    hint = "fix `structured_outputs` of the generator 'vllm'"
    names = [field.name for field in dataclasses.fields(StructuredOutputsParams) if field.init]
    for name in structure or ():
        if name not in names:
            raise ModelError(f"vLLM has no structured output {name!r}", valid=closest(name, names), hint=hint)
    try:
        _ = structure is None or StructuredOutputsParams(**structure)
    except _refusals() as error:
        raise ModelError(f"vLLM does not take the structured_outputs {structure!r}: {error}", hint=hint) from error
    return structure


def _lora_request(engine: Any, adapter: str | None) -> Any:
    """Loads the adapter, and returns the object that names it in requests; None without an adapter.

    Raises:
        ModelError: vLLM can't load it.
    """
    from vllm.lora.request import LoRARequest

    if adapter is None:
        return None
    request = LoRARequest("adapter", 1, adapter)
    # The loader raises whatever reading files, matching names or copying weights raises; from another process, an
    # Exception with that message.
    try:
        engine.add_lora(request)
    except Exception as error:
        raise ModelError(
            f"vLLM can't load the adapter in {adapter!r}: {error}",
            hint="is it a LoRA adapter for this very model, with adapter_model.safetensors next to its configuration?",
        ) from error
    return request


if __name__ == "__main__":
    main()
