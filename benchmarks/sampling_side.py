"""Runs one side of `sampling.py`, in a process of its own; prints its measurements as one line of JSON.

It is also the engine worker of prefdata's side: the worker of `VLLM` itself, which notes times and steps in a file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODEL = "embedded:smollm2-135m-instruct"
TEMPERATURE, TOP_P, SEED = 0.7, 0.95, 1
MAX_MODEL_LEN, MAX_NUM_SEQS = 2048, 128
_MARK = "PREFDATA_BENCHMARK_MARK"


def cpu_seconds() -> float:
    """Returns the CPU seconds of this process and of the processes that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def cpu_seconds_of(process: int) -> float:
    """Returns the CPU seconds of another process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


class Steps:
    """Counts the engine's steps."""

    def __init__(self, engine: Any) -> None:
        self.count = 0
        step = engine.step

        def counted() -> Any:
            self.count += 1
            return step()

        engine.step = counted


def prompts(number: int) -> list[Any]:
    """Reads the first prompts of the bundled sample."""
    from prefdata.prompts import SamplePrompts
    from prefdata.records import Prompt, prompt_id_of
    from prefdata.spec import Context

    read = SamplePrompts().read(Context(seed=SEED))
    by_id = {prompt.prompt_id: prompt for prompt in read if isinstance(prompt, Prompt)}
    return sorted(list(by_id.values())[:number], key=lambda prompt: prompt_id_of(prompt.messages))


def raw(number: int, n: int, max_tokens: int, dtype: str, seeds: str) -> dict[str, float]:
    """Runs `LLM.chat` over all prompts in one call."""
    from vllm import LLM, SamplingParams

    from prefdata.models.folders import model_folder
    from prefdata.records import prompt_id_of
    from prefdata.spec import derive_seed

    sample = prompts(number)
    conversations = [list(prompt.messages) for prompt in sample]
    llm = LLM(
        str(model_folder(MODEL, {})),
        dtype=dtype,
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=MAX_NUM_SEQS,
        enforce_eager=True,
        block_size=32,
        enable_chunked_prefill=False,
        enable_prefix_caching=True,
    )
    steps, start, begun = Steps(llm.llm_engine), cpu_seconds(), time.monotonic()

    def params(i: int) -> Any:
        common = {"temperature": TEMPERATURE, "top_p": TOP_P, "max_tokens": max_tokens}
        if seeds == "single":
            # The seeds of the build: the very same answers.
            return SamplingParams(
                seed=derive_seed(SEED, prompt_id_of(sample[i // n].messages), "policy", i % n), **common
            )
        return SamplingParams(n=n, seed=i * n if seeds == "seeded" else None, **common)

    if seeds == "single":
        conversations = [messages for messages in conversations for _ in range(n)]
    outputs = llm.chat(conversations, [params(i) for i in range(len(conversations))], use_tqdm=False)
    tokens = sum(len(answer.token_ids) for output in outputs for answer in output.outputs)
    wall, work = time.monotonic() - begun, cpu_seconds() - start
    return {"start": start, "work": work, "wall": wall, "tokens": tokens, "steps": steps.count}


def ours(
    number: int, n: int, max_tokens: int, dtype: str, shard_size: int, folder: str, replicas: int = 1
) -> dict[str, float]:
    """Runs the prompts stage and the sampling stage of a build: journals and shards on disk."""
    from prefdata.flow.lock import make_lock
    from prefdata.flow.reader import BuildReader, BuildRecord
    from prefdata.flow.run import BuildRunner
    from prefdata.models import VLLM
    from prefdata.models.hosted import vllm
    from prefdata.recipe import Recipe
    from prefdata.sampling import Samples
    from prefdata.tables.schemas import read_parquet

    vllm._WORKER = "sampling_side"
    out = Path(folder)
    env = {_MARK: str(out)}
    table = out / "prompts.jsonl"
    rows = [{"prompt": list(prompt.messages)} for prompt in prompts(number)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    policy = VLLM(
        model=MODEL,
        dtype=dtype,
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=MAX_NUM_SEQS,
        replicas=replicas,
        env=env,
    )
    sampler = Samples(name="policy", generator=policy, n=n, temperature=TEMPERATURE, top_p=TOP_P, max_tokens=max_tokens)
    recipe = Recipe.model_validate(
        {
            "name": "sampling",
            "seed": SEED,
            "prompts": {"kind": "file", "path": str(table)},
            "candidates": [sampler.dump()],
            "scores": {"kind": "given"},
            "pairs": {"kind": "best_vs_worst"},
        }
    )
    graph = make_lock(recipe, None).graph
    build = BuildReader(out / "build", BuildRecord(recipe, graph, shard_size))
    runner = BuildRunner(build)
    for stage in graph.of_kind("prompts", "candidates"):
        runner.run_stage(stage)
    marks = [json.loads(mark.read_text()) for mark in out.glob("mark-*.json")]
    start = sum(mark["engine"] for mark in marks) + max(mark["parent"] for mark in marks)
    work, wall = cpu_seconds() - start, time.time() - min(mark["at"] for mark in marks)
    stage = build.stage("candidates-policy")
    counts = [read_parquet(stage.shard(shard), ["n_tokens"])["n_tokens"].to_pylist() for shard in build.shards]
    tokens = sum(sum(shard) for shard in counts)
    return {"start": start, "work": work, "wall": wall, "tokens": tokens, "steps": sum(m["steps"] for m in marks)}


def worker() -> None:
    """Runs the worker of `VLLM`, and notes when its engine is up, and how many steps it has made."""
    from prefdata.models.hosted import _vllm_worker

    start: Callable[..., Any] = _vllm_worker._start
    mark = Path(os.environ[_MARK]) / f"mark-{os.getpid()}.json"

    def marked(config: dict[str, Any]) -> Any:
        engine = start(config)
        steps = Steps(engine)
        noted = {"engine": cpu_seconds(), "parent": cpu_seconds_of(os.getppid()), "at": time.time()}
        step = engine.step

        def last() -> Any:
            done = step()
            if not engine.has_unfinished_requests():
                mark.write_text(json.dumps({**noted, "steps": steps.count}))
            return done

        engine.step = last
        return engine

    _vllm_worker._start = marked
    _vllm_worker.main()


if __name__ == "__main__":
    if _MARK in os.environ:
        worker()
    else:
        options = json.loads(sys.argv[1])
        result = raw(**options) if options.pop("side") == "raw" else ours(**options)
        sys.stdout.write(f"\n{json.dumps(result)}\n")
