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
from small_dataset import dataset_folder


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
            [sys.executable, "-c", program], env=env, cwd=self.home, capture_output=True, text=True, timeout=300
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
    """A Hub; when the test is over, no file, output or log that it left contains a token of its users."""
    server = MiniHub(tmp_path / "hub").start()
    server.users["secret-of-alice"] = User("alice")
    server.users["secret-of-bob"] = User("bob")
    caplog.set_level("DEBUG")
    yield server
    server.stop()
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


@pytest.fixture
def folder(tmp_path):
    return dataset_folder(tmp_path / "dataset")
