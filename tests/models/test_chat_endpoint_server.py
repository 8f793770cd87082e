"""`ChatEndpoint` from end to end: vLLM's own OpenAI-compatible server on loopback, with the embedded model."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefdata.errors import ModelError
from prefdata.models import ChatEndpoint, Decoding
from prefdata.records import Generation, Message, Request
from prefdata.spec import Context

pytestmark = pytest.mark.model

START_S = 600.0


@contextmanager
def kept_port() -> Iterator[int]:
    """Reserves a port that no other process gets while the server starts."""
    with socket.socket() as kept:
        # The server sets this too, and may then bind where another socket is bound that does not listen.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield int(kept.getsockname()[1])


@pytest.fixture(scope="module")
def url(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    with kept_port() as port:
        yield from serving(smollm, port, tmp_path_factory.mktemp("server") / "log")


def serving(smollm: Path, port: int, log: Path) -> Iterator[str]:
    # In float32 an answer does not depend on the others in its batch.
    options = f"--model {smollm} --served-model-name small --host 127.0.0.1 --port {port} --dtype float32"
    options += " --enforce-eager --max-model-len 512 --max-num-seqs 16 --block-size 32 --generation-config vllm"
    env = {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
    }
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options.split()],
            env=os.environ | env,
            stdout=out,
            stderr=out,
        )
    try:
        wait_until_healthy(server, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_healthy(server: subprocess.Popen[bytes], health: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(health, timeout=30):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


def ask(key: str, text: str, seed: int, schema: dict[str, object] | None = None) -> Request:
    return Request(key, (Message(role="user", content=text),), seed, schema)


def answers(part: ChatEndpoint, requests: list[Request], decoding: Decoding) -> dict[str, Generation]:
    found = {answer.key: answer for answer in part.generate(requests, decoding, Context(seed=1))}
    assert sorted(found) == sorted(request.key for request in requests)
    return found


def test_a_real_server_answers_with_seeds_limits_and_schemas(url: str) -> None:
    part = ChatEndpoint(model="small", base_url=url, api_key_env="TEST_NO_SUCH_KEY", concurrency=8)
    schema = {
        "type": "object",
        "properties": {"A": {"type": "integer", "enum": [0, 1, 2]}},
        "required": ["A"],
        "additionalProperties": False,
    }
    requests = [ask(f"tale-{i}", "Tell me a long tale about a fox.", seed) for i, seed in enumerate((1, 1, 2))]
    requests += [ask(f"fill-{i}", f"Count to {i} and on.", i) for i in range(9)]
    requests += [ask("long", "word " * 2000, 3), ask("json", "Grade it. Reply with JSON.", 4, schema)]
    found = answers(part, requests, Decoding(temperature=0.8, top_p=0.95, max_tokens=24))
    tale = found["tale-0"]
    assert (tale.finish_reason, tale.n_tokens, tale.model) == ("length", 24, "small")
    assert tale.n_prompt_tokens is not None
    assert tale.n_prompt_tokens > 10
    assert tale.text == found["tale-1"].text != found["tale-2"].text
    assert (found["long"].text, found["long"].failure) == (None, "prompt_too_long")
    assert all(found[f"fill-{i}"].failure is None for i in range(9))
    assert json.loads(found["json"].text or "")["A"] in (0, 1, 2)
    likely = Request("likely", (Message(role="user", content="Say yes or no."),), 5, top_logprobs=4)
    said = answers(part, [likely], Decoding(temperature=0.0, max_tokens=3))["likely"]
    assert said.top_logprobs is not None
    assert len(said.top_logprobs) == said.n_tokens == 3
    for place in said.top_logprobs:
        assert 4 <= len(place) <= 5
        assert [value for _, value in place] == sorted((value for _, value in place), reverse=True)
    # At temperature 0 the likeliest token is the one that was taken; the one that ends the answer is not in its text.
    assert "".join(place[0][0] for place in said.top_logprobs).removesuffix("<|im_end|>") == said.text
    with pytest.raises(ModelError, match="does not know this model"):
        answers(part.replace(model="unknown"), requests[:1], Decoding(max_tokens=4))
