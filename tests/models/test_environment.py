"""The environment of workers: what an engine needs, no key, and nothing to import from that is not installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from prefdata.models import AnyGenerator
from prefdata.models.environment import PASS_ON, import_folders, worker_environment
from prefdata.models.worker import stream

LOOK = """
import json, os, subprocess, sys
from prefdata.models.worker import open_channel

CHILD = "import json, sys; print(json.dumps(sys.path))"
with open_channel() as channel:
    while items := channel.receive(at_least=1, at_most=1):
        child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
        told = {"path": sys.path, "child": json.loads(child.stdout), "evil": "evil" in sys.modules}
        channel.send({**told, "env": dict(os.environ), "flags": [sys.flags.safe_path, sys.flags.ignore_environment]})
"""
SECRETS = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"),
    *("VLLM_API_KEY", "WANDB_API_KEY", "GITHUB_TOKEN", "DATABASE_PASSWORD", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("SSH_AUTH_SOCK", "ANYTHING"),
)


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Runs a worker in the user's environment, in a folder that holds hostile modules; returns what it saw."""
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "looking_worker.py").write_text(LOOK)
    monkeypatch.syspath_prepend(tmp_path / "workers")
    here = tmp_path / "here"
    here.mkdir()
    for name in ("sitecustomize", "usercustomize", "json", "evil"):
        (here / f"{name}.py").write_text(f"open({str(here / 'ran')!r}, 'w')")
    monkeypatch.chdir(here)

    def run(**env: str) -> dict:
        [seen] = stream("looking_worker", {}, [{}], in_flight=1, env=env)
        assert not (here / "ran").exists()
        return seen

    return run


def test_a_worker_gets_no_key_and_no_path_of_the_environment(look, monkeypatch, tmp_path):
    here = str(tmp_path / "here")
    for name in SECRETS:
        monkeypatch.setenv(name, "secret-of-mine")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", "", *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "here" / "evil.py"))
    for name in ("CUDA_VISIBLE_DEVICES", "LC_ALL", "VLLM_CACHE_ROOT", "HF_HOME", "https_proxy", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, "/kept" if name != "LC_ALL" else "C.UTF-8")
    seen = look(WHO="me", PYTHONPATH=here)
    assert "secret-of-mine" not in str(seen["env"])
    assert {"CUDA_VISIBLE_DEVICES", "LC_ALL", "VLLM_CACHE_ROOT", "HF_HOME", "https_proxy", "WHO"} <= seen["env"].keys()
    assert [name for name in seen["env"] if name.startswith("PYTHON")] == ["PYTHONSAFEPATH"]
    assert seen["flags"] == [True, 1]
    assert {"", ".", here} & set(seen["path"]) == set()
    assert not seen["evil"]


@pytest.mark.parametrize("kind", ["vllm", "transformers", "local"])
def test_no_recipe_leads_a_worker_to_modules_of_its_own(kind):
    with pytest.raises(ValidationError, match="env may not hold PYTHONHOME, PYTHONPATH"):
        TypeAdapter(AnyGenerator).validate_python(
            {"kind": kind, "model": "a/b", "env": {"PYTHONPATH": "x", "PYTHONHOME": "y"}}
        )


def test_what_a_worker_starts_imports_nothing_from_the_current_folder_either(look, tmp_path):
    assert {"", ".", str(tmp_path / "here")} & set(look()["child"]) == set()


def test_the_user_passes_further_variables_on_by_name(monkeypatch):
    monkeypatch.setenv("SITE_LICENSE_SERVER", "27000@host")
    monkeypatch.setenv("HF_TOKEN", "secret-of-mine")
    assert "SITE_LICENSE_SERVER" not in worker_environment({})
    monkeypatch.setenv(PASS_ON, "SITE_LICENSE_SERVER, HF_TOKEN")
    assert worker_environment({})["SITE_LICENSE_SERVER"] == "27000@host"
    assert worker_environment({})["HF_TOKEN"] == "secret-of-mine"
    assert worker_environment({"HF_TOKEN": "other"})["HF_TOKEN"] == "other"


def test_only_absolute_folders_of_the_users_own_path_are_searched(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", "", "lib", "/opt/modules"]))
    ours, given = import_folders("prefdata.models.hosted._vllm_worker")
    assert ours == [str(Path(__file__).resolve().parents[2])]
    assert given == ["/opt/modules"]


def test_a_training_gets_the_keys_of_the_tracker_that_it_reports_to_and_no_other(monkeypatch):
    from prefdata.training.dpo import DPOTraining
    from prefdata.training.launch import environment

    for name in SECRETS:
        monkeypatch.setenv(name, "secret-of-mine")
    silent = environment(DPOTraining(model="a/b"))
    assert "secret-of-mine" not in str(silent)
    assert silent["PYTHONSAFEPATH"] == "1"
    tracked = environment(DPOTraining(model="a/b", trl={"report_to": ["wandb"]}))
    assert {name for name, value in tracked.items() if value == "secret-of-mine"} == {"WANDB_API_KEY"}
