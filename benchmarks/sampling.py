"""Compares prefdata's sampling stage with one raw call of the engine: the cost of shards, journals and a process.

    python benchmarks/sampling.py                 # the table below
    python benchmarks/sampling.py --replicas      # two engines of one thread, and one engine of two threads

Both sides answer the same prompts of the bundled sample n times each, with the same model (the embedded one), engine
options and decoding. Each design runs in fresh processes, and the order is turned round in every other round. CPU
seconds are those of the whole process tree, the parent's included, from the moment the engine is up ("start" is what
came before) until every answer is there; on prefdata's side that is until the last shard is on disk and the worker has
gone. An idle engine would show as more steps with fewer sequences in each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

DESIGNS: dict[str, dict[str, Any]] = {
    "LLM.chat, n in one request": {"side": "raw", "seeds": "seeded"},
    "LLM.chat, the same without seeds": {"side": "raw", "seeds": "none"},
    "LLM.chat, n requests of one, the seeds of prefdata": {"side": "raw", "seeds": "single"},
    "prefdata, one shard": {"side": "ours", "shard_size": 4096},
    "prefdata, shards of 4 prompts": {"side": "ours", "shard_size": 4},
}
REPLICAS: dict[str, dict[str, Any]] = {
    "prefdata, 1 engine x 2 threads": {"side": "ours", "shard_size": 4, "threads": 2},
    "prefdata, 2 engines x 1 thread": {"side": "ours", "shard_size": 4, "replicas": 2},
}
QUIET = {
    **{"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "TOKENIZERS_PARALLELISM": "false"},
    **{"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_HOST_IP": "127.0.0.1"},
    **{"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1"},
}


def measured(design: dict[str, Any], work: dict[str, Any]) -> dict[str, float]:
    """Runs a design once."""
    options = {**design, **work}
    env = {**os.environ, **QUIET, "OMP_NUM_THREADS": str(options.pop("threads", 1))}
    here = Path(__file__).resolve()
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(here.parent.parent), env.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as folder:
        if options["side"] == "ours":
            options["folder"] = folder
        command = [sys.executable, str(here.with_name("sampling_side.py")), json.dumps(options)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{options} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(runs: dict[str, list[dict[str, float]]]) -> str:
    """Formats the measurements as Markdown; medians over the rounds."""

    def rate(run: dict[str, float]) -> float:
        return run["tokens"] / run["work"]

    base = statistics.median(map(rate, next(iter(runs.values()))))
    lines = [
        "| design | tokens | start, CPU s | work, CPU s | tokens per CPU s | of the first | engine steps "
        "| tokens a step | tokens per s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, rounds in runs.items():
        middle = sorted(rounds, key=rate)[len(rounds) // 2]
        median = statistics.median(map(rate, rounds))
        lines.append(
            f"| {name} | {middle['tokens']:,.0f} | {middle['start']:.1f} | {middle['work']:.1f} | {median:.1f} "
            f"| {median / base:.3f} | {middle['steps']:.0f} | {middle['tokens'] / middle['steps']:.1f} "
            f"| {middle['tokens'] / middle['wall']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs every design and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--n", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--replicas", action="store_true", help="compare replicas with threads instead")
    options = parser.parse_args()
    work = {"number": options.prompts, "n": options.n, "max_tokens": options.max_tokens, "dtype": options.dtype}
    designs = REPLICAS if options.replicas else DESIGNS
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in designs}
    for number in range(options.rounds):
        for name in list(designs) if number % 2 == 0 else list(designs)[::-1]:
            runs[name].append(measured(designs[name], work))
            run = runs[name][-1]
            sys.stderr.write(f"round {number + 1}: {name}: {run['tokens'] / run['work']:.1f} tokens per CPU s\n")
    sys.stdout.write(f"{options.prompts} prompts x {options.n} answers of at most {options.max_tokens} tokens, ")
    sys.stdout.write(f"{options.dtype}, median of {options.rounds} rounds\n\n{table(runs)}\n")


if __name__ == "__main__":
    main()
