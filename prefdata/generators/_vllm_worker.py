"""The worker of `VLLM`: requests go into the engine as they come in, answers go out as they finish."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from prefdata.errors import ModelError, closest
from prefdata.generators._chat import Chat, Unanswerable, failure
from prefdata.spec import JSON
from prefdata.worker import Door, connect


def main() -> None:
    """Serves until every request is answered."""
    with connect() as door:
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


def _tokenizer(config: dict[str, JSON]) -> Any:
    """The model's own tokenizer: vLLM's stand-in for it may be a class without a chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(config["folder"], trust_remote_code=config["trust_remote_code"])


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for values that it does not take: errors of its own, pydantic's, or ValueError."""
    from vllm import exceptions

    return (getattr(exceptions, "VLLMClientError", ValueError), ValueError, TypeError, NotImplementedError)


class _Loop:
    """Feeds the engine and steps it, so that it is never idle while there is a request."""

    def __init__(self, door: Door, engine: Any) -> None:
        self._door = door
        self._engine = engine
        self._decoding = door.config["decoding"]
        self._chat = Chat(
            _tokenizer(door.config),
            max_model_len=engine.model_config.max_model_len,
            refuse_control_tokens=door.config["refuse_control_tokens"],
        )
        self._refusals = _refusals()
        self._numbers = itertools.count()
        self._keys: dict[str, str] = {}

    def run(self) -> None:
        while not (self._door.ended and not self._keys):
            for item in self._door.receive(at_least=0 if self._keys else 1):
                self._add(item)
            if self._keys:
                for output in self._engine.step():
                    if output.finished:
                        self._send(output)

    def _add(self, item: dict[str, JSON]) -> None:
        key = item["key"]
        name = str(next(self._numbers))
        try:
            ids = self._chat.render(item["messages"])
            params = self._params(item, room=self._chat.room(ids))
            (prompt,) = self._engine.renderer.render_cmpl([{"prompt_token_ids": ids}])
            self._engine.add_request(name, prompt, params)
        except Unanswerable as told:
            self._door.send(failure(key, told.reason, told.detail))
        except self._refusals as error:
            # What vLLM says about a request that it does not take, such as a JSON schema with an unknown keyword.
            self._door.send(failure(key, "request_failed", f"{type(error).__name__}: {error}"))
        else:
            self._keys[name] = key

    def _params(self, item: dict[str, JSON], *, room: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        schema = item["json_schema"]
        return SamplingParams(
            temperature=self._decoding["temperature"],
            top_p=self._decoding["top_p"],
            max_tokens=min(self._decoding["max_tokens"], room),
            stop=list(self._decoding["stop"]),
            seed=item["seed"],
            structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _send(self, output: Any) -> None:
        key = self._keys.pop(output.request_id)
        answer = output.outputs[0]
        if answer.finish_reason not in ("stop", "length"):
            self._door.send(failure(key, "request_failed", f"vLLM ended it with {answer.finish_reason!r}"))
            return
        self._door.send(
            {
                "key": key,
                "text": answer.text,
                "finish_reason": answer.finish_reason,
                "n_prompt_tokens": len(output.prompt_token_ids),
                "n_tokens": len(answer.token_ids),
            }
        )


if __name__ == "__main__":
    main()
