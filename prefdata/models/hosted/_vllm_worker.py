"""The worker of `VLLM`: requests go into the engine as they come in, answers go out as they finish."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from prefdata.errors import ModelError, closest
from prefdata.models.hosted._chat import Chat, Unanswerable, failure
from prefdata.models.worker import WorkerChannel, open_channel
from prefdata.spec import JSON


def main() -> None:
    """Serves until every request is answered."""
    with open_channel() as door:
        engine = _start(door.config)
        _Loop(door, engine).run()


def _start(config: dict[str, JSON]) -> Any:
    from vllm import EngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    known = [field.name for field in dataclasses.fields(EngineArgs)]
    for option in config["engine"]:
        if option not in known:
            raise ModelError(
                f"vLLM has no engine option {option!r}",
                valid=closest(option, known),
                hint="mend `engine` of the generator 'vllm'",
            )
    # Eager: compiling takes two minutes at every start and gives other texts for a tenth more speed. Blocks of 32:
    # the samples of a prompt share whole blocks only, and the default of 128 is longer than most prompts.
    # Whole prefills: vLLM takes back the random number of a partial one, which a CPU's generator can't do.
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
        # A value that can't be: a length beyond the model's, a cache too small for it, an unknown quantisation, ...
        raise ModelError(
            f"vLLM can't start: {error}", hint="mend the fields or the `engine` options of the generator 'vllm'"
        ) from error


def _lora_options(adapter: str | None, model: str) -> dict[str, JSON]:
    """What the engine must be told before it takes an adapter: above all, room for its rank."""
    if adapter is None:
        return {}
    _check_adapter(adapter, model)
    from vllm.config.lora import MaxLoRARanks

    told = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))
    rank = max(map(int, [told.get("r", 8), *(told.get("rank_pattern") or {}).values()]))
    fitting = [room for room in sorted(get_args(MaxLoRARanks)) if room >= rank]
    if not fitting:
        raise ModelError(
            f"the adapter in {adapter!r} has rank {rank}",
            valid=f"at most {max(get_args(MaxLoRARanks))}, as vLLM has it",
            hint="merge the adapter into its base model and save that",
        )
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": fitting[0]}


def _check_adapter(adapter: str, model: str) -> None:
    """Refuses an adapter of another model: vLLM copies weights that are too small into a corner, without a word."""
    from safetensors import safe_open

    def shapes(folder: str) -> dict[str, list[int]]:
        found = {}
        for file in sorted(Path(folder).glob("*.safetensors")):
            with safe_open(file, "np") as weights:
                for name in weights.keys():  # noqa: SIM118 - it is no dict and can't be iterated
                    part = weights.get_slice(name)
                    # Packed weights of quantised models have shapes of their own.
                    if part.get_dtype() in ("F32", "F16", "BF16"):
                        found[name] = list(part.get_shape())
        return found

    whole = shapes(model)
    for name, shape in shapes(adapter).items():
        for half, side in ((".lora_A.weight", 1), (".lora_B.weight", 0)):
            base = whole.get(name.removeprefix("base_model.model.").replace(half, ".weight"))
            if name.endswith(half) and base is not None and base[side] != shape[side]:
                raise ModelError(
                    f"the adapter in {adapter!r} is for another model: {name!r} has the shape {shape}, "
                    f"and the weight that it changes {base}",
                    hint="name the model that the adapter was trained on",
                )


def _tokenizer(config: dict[str, JSON]) -> Any:
    """The model's own tokenizer: vLLM's stand-in for it may be a class without a chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(config["folder"], trust_remote_code=config["trust_remote_code"])


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for values that it does not take: errors of its own, pydantic's, or ValueError."""
    from vllm import exceptions

    return (getattr(exceptions, "VLLMClientError", ValueError), ValueError, TypeError, NotImplementedError)


@dataclass
class _Asked:
    """A request under way."""

    item: dict[str, JSON]
    ids: list[int]
    """The prompt."""
    result: dict[str, JSON] | None = None
    """The answer, once its log-probabilities are all that is waited for."""


