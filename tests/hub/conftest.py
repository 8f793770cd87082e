"""A loopback Hub for each test, and fresh processes that talk to it with the real clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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
        return [next(c.__name__ for c in type(error).__mro__ if not c.__name__.startswith("_")), str(error)]
    return ["nothing", ""]
"""


@pytest.fixture
def hub(tmp_path):
    found = MiniHub(tmp_path / "hub").start()
    found.users["secret-of-alice"] = User("alice")
    found.users["secret-of-bob"] = User("bob")
    yield found
    found.stop()


@pytest.fixture
def client(hub, tmp_path):
    (tmp_path / "home").mkdir()
    return Client(hub, tmp_path / "home")
