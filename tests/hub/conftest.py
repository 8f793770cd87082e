"""A loopback Hub for each test, and fresh processes that talk to it with the real clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from minihub import MiniHub, User


@dataclass
class Client:
    """Runs code in a new process: the clients read the endpoint at import, and their caches hide what a Hub answers."""

    hub: MiniHub
    home: Path

    def run(self, code: str, *, token: str | None = None, **environment: str) -> object:
        """Runs code that sets `result`, and returns it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        env = kept | {
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        if token is not None:
            env["HF_TOKEN"] = token
        program = f"{PRELUDE}\n{code}\nprint('\\n' + json.dumps(result))"
        done = subprocess.run(
            [sys.executable, "-c", program], env=env, cwd=self.home, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert token is None or token not in done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])


PRELUDE = """
import json
from prefdata import hub
from prefdata.errors import UserError
from prefdata.prompts import HubPrompts
from prefdata.records import Prompt
from prefdata.spec import Context

def refused(call):
    try:
        call()
    except UserError as error:
        return [next(c.__name__ for c in type(error).__mro__ if c.__module__ == "prefdata.errors"), str(error)]
    return ["nothing", ""]
"""


@pytest.fixture
def hub(tmp_path, capfd, caplog):
    """A Hub; when the test is over, no token of its users stands in any file, output or log that it left."""
    found = MiniHub(tmp_path / "hub").start()
    found.users["secret-of-alice"] = User("alice")
    found.users["secret-of-bob"] = User("bob")
    caplog.set_level("DEBUG")
    yield found
    found.stop()
    out, err = capfd.readouterr()
    left = {
        str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "leaky" not in path.parts
    }
    left |= {"stdout": out.encode(), "stderr": err.encode(), "log": caplog.text.encode()}
    assert [name for name, content in left.items() if b"secret-of-" in content] == []


@pytest.fixture
def client(hub, tmp_path):
    (tmp_path / "home").mkdir()
    return Client(hub, tmp_path / "home")


@pytest.fixture
def near(hub, monkeypatch, tmp_path):
    """This process talks to the Hub as Alice, with the real client; waits between tries take no time."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    import prefdata.publish.pushing

    assert prefdata.publish.pushing

    for name, value in {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_DISABLE_XET": True,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_CACHE": str(tmp_path / "home" / "hub"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "secret-of-alice")
    waited = []
    for module in (_http, sys.modules["prefdata.hub._client"], sys.modules["prefdata.publish.pushing"]):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=waited.append, time=time.time))
    return SimpleNamespace(hub=hub, waited=waited)


def dataset_folder(where: Path, words: str = "good", *, test: int = 2, rows: int = 6, **changes: object) -> Path:
    """A small dataset as a build writes it; other words make another dataset."""
    import pyarrow as pa

    from prefdata.dataset import TRLPairs
    from prefdata.publish import Publish
    from prefdata.publish.card import CardFacts
    from prefdata.publish.folder import DatasetFolder, write_dataset_folder
    from prefdata.tables import ANSWERS, CANDIDATE_DROPS, DROPS, PAIRS, PROMPTS

    ids = [f"p{number}" for number in range(rows)]
    prompts = [{"prompt_id": i, "messages": [{"role": "user", "content": f"{i}?"}], "origin": ""} for i in ids]
    pairs = [
        {"prompt_id": i, "pair_index": 0, "response_chosen": f"{words} {i}", "response_rejected": f"bad {i}"}
        | {"score_chosen": 5.0, "score_rejected": float(n % 4), "score_margin": 5.0 - n % 4}
        | {"length_chosen": 9, "length_rejected": 6}
        for n, i in enumerate(ids)
    ]
    answers = [
        {"prompt_id": i, "prompt": [{"role": "user", "content": f"{i}?"}], "source": "policy", "index": index}
        | {"response": text, "score": score}
        for i in ids
        for index, (text, score) in enumerate(((f"{words} {i}", 5.0), (f"bad {i}", 1.0)))
    ]
    where.mkdir(parents=True)
    given = {
        "rows": [TRLPairs().rows(pa.Table.from_pylist(pairs, PAIRS), pa.Table.from_pylist(prompts, PROMPTS))],
        "answers": [pa.Table.from_pylist(answers, ANSWERS)],
        "test_ids": set(ids[:test]),
        "drops": DROPS.empty_table(),
        "candidate_drops": CANDIDATE_DROPS.empty_table(),
        "ledger": {"prompts": rows, "pairs": rows, "drops": {}, "ineligible": {}, "stages": []},
        "recipe": {"name": "small", "prompts": {"kind": "sample"}, "pairs": {"kind": "best_vs_worst"}},
        "lock": {"format": 2},
        "card": CardFacts(name="small", description="About it.", publish=Publish(language=("en",)), steps={}),
        **changes,
    }
    write_dataset_folder(where, DatasetFolder(**given))
    return where


@pytest.fixture
def folder(tmp_path):
    return dataset_folder(tmp_path / "dataset")