class _Loop:
    """Feeds the engine and steps it, so that it is never idle while there is a request."""

    def __init__(self, door: WorkerChannel, engine: Any) -> None:
        self._door = door
        self._engine = engine
        self._decoding = door.config["decoding"]
        self._chat = Chat(
            _tokenizer(door.config),
            max_model_len=engine.model_config.max_model_len,
            refuse_control_tokens=door.config["refuse_control_tokens"],
        )
        self._refusals = _refusals()
        self._lora = _lora_request(engine, door.config["lora"])
        self._every = _checked_structure(door.config["structured_outputs"])
        self._numbers = itertools.count()
        self._asked: dict[str, _Asked] = {}

    def run(self) -> None:
        while not (self._door.ended and not self._asked):
            for item in self._door.receive(at_least=0 if self._asked else 1):
                self._add(item)
            if self._asked:
                for output in self._engine.step():
                    if output.finished:
                        self._finished(self._asked.pop(output.request_id), output)

    def _add(self, item: dict[str, JSON]) -> None:
        try:
            ids = self._chat.render(item["messages"])
            params = self._params(item, room=self._chat.room(ids))
            self._ask(_Asked(item, ids), ids, params)
        except Unanswerable as told:
            self._door.send(failure(item["key"], told.reason, told.detail))
        except self._refusals as error:
            # What vLLM says about a request that it does not take, such as a JSON schema with an unknown keyword.
            self._door.send(failure(item["key"], "request_failed", f"{type(error).__name__}: {error}"))

    def _ask(self, asked: _Asked, ids: list[int], params: Any) -> None:
        name = str(next(self._numbers))
        (prompt,) = self._engine.renderer.render_cmpl([{"prompt_token_ids": ids}])
        self._engine.add_request(name, prompt, params, lora_request=self._lora)
        self._asked[name] = asked

    def _params(self, item: dict[str, JSON], *, room: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        structure = self._structure(item["json_schema"])
        return SamplingParams(
            temperature=self._decoding["temperature"],
            top_p=self._decoding["top_p"],
            max_tokens=min(self._decoding["max_tokens"], room),
            stop=list(self._decoding["stop"]),
            seed=item["seed"],
            structured_outputs=structure,
            # vLLM takes them after the grammar: those of a structured answer come from a second pass.
            logprobs=item["top_logprobs"] or None if structure is None else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _structure(self, schema: JSON) -> Any:
        from vllm.sampling_params import StructuredOutputsParams

        if schema is not None and self._every is not None:
            raise ModelError(
                "a request brings a JSON schema, and the generator 'vllm' has `structured_outputs` for every answer",
                hint="leave `structured_outputs` out of the generator of a sampler or judge that asks for JSON",
            )
        if schema is not None:
            return StructuredOutputsParams(json=schema)
        return None if self._every is None else StructuredOutputsParams(**self._every)

    def _finished(self, asked: _Asked, output: Any) -> None:
        answer, key, wanted = output.outputs[0], asked.item["key"], asked.item["top_logprobs"]
        if answer.finish_reason not in ("stop", "length"):
            self._door.send(failure(key, "request_failed", f"vLLM ended it with {answer.finish_reason!r}"))
            return
        if asked.result is not None:
            # The first of the prompt has nothing before it; the places of the answer are the last ones.
            places = [*output.prompt_logprobs[len(asked.ids) :], answer.logprobs[0]]
            self._door.send({**asked.result, "top_logprobs": self._likeliest(places, wanted)})
            return
        result: dict[str, JSON] = {
            "key": key,
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "n_prompt_tokens": len(output.prompt_token_ids),
            "n_tokens": len(answer.token_ids),
        }
        if not wanted:
            self._door.send(result)
        elif answer.logprobs is not None:
            self._door.send({**result, "top_logprobs": self._likeliest(answer.logprobs, wanted)})
        else:
            self._read_again(dataclasses.replace(asked, result=result), list(answer.token_ids))

    def _read_again(self, asked: _Asked, answer: list[int]) -> None:
        """Asks for the model's own log-probabilities of an answer that a grammar has shaped."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        wanted = asked.item["top_logprobs"]
        params = SamplingParams(
            temperature=0,
            max_tokens=1,
            logprobs=wanted,
            prompt_logprobs=wanted,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        # The last token itself is left out: the place where it stood is what the one new token shows.
        try:
            self._ask(asked, asked.ids + answer[:-1], params)
        except self._refusals as error:
            self._door.send(failure(asked.item["key"], "request_failed", f"{type(error).__name__}: {error}"))

    def _likeliest(self, places: list[Mapping[int, Any]], wanted: int) -> list[list[list[JSON]]]:
        return [self._chat.likeliest([(token, at.logprob) for token, at in place.items()], wanted) for place in places]


def _checked_structure(given: dict[str, JSON] | None) -> dict[str, JSON] | None:
    """What every answer must look like, if vLLM takes it; vLLM itself passes over names that it doesn't have."""
    from vllm.sampling_params import StructuredOutputsParams

    hint = "mend `structured_outputs` of the generator 'vllm'"
    known = [field.name for field in dataclasses.fields(StructuredOutputsParams) if field.init]
    for name in given or ():
        if name not in known:
            raise ModelError(f"vLLM has no structured output {name!r}", valid=closest(name, known), hint=hint)
    try:
        _ = given is None or StructuredOutputsParams(**given)
    except _refusals() as error:
        raise ModelError(f"vLLM does not take the structured_outputs {given!r}: {error}", hint=hint) from error
    return given


def _lora_request(engine: Any, adapter: str | None) -> Any:
    """What names the adapter in a request; loaded now, so that one that can't be is told before anything is asked."""
    from vllm.lora.request import LoRARequest

    if adapter is None:
        return None
    request = LoRARequest("adapter", 1, adapter)
    # The loader raises what reading files, matching names or copying weights raises; from another process, an
    # Exception with its words.
    try:
        engine.add_lora(request)
    except Exception as error:
        raise ModelError(
            f"vLLM can't load the adapter in {adapter!r}: {error}",
            hint="is it a LoRA adapter for this very model, with adapter_model.safetensors beside its configuration?",
        ) from error
    return request


if __name__ == "__main__":
    main()
